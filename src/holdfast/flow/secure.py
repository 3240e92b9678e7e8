"""`TLSConnector`: TLS by the standard library's sockets, which do not block either."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from holdfast.flow.connecting import Connector

__all__ = ["TLSConnector"]


class TLSConnector(Connector):
    """A `Connector` with TLS, which by default verifies the server's certificate and name.

    ``context``: a TLS context to use as it is; otherwise one is made: ``version``, the TLS
    version as an `ssl.TLSVersion`, when only one is wanted; ``certify``: whether the certificate
    is verified, as one of ``ssl.CERT_NONE``, ``CERT_OPTIONAL``, ``CERT_REQUIRED``;
    ``hostify``: whether it has to name the host; ``cafilepath``: a file of authorities instead of
    the system's; ``certpath`` and ``keypath``: the client's own certificate and key.
    ``certedhost``: the name to verify, when it is not the host's. Raises OSError when a file
    cannot be read.
    """

    Again = (*Connector.Again, ssl.SSLWantReadError, ssl.SSLWantWriteError)

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        version: ssl.TLSVersion | None = None,
        certify: int | None = None,
        hostify: bool | None = None,
        certedhost: str = "",
        keypath: str | None = None,
        certpath: str | None = None,
        cafilepath: str | None = None,
        **kwa: Any,
    ) -> None:
        super().__init__(**kwa)
        self.version = version
        self.certify = certify
        self.hostify = hostify
        self.certedhost = certedhost or self.host
        self.keypath = keypath
        self.certpath = certpath
        self.cafilepath = cafilepath
        self.context = context if context is not None else self._make_context()

    def _make_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.cafilepath)
        if self.version is not None:
            context.minimum_version = context.maximum_version = self.version
        certify = ssl.CERT_REQUIRED if self.certify is None else ssl.VerifyMode(self.certify)
        # A name is worth nothing when nobody has signed it.
        hostify = certify == ssl.CERT_REQUIRED if self.hostify is None else bool(self.hostify)
        context.check_hostname = hostify and certify != ssl.CERT_NONE
        context.verify_mode = certify
        if self.certpath is not None:
            context.load_cert_chain(self.certpath, self.keypath)
        return context

    def wrap(self) -> None:
        """Put TLS around the connection that TCP has."""
        self.cs = self.context.wrap_socket(
            self.cs,
            server_hostname=self.certedhost,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )

    def handshake(self) -> bool:
        """Go on with agreeing on TLS, without waiting; returns whether it is done."""
        try:
            self.cs.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except ssl.SSLError as error:
            self.fail(f"TLS: {_said(error)}")
            return False
        except OSError as error:
            self.fail(f"it closed during the TLS handshake ({(error.strerror or error)})".lower())
            return False
        self.connected = True
        return True

    def connect(self) -> bool:
        """Go on with the connecting, without waiting; returns whether data can be sent."""
        if self.connected or self.cutoff or not self.accept():
            return self.connected
        if not isinstance(self.cs, ssl.SSLSocket):
            try:
                self.wrap()
            except (OSError, ValueError) as error:
                self.fail(f"TLS: {error}")
                return False
        return self.handshake()

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """Tell the other side that the connection is over, in one direction or in both."""
        if self.cs is not None:
            try:
                # `SSLSocket.shutdown` would go on without TLS, and hand out what is encrypted.
                socket.socket.shutdown(self.cs, how)
            except OSError:
                pass  # it is over already

    def close(self) -> None:
        """Close the connection; may be called again."""
        if self.connected and not self.cutoff and isinstance(self.cs, ssl.SSLSocket):
            try:
                self.cs.unwrap()  # says that this is the end; nobody waits for the answer
            except (OSError, ValueError):
                pass
        super().close()


def _said(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLEOFError):
        return "it closed the connection without saying so"
    return str(getattr(error, "verify_message", "") or error.reason or error)

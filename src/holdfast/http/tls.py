"""TLS as a program: records go through memory, so every driver can carry them."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, TypeAlias

from holdfast import ops
from holdfast.errors import CertificateError, Truncated

if TYPE_CHECKING:
    from holdfast.ops import Program

__all__ = ["CertTypes", "TLSLayer", "VerifyTypes", "tls_context"]

#: As in requests and httpx: True (the system's trust), False, a file or folder of CAs, a context.
VerifyTypes: TypeAlias = bool | str | os.PathLike[str] | ssl.SSLContext
#: A file with certificate and key, or (certificate, key) or (certificate, key, password).
CertTypes: TypeAlias = str | tuple[str, str] | tuple[str, str, str] | None

_RECORD = 1 << 16


def tls_context(verify: VerifyTypes = True, cert: CertTypes = None) -> ssl.SSLContext:
    """Return the TLS context for the arguments ``verify`` and ``cert`` of requests and httpx.

    Raises OSError when a file cannot be read or is not what it should be.
    """
    if isinstance(verify, ssl.SSLContext):
        context = verify
    elif isinstance(verify, bool):
        context = ssl.create_default_context()
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    else:
        path = os.fspath(verify)
        folder = os.path.isdir(path)
        context = ssl.create_default_context(
            cafile=None if folder else path, capath=path if folder else None
        )
    if cert is not None:
        chain = (cert,) if isinstance(cert, str) else cert
        context.load_cert_chain(*chain)
    return context


class TLSLayer:
    """One TLS connection over a stream, or over another layer."""

    __slots__ = ("_incoming", "_object", "_outgoing", "_stream")

    def __init__(self, stream: ops.Stream, context: ssl.SSLContext, host: str) -> None:
        self._stream = stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        # The host is the name to verify and, when it is not an address, the one in SNI.
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    @property
    def pending(self) -> bool:
        """Whether something was received that nobody has read."""
        return bool(self._incoming.pending or self._object.pending())

    def handshake(self, deadline: float) -> Program[None]:
        """Agree on keys and check the certificate; raises CertificateError."""
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                yield from self._flush(deadline)
                data = yield ops.Receive(self._stream, _RECORD, deadline)
                if data:
                    self._incoming.write(data)
                else:
                    raise CertificateError("it closed during the TLS handshake") from None
            except ssl.SSLError as error:
                why = getattr(error, "verify_message", "") or error.reason or str(error)
                raise CertificateError(f"TLS: {why}") from None
            else:
                yield from self._flush(deadline)
                return

    def send(self, data: ops.Buffer, deadline: float) -> Program[None]:
        """Send all of the data."""
        view = memoryview(data)
        # In pieces, since the outgoing side is memory: TLS records hold 16 KiB at most.
        for start in range(0, len(view), _RECORD):
            self._object.write(view[start : start + _RECORD])
            yield from self._flush(deadline)

    def receive(self, limit: int, deadline: float) -> Program[bytes]:
        """Return some data, b"" at the end; raises Truncated when the end was not announced."""
        while True:
            try:
                return self._object.read(limit)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                yield from self._more(deadline)
            except ssl.SSLEOFError:
                raise Truncated("it closed the TLS connection without saying so") from None

    def receive_into(self, buffer: memoryview, deadline: float) -> Program[int]:
        """Receive straight into a buffer; returns how many bytes, 0 at the end."""
        while True:
            try:
                return int(self._object.read(len(buffer), buffer))
            except ssl.SSLZeroReturnError:
                return 0
            except ssl.SSLWantReadError:
                yield from self._more(deadline)
            except ssl.SSLEOFError:
                raise Truncated("it closed the TLS connection without saying so") from None

    def _more(self, deadline: float) -> Program[None]:
        # Reading may have produced something to send: a key update, say.
        yield from self._flush(deadline)
        data = yield ops.Receive(self._stream, _RECORD, deadline)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self, deadline: float) -> Program[None]:
        if self._outgoing.pending:
            yield ops.Send(self._stream, self._outgoing.read(), deadline)

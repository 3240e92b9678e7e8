"""TLS to the hosts: which certificates are accepted, and sessions that are resumed.

A host's certificate is accepted when a CA of ``ca_file`` has signed it, or when it is one of
``known_certs_file``; when neither is set, any is.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from holdfast.jobs.keeping import PROTOCOL

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.jobs.dispatcher.registry import Host

__all__ = ["HostTls", "UnknownCertificate"]

#: How long a session is used before a new one is taken, in seconds: servers forget sessions after
#: two hours or more.
SESSION_AGE = 1200.0


class UnknownCertificate(Exception):
    """The host has another certificate than those that are known."""


class HostTls:
    """Makes the TLS ends of connections to hosts."""

    def __init__(
        self,
        ca_file: Path | None = None,
        known_certs_file: Path | None = None,
        *,
        verify_hostname: bool = False,
    ) -> None:
        """Read the files; raises OSError or ssl.SSLError where that cannot be done."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols([PROTOCOL])
        self._known: frozenset[bytes] | None = None
        if ca_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.check_hostname = verify_hostname
            context.load_verify_locations(ca_file)
        if known_certs_file is not None:
            certificates = _certificates(known_certs_file)
            if ca_file is None:
                self._known = frozenset(hashlib.sha256(one).digest() for one in certificates)
            else:
                # A known certificate is as good as a CA's: trust may end at it.
                context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
                context.load_verify_locations(cadata=b"".join(certificates))
        self._context = context
        self._sessions: dict[tuple[str, int], tuple[ssl.SSLSession, float]] = {}

    def wrap(self, host: Host, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the TLS end of a new connection to a host."""
        kept = self._sessions.get((host.address, host.port))
        if kept is not None and time.monotonic() - kept[1] > SESSION_AGE:
            del self._sessions[host.address, host.port]
            kept = None
        name = None if _is_ip(host.address) and not self._context.check_hostname else host.address
        return self._context.wrap_bio(
            incoming, outgoing, server_hostname=name, session=kept[0] if kept else None
        )

    def check(self, tls: ssl.SSLObject) -> None:
        """Raise UnknownCertificate when the peer's is not one of those known."""
        if self._known is None:
            return
        certificate = tls.getpeercert(binary_form=True)
        if certificate is None or hashlib.sha256(certificate).digest() not in self._known:
            raise UnknownCertificate("its certificate is not in known_certs_file")

    def keep(self, host: Host, tls: ssl.SSLObject) -> None:
        """Keep the session for the next connection; to be called when data has been received."""
        if tls.session_reused:
            return
        session = tls.session
        if session is not None and session.has_ticket:
            self._sessions[host.address, host.port] = session, time.monotonic()

    def forget(self, host: Host) -> None:
        """Forget the session of a host, which may be why a handshake failed."""
        self._sessions.pop((host.address, host.port), None)


def _certificates(path: Path) -> list[bytes]:
    """Return the certificates of a PEM file, in DER."""
    text = path.read_text(encoding="ascii", errors="replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    found = []
    for part in text.split(begin)[1:]:
        body, marker, _ = part.partition(end)
        if marker:
            found.append(ssl.PEM_cert_to_DER_cert(f"{begin}{body}{end}"))
    if not found:
        raise ssl.SSLError(f"no certificates in {path}")
    return found


@lru_cache(1024)
def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True

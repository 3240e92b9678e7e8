"""Where a host is: scheme, name, port, or a Unix socket."""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit

from holdfast.errors import InvalidRequest
from holdfast.ops import Address

__all__ = ["PORTS", "Origin", "basic_auth"]

#: The ports of the schemes.
PORTS = {"http": 80, "https": 443}
_ZONE = re.compile(r"[A-Za-z0-9._-]*")  # the interface of a link-local address
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?")


def basic_auth(user: str, password: str) -> str:
    """Return the value of an Authorization header for basic authentication (RFC 7617)."""
    if ":" in user:
        raise InvalidRequest("a user name for basic authentication has no colon")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


@dataclass(frozen=True, slots=True)
class Origin:
    """One HTTP server, and the path below which its resources are.

    ``unix`` is the path of a Unix socket, when there is one. ``credentials``, the value of an
    Authorization header, come from the URL; they take no part in ``repr``.
    """

    scheme: str
    host: str
    port: int
    base: str = ""
    unix: str | None = None
    credentials: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Return the origin that a string names.

        ``name``, ``name:port``, ``[v6]:port``, ``http(s)://name:port/base``, ``unix:/path`` or
        ``http+unix://%2Fpath/base``. Raises InvalidRequest for anything else.
        """
        if not isinstance(text, str):
            raise InvalidRequest(f"a host is a string such as 'name:port', not {text!r}")
        if text.startswith("unix:"):
            return cls._of_socket(text.removeprefix("unix:").removeprefix("//"), "")
        if any(character <= " " or character == "\x7f" for character in text):
            raise InvalidRequest(f"a host has no spaces or line breaks: {_shown(text)!r}")
        if text.count(":") > 1 and not any(mark in text for mark in ("://", "[", "@")):
            text = f"[{text}]"  # a bare IPv6 address
        try:
            parts = urlsplit(text if "://" in text else "http://" + text)
            port = parts.port
        except ValueError:
            raise InvalidRequest(f"not a host, or not a port: {_shown(text)!r}") from None
        if parts.query or parts.fragment:
            raise InvalidRequest(f"a host has no query or fragment: {_shown(text)!r}")
        base = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~-._")
        if parts.scheme == "http+unix":
            return cls._of_socket(unquote(parts.netloc), base)
        if parts.scheme not in PORTS:
            raise InvalidRequest(f"the scheme is http or https: {_shown(text)!r}")
        credentials = None
        if parts.username is not None:
            credentials = basic_auth(unquote(parts.username), unquote(parts.password or ""))
        if parts.netloc.rpartition("]")[2][:1] not in ("", ":") and "]" in parts.netloc:
            raise InvalidRequest(f"not a host: {_shown(text)!r}")
        host = _checked(parts.hostname or "", text)
        if port == 0:
            raise InvalidRequest(f"port 0 cannot be called: {_shown(text)!r}")
        return cls(parts.scheme, host, port or PORTS[parts.scheme], base, None, credentials)

    @classmethod
    def _of_socket(cls, path: str, base: str) -> Origin:
        if not path or "\0" in path or len(path.encode()) > 107:
            raise InvalidRequest(f"not the path of a Unix socket: {path!r}")
        return cls("http", "localhost", 80, base, path)

    @property
    def netloc(self) -> str:
        """Host and port as in the Host header: the scheme's own port is left off."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def unscoped(self) -> Origin:
        """The origin without the zone of its address, which means something here only (RFC 6874).

        So it is named in a Host header and in certificates.
        """
        return replace(self, host=self.host.partition("%")[0]) if "%" in self.host else self

    @property
    def url(self) -> str:
        """The URL, without credentials and without a slash at its end."""
        if self.unix is not None:
            return f"http+unix://{self.unix.replace('/', '%2F')}{self.base}"
        return f"{self.scheme}://{self.netloc}{self.base}"

    @property
    def name(self) -> str:
        """How errors name it: ``host:port``, or the socket's path."""
        if self.unix is not None:
            return f"unix:{self.unix}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def address(self) -> Address | None:
        """The address when it needs no look-up."""
        if self.unix is not None:
            return socket.AF_UNIX, self.unix
        if "%" in self.host:
            return None  # which number an interface has, the system's resolver knows
        try:
            version = ipaddress.ip_address(self.host).version
        except ValueError:
            return None
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        return family, (self.host, self.port)

    def same(self, other: Origin) -> bool:
        """Tell whether both are the same origin (RFC 6454): scheme, host, port."""
        mine = (self.scheme, self.host, self.port, self.unix)
        return mine == (other.scheme, other.host, other.port, other.unix)


def _checked(host: str, text: str) -> str:
    if ":" in host:
        try:
            ipaddress.ip_address(host)
            if not _ZONE.fullmatch(host.partition("%")[2]):
                raise ValueError
        except ValueError:
            raise InvalidRequest(f"not an IPv6 address: {_shown(text)!r}") from None
        return host
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise InvalidRequest(f"not a host name: {_shown(text)!r}") from None
    if not _NAME.fullmatch(host) or len(host) > 253:
        raise InvalidRequest(f"not a host name: {_shown(text)!r}")
    return host.lower()


def _shown(text: str) -> str:
    """Return the text for a message, without what is or may be a password."""
    scheme, mark, rest = text.rpartition("://")
    _, at, host = text.rpartition("@")
    if at:
        return f"{scheme}{mark}[secret]@{host}"[:200]
    name, colon, _ = rest.rpartition(":")  # what follows may be a password as well as a port
    return f"{scheme}{mark}{name}:..."[:200] if colon else text[:200]

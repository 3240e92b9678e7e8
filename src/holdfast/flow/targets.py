"""Where a request goes: its path taken apart and quoted, its host as the Host header has it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_plus

from holdfast.errors import InvalidRequest
from holdfast.http.origins import PORTS, Origin

__all__ = [
    "Target",
    "check_place",
    "host_field",
    "quoted",
    "quoted_fragment",
    "split_host",
    "take_apart",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):([0-9]{1,5})")
_URL = re.compile(
    r"(?:(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?//(?P<authority>[^/?#]*))?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?"
)
#: Characters of a path that is worth to be remembered.
_SHORT = 256

#: A percent sign that begins no escape.
_STRAY = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Target(NamedTuple):
    """A path taken apart; ``query`` holds its decoded pairs, ``place`` scheme and host if named."""

    path: str
    query: tuple[tuple[str, str], ...]
    fragment: str
    place: tuple[str, str] | None


def take_apart(path: str) -> Target:
    """Take a path, or a URL, apart; raise InvalidRequest when it has control characters."""
    return _take_apart_again(path) if len(path) <= _SHORT else _take_apart(path)


def _take_apart(path: str) -> Target:
    if _CONTROL.search(path):
        raise InvalidRequest(f"not a path (control character): {path[:80]!r}")
    parts = _URL.fullmatch(path)
    assert parts is not None, "every part may be empty, and the last takes the rest"
    query = []
    for item in (parts["query"] or "").split("&"):
        if item:
            name, equals, value = item.partition("=")
            query.append((_unquoted(name), _unquoted(value) if equals else "true"))
    return Target(
        parts["path"] if parts["path"].startswith("/") else "/" + parts["path"],
        tuple(query),
        parts["fragment"] or "",
        (parts["scheme"] or "", parts["authority"]) if parts["authority"] else None,
    )


#: The same, with a memory for paths that come again.
_take_apart_again = lru_cache(maxsize=1024)(_take_apart)


def _unquoted(text: str) -> str:
    # What is no UTF-8 comes back as it was when it is quoted again.
    return unquote_plus(text, errors="surrogateescape")


def quoted(text: str, safe: str = "/%") -> str:
    """Return a path as it is sent; ``safe`` are the characters that stay.

    Escapes that are there already stay, so that the path of a URL stays what it is. Raises
    InvalidRequest for control characters.
    """
    return _quoted_again(text, safe) if len(text) <= _SHORT else _quoted(text, safe)


def quoted_fragment(fragment: str) -> str:
    """Return a fragment as it is sent; raise InvalidRequest when it has control characters."""
    return quoted(fragment, "/?%!$&'()*+,;=:@")


def _quoted(text: str, safe: str) -> str:
    if _CONTROL.search(text):
        raise InvalidRequest(f"not a path or fragment (control character): {text[:80]!r}")
    return quote(_STRAY.sub("%25", text), safe=safe)


_quoted_again = lru_cache(maxsize=1024)(_quoted)


def split_host(hostname: str) -> tuple[str, int | None]:
    """Return the name, without the brackets of IPv6, and the port of ``name:port``, or None."""
    named = _HOST_AND_PORT.fullmatch(hostname)
    if named:
        return _bare(named[1]), int(named[2])
    return _bare(hostname), None


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]") if ":" in host else host


@lru_cache(maxsize=256)
def _origin(scheme: str, hostname: str, port: int) -> Origin:
    """Return where a host is; raise InvalidRequest when it is none."""
    if any(character in hostname for character in "/?#@\\"):
        raise InvalidRequest(f"not a host name: {hostname[:80]!r}")
    bare = _bare(hostname)
    return Origin.parse(f"{scheme}://{f'[{bare}]' if ':' in bare else bare}:{port}")


@lru_cache(maxsize=256)
def host_field(scheme: str, hostname: str, port: int, port_optional: bool) -> str:
    """Return the value of the Host header; raise InvalidRequest when it is no host.

    ``port_optional`` leaves the port off when it is the scheme's own.
    """
    host = _origin(scheme, hostname, port).host
    if ":" in host:
        host = f"[{host.partition('%')[0]}]"  # the zone is this machine's own (RFC 6874)
    elif hostname.isascii():
        host = hostname  # as the caller writes it
    return host if port_optional and port == PORTS[scheme] else f"{host}:{port}"


def check_place(place: tuple[str, str], scheme: str, hostname: str, port: int) -> None:
    """Raise InvalidRequest when a path's place is another one than the connection's."""
    origin = Origin.parse(f"{place[0] or scheme}://{place[1]}")
    mine = _origin(scheme, hostname, port)
    if origin.credentials is not None:
        raise InvalidRequest("a password in a path is not sent; give an Authorization header")
    named = origin.port if split_host(place[1])[1] is not None else mine.port
    if (origin.scheme, origin.host, named) != (mine.scheme, mine.host, mine.port):
        raise InvalidRequest(
            f"the path names {origin.url}, but the connection is to {mine.url}: "
            "another host needs another client"
        )

"""`Requester`: the bytes of requests to one host, one after another.

A requester keeps what a request is made of, so that the next one only has to say what is different
about it. The attributes may be set; `Requester.build` makes the bytes of what they hold, and keeps
what it can use again: ordinarily the next request has the same headers.

Paths, methods and headers are checked where every request of this package is, in `wire.http1`: what
could inject anything is refused.
"""

from __future__ import annotations

import random as chance
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.errors import InvalidRequest
from holdfast.flow.contents import as_dict, json_text, multipart, octets, urlencoded
from holdfast.flow.targets import (
    check_place,
    host_field,
    quoted,
    quoted_fragment,
    split_host,
    take_apart,
)
from holdfast.http.headers import Headers, HeaderTypes
from holdfast.http.origins import PORTS
from holdfast.wire import http1

if TYPE_CHECKING:
    from random import Random

    from holdfast.flow.contents import BodyTypes, FieldTypes

__all__ = ["Requester"]

_JSON = "application/json; charset=utf-8"
_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_MULTIPART = "multipart/form-data"


class _Sent(Headers):
    """Headers as they were sent; those that the caller gave are in ``given``."""

    __slots__ = ("given",)

    def __init__(self, headers: list[tuple[str, str]], given: Headers) -> None:
        super().__init__(headers)
        self.given = given


class _Fields(NamedTuple):
    """Header lines, and what they were made for."""

    host: str
    given: Headers
    content_type: str | None
    opening: bytes  # Host and Accept-Encoding
    rest: bytes  # those of the caller
    length: str | None  # of the body, when the caller has told
    sent: Headers


class Requester:
    """Build requests to the host ``hostname`` and ``port``, by default the scheme's own.

    ``method`` is sent in upper case. ``path`` is percent-quoted, but for escapes that it has; a
    query in it becomes a part of ``qargs``, a mapping for the query, and wins; a fragment in it
    becomes ``fragment``. ``headers`` are a mapping or pairs. ``data``, sent as JSON, wins over
    ``fargs``, a mapping sent as a form (as multipart when the headers' Content-Type says so),
    which wins over ``body``; GET sends none of them. ``portOptional`` leaves the port out of the
    Host header when it is the scheme's own. ``random`` makes the boundaries of multipart bodies.

    ``msg`` is the last request that was built, ``head`` what is before its body, and ``lines`` the
    lines of that. All that makes no request raises InvalidRequest, a ValueError, in `build`.
    """

    def __init__(
        self,
        hostname: str = "127.0.0.1",
        port: int | None = None,
        scheme: str = "http",
        method: str = "GET",
        path: str = "/",
        qargs: FieldTypes | None = None,
        fragment: str = "",
        headers: HeaderTypes | None = None,
        body: BodyTypes | None = b"",
        data: Any = None,
        fargs: FieldTypes | None = None,
        portOptional: bool = False,
        *,
        random: Random | None = None,
    ) -> None:
        self.hostname = hostname
        self.scheme = (scheme or "http").lower()
        self.port = PORTS.get(self.scheme, 80)
        self.qargs: dict[str, Any] = {}
        self.head = b""
        self.msg = b""
        self._given = self._headers = Headers()
        self._pairs: list[tuple[str, str]] = []
        self._random = random or chance
        self._fields: _Fields | None = None
        self._last: tuple[Any, ...] | None = None
        self.reinit(
            hostname, port, None, method, path, qargs, fragment, headers, body, data, fargs,
            portOptional,
        )  # fmt: skip

    @property
    def headers(self) -> Headers:
        """The caller's headers, with the Content-Type that the last request was sent with."""
        return self._headers

    @headers.setter
    def headers(self, headers: HeaderTypes | None) -> None:
        if isinstance(headers, Headers):
            # What came from here may come back.
            self._given = headers.given if isinstance(headers, _Sent) else headers
        else:
            items = headers.items() if isinstance(headers, Mapping) else headers or ()
            fields = list(items)
            if fields != self._pairs:  # these are all strings
                self._given = Headers([(_text(name), _text(value)) for name, value in fields])
        self._pairs = self._given.multi_items()
        self._headers = self._given

    @property
    def lines(self) -> list[bytes]:
        """The lines of the last head, with the two empty ones at its end."""
        return self.head.split(b"\r\n") if self.head else []

    def reinit(
        self,
        hostname: str | None = None,
        port: int | None = None,
        scheme: str | None = None,
        method: str | None = None,
        path: str | None = None,
        qargs: FieldTypes | None = None,
        fragment: str | None = None,
        headers: HeaderTypes | None = None,
        body: BodyTypes | None = None,
        data: Any = None,
        fargs: FieldTypes | None = None,
        portOptional: bool | None = None,
    ) -> None:
        """Change what is not None; ``body``, ``data`` and ``fargs`` are empty unless given.

        A port in ``hostname`` wins over ``port``. With another scheme, a port that was the
        scheme's own stays so.
        """
        if scheme:
            scheme = scheme.lower()
            if port is None and self.port == PORTS.get(self.scheme):
                port = PORTS.get(scheme)
            self.scheme = scheme
        if hostname is not None:
            self.hostname, named = split_host(hostname)
            port = port if named is None else named
        if port is not None:
            self.port = int(port)
        if method is not None:
            self.method = method.upper()
        if path is not None:
            self.path = path or "/"
        if qargs is not None:
            self.qargs = as_dict(qargs)
        if fragment is not None:
            self.fragment = fragment
        if headers is not None:
            self.headers = headers
        if body is None:
            body = b""
        self.body = body if type(body) is bytes else octets(body)
        self.data = data
        self.fargs = fargs
        if portOptional is not None:
            self.portOptional = portOptional

    def rebuild(
        self,
        method: str | None = None,
        path: str | None = None,
        qargs: FieldTypes | None = None,
        fragment: str | None = None,
        headers: HeaderTypes | None = None,
        body: BodyTypes | None = None,
        data: Any = None,
        fargs: FieldTypes | None = None,
        portOptional: bool | None = None,
    ) -> bytes:
        """Change what is not None, as `reinit`, then `build`."""
        self.reinit(
            None, None, None, method, path, qargs, fragment, headers, body, data, fargs,
            portOptional,
        )  # fmt: skip
        return self.build()

    def build(self, *, target: str | None = None) -> bytes:
        """Return the request that the attributes make; it is kept in ``msg``.

        ``target`` is sent as it is, instead of what ``path``, ``qargs`` and ``fragment`` make.
        Raises InvalidRequest for what makes none, and for a path that names another scheme, host
        or port.
        """
        # A poll asks for the same again and again: all that makes a request without query and
        # body. (The headers of the last one are alive, in `_fields`, so their id is theirs.)
        same = (
            self.path, self.method, id(self._given), self.fragment, self.hostname, self.port,
            self.scheme, self.portOptional, self.qargs, self.data, self.fargs, self.body,
        )  # fmt: skip
        if same == self._last and target is None:
            return self.msg
        self._last = None
        try:
            start = self._start(target)
            content, content_type = self._content()
            fields = self._fields_for(content_type)
        except (http1.WireError, UnicodeError) as error:
            raise InvalidRequest(f"not a request: {error}") from None
        length = b""
        if fields.length is not None:
            # Anything else would make the server take the next request for a part of this one.
            if fields.length.strip() != str(len(content)):
                raise InvalidRequest(
                    f"Content-Length is {fields.length!r}, but the body has {len(content)} bytes"
                )
        elif content:
            length = b"Content-Length: %d\r\n" % len(content)
        self._headers = fields.sent
        self.head = b"%b%b%b%b\r\n" % (start, fields.opening, length, fields.rest)
        self.msg = self.head + content if content else self.head
        if (
            target is None
            and self.path == same[0]
            and not (content or self.qargs or self.data or self.fargs)
        ):
            self._last = same
        return self.msg

    def _start(self, given: str | None) -> bytes:
        """Return the start line; what the path brings along goes where it belongs."""
        method = http1.encode_method(self.method.upper())
        if method == b"CONNECT":
            raise InvalidRequest("CONNECT is for proxies, and no request to this host")
        if given is not None:
            return b"%b %b HTTP/1.1\r\n" % (method, http1.encode_target(given))
        if self.path == "*" and method == b"OPTIONS":
            return b"OPTIONS * HTTP/1.1\r\n"
        target = take_apart(self.path)
        if target.place is not None:
            check_place(target.place, self.scheme, self.hostname, self.port)
        qargs = self.qargs
        if target.query:
            qargs = {**qargs, **as_dict(target.query)}
        fragment = target.fragment or self.fragment
        text = quoted(target.path)
        if qargs:
            text += "?" + urlencoded(qargs)
        if fragment:
            text += "#" + quoted_fragment(fragment)
        encoded = http1.encode_target(text)
        self.path, self.qargs, self.fragment = target.path, qargs, fragment
        return b"%b %b HTTP/1.1\r\n" % (method, encoded)

    def _content(self) -> tuple[bytes, str | None]:
        """Return the body, and its Content-Type when it is not for the caller to say."""
        if self.method.upper() == "GET":
            return b"", None
        if self.data is not None:
            return json_text(self.data), _JSON
        if self.fargs is not None:
            if self._given.get("content-type", "").lower().startswith(_MULTIPART):
                content, boundary = multipart(self.fargs, self._random.getrandbits)
                return content, f"{_MULTIPART}; boundary={boundary.decode('ascii')}"
            return urlencoded(self.fargs).encode("ascii"), _FORM
        self.body = octets(self.body)
        return self.body, None

    def _fields_for(self, content_type: str | None) -> _Fields:
        """Return the header lines: the last ones, unless something is different."""
        host = host_field(self.scheme, self.hostname, self.port, self.portOptional)
        given = self._given
        last = self._fields
        if (
            last is not None
            and last.given is given
            and last.host == host
            and last.content_type == content_type
        ):
            return last
        if "transfer-encoding" in given:
            raise InvalidRequest("Transfer-Encoding is not for the caller: bodies go in one piece")
        opening = []
        if "host" not in given:
            opening.append(("Host", host))
        if "accept-encoding" not in given:
            opening.append(("Accept-Encoding", "identity"))
        headers = given.multi_items()
        sent = given
        if content_type is not None:
            headers = _with_content_type(headers, content_type)
            sent = _Sent(headers, given)
        self._fields = _Fields(
            host,
            given,
            content_type,
            http1.encode_headers(opening),
            http1.encode_headers((name.title(), value) for name, value in headers),
            given.get("content-length"),
            sent,
        )
        return self._fields


def _with_content_type(headers: list[tuple[str, str]], value: str) -> list[tuple[str, str]]:
    """Return headers with the Content-Type where the caller's is, or at their end."""
    result = []
    placed = False
    for name, given in headers:
        if name.lower() != "content-type":
            result.append((name, given))
        elif not placed:
            result.append((name, value))
            placed = True
    return result if placed else [*result, ("Content-Type", value)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)

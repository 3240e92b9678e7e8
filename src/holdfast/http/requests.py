"""A request: what to ask, apart from whom."""

from __future__ import annotations

import copy
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from holdfast.errors import InvalidRequest
from holdfast.http.bodies import Body, BytesBody, query_string
from holdfast.http.headers import HeaderTypes, pairs
from holdfast.wire import http1

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from holdfast.http.limits import Timeout

__all__ = ["IDEMPOTENT", "Defaults", "Request", "quoted_target"]

#: Methods that may be carried out twice (RFC 9110 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})

# Framing belongs to the body, and a hop's own headers to the connection.
FRAMING = frozenset({"content-length", "transfer-encoding", "expect", "upgrade"})

_BARE = frozenset({"GET", "DELETE", "OPTIONS"})
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

# A path that goes on the wire as it is.
_ORDINARY = re.compile(r"/[A-Za-z0-9/%:@!$&'()*+,;=~?\[\]\-._|]*")


class Request:
    """A method, a target and what goes with them.

    ``target`` is the path with its query, below the origin's base. ``idempotent`` tells whether
    it may be repeated when it may have been carried out already: by its method, unless said.
    ``into`` is a buffer for the body of the answer, ``max_body`` its limit in bytes,
    ``redirects`` how many to follow.
    """

    # Defaults, so that an ordinary request sets only what it has.
    headers: Sequence[tuple[str, str]] = ()
    names: Collection[str] = ()
    body: Body | None = None
    expect_continue = False
    into: Any = None
    max_body: int | None = None
    redirects = 0
    stream = False
    idempotent = True
    #: Of a balancer that sends the same key to the same endpoint; None for the target.
    key: Any = None
    #: Whether start line and default headers are all there is to send.
    bare = True
    #: Whether the answer's body is wanted whole, as bytes of any length.
    plain = True
    #: The head that was made last, and with which defaults: the same again need not be made.
    sent: tuple[Any, bytes] = (None, b"")
    #: Whether it is one for `ConnectionPool.begin`: bare, plain, and without further wishes.
    ordinary = True

    def __init__(
        self, method: str, path: str, timeout: Timeout, redirects: int = 0, **options: Any
    ) -> None:
        self.timeout = timeout
        try:
            self.method = method if method in _METHODS else _checked(method)
            self.target = quoted_target(path) if len(path) <= 256 else _quoted(path)
        except (http1.WireError, AttributeError, TypeError, UnicodeError) as error:
            raise InvalidRequest(f"not a request: {error}") from None
        if self.method not in _BARE:
            self.idempotent = self.method in IDEMPOTENT
            self.bare = self.method == "HEAD"
        if redirects:
            self.redirects = redirects
        if options:
            self._set(**options)
        if (
            redirects
            or timeout.read is not None
            or not (self.bare and self.idempotent)
            or self.method == "HEAD"
        ):
            self.ordinary = False

    def _set(
        self,
        *,
        params: Any = None,
        headers: HeaderTypes | None = None,
        body: Body | None = None,
        expect_continue: bool = False,
        idempotent: bool | None = None,
        into: Any = None,
        max_body: int | None = None,
        stream: bool = False,
        key: Any = None,
    ) -> None:
        if key is not None:
            self.key = key
        if params:
            query = query_string(params)
            if query:
                self.target += ("&" if "?" in self.target else "?") + query
        if headers:
            self.headers = pairs(headers)
            self.names = {name.lower() for name, _ in self.headers}
            for name in self.names:
                if name in FRAMING:
                    raise InvalidRequest(f"the header {name!r} is set by the body and its options")
            try:
                http1.encode_headers(self.headers)
            except http1.WireError as error:
                raise InvalidRequest(str(error)) from None
        self.bare = self.bare and body is None and not headers
        self.body = body
        self.expect_continue = expect_continue
        if idempotent is not None:
            self.idempotent = idempotent
        if into is not None:
            try:
                writable = not memoryview(into).cast("B").readonly
            except TypeError:
                writable = False
            if not writable:
                raise InvalidRequest("into is a writable buffer, such as a bytearray")
        self.into = into
        self.max_body = max_body
        self.stream = stream
        self.plain = not stream and into is None and max_body is None
        self.ordinary = self.plain

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target.partition('?')[0]}>"

    @property
    def replayable(self) -> bool:
        """Whether it can be sent (again) at all."""
        return self.body is None or self.body.replayable

    def with_header(self, name: str, value: str) -> Request:
        """Return the same request with one more header, instead of the one of that name."""
        request = copy.copy(self)
        request.drop({name.lower()})
        request.headers = [*request.headers, (name, value)]
        request.names = {*request.names, name.lower()}
        request.bare = request.ordinary = False
        return request

    def become_get(self) -> None:
        """Turn into a GET without a body, as some redirects ask for."""
        self.method = "GET"
        self.idempotent = True
        self.bare = not self.headers
        self.body = None
        self.drop({"content-type", "content-encoding", "content-language"})

    def drop(self, names: Collection[str]) -> None:
        """Leave out the headers with these lower-case names."""
        self.sent = (None, b"")
        self.headers = [item for item in self.headers if item[0].lower() not in names]
        self.names = {name.lower() for name, _ in self.headers}

    def head(self, prefix: str, defaults: Defaults) -> bytes:
        """Return start line and headers.

        ``prefix`` stands before the target: the origin's base, or its URL for a proxy.
        """
        body = self.body
        if self.target == "*":  # the server itself, of which a proxy is told without a path
            place = prefix if prefix.startswith("http") else "*"
        else:
            place = prefix + self.target
        if self.bare:
            # Each part was checked when it was made.
            text = f"{self.method} {place} HTTP/1.1\r\n{defaults.text}"
            head = text.encode("latin-1")
            self.sent = (defaults, head)
            return head
        headers = list(self.headers)
        if body is not None:
            if body.content_type is not None and "content-type" not in self.names:
                headers.append(("Content-Type", body.content_type))
            if body.length is None:
                headers.append(("Transfer-Encoding", "chunked"))
            else:
                headers.append(("Content-Length", str(body.length)))
            if self.expect_continue:
                headers.append(("Expect", "100-continue"))
        elif self.method in ("POST", "PUT", "PATCH"):
            headers.append(("Content-Length", "0"))
        try:
            target = http1.encode_target(place)
            lines = http1.encode_headers(headers)
        except http1.WireError as error:
            raise InvalidRequest(str(error)) from None
        return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (
            http1.encode_method(self.method),
            target,
            defaults.without(self.names),
            lines,
        )

    def whole(self, prefix: str, defaults: Defaults) -> tuple[bytes, Body | None]:
        """Return what one send can take, and the body that is left to be sent."""
        head = self.head(prefix, defaults)
        body = self.body
        if (
            isinstance(body, BytesBody)
            and body.length is not None
            and body.length <= 1 << 16
            and not self.expect_continue
        ):
            return head + body.data, None
        return head, body


def _checked(method: str) -> str:
    method = method.upper()
    http1.encode_method(method)
    if method == "CONNECT":
        raise http1.WireError("CONNECT is for proxies: Cluster(proxy=...) makes the tunnel")
    return method


class Defaults:
    """The headers of a host that a request may replace by its own."""

    __slots__ = ("encoded", "headers", "text")

    def __init__(self, headers: list[tuple[str, str]]) -> None:
        try:
            self.encoded = http1.encode_headers(headers)
        except http1.WireError as error:
            raise InvalidRequest(str(error)) from None
        self.headers = headers
        self.text = self.encoded.decode("latin-1") + "\r\n"

    def without(self, names: Collection[str]) -> bytes:
        """Return the header lines but for those with the given lower-case names."""
        if not names:
            return self.encoded
        return http1.encode_headers(
            (name, value) for name, value in self.headers if name.lower() not in names
        )


def _quoted(path: str) -> str:
    """Return a path as it goes on the wire: quoted, without its fragment, from the root.

    Raises WireError for a URL, and for control characters.
    """
    if _ORDINARY.fullmatch(path):
        return path
    if _SCHEME.match(path):
        raise http1.WireError(f"a path below the hosts, not a URL, is called: {path[:80]!r}")
    for character in path:
        if character < " " or character == "\x7f":
            raise http1.WireError(f"not a path (control character): {path[:80]!r}")
    path = path.partition("#")[0]
    if not path.startswith("/"):
        path = "*" if path == "*" else "/" + path
    # Reserved and percent signs stay: the caller may have quoted already.
    return quote(path, safe="/%:@!$&'()*+,;=~?[]-._|")


#: The same, with a memory for paths that come again.
quoted_target = lru_cache(maxsize=4096)(_quoted)

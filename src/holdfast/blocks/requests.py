"""A request for a block, made with few steps: there are many, and they are alike."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from holdfast.blocks.errors import ArgumentError
from holdfast.blocks.locators import BLOCK
from holdfast.errors import HoldfastError
from holdfast.http.exchange import Started, exchange
from holdfast.http.failures import translated
from holdfast.http.requests import FRAMING, Request
from holdfast.wire.http1 import WireError, encode_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from holdfast.http.bodies import BytesBody
    from holdfast.http.limits import Timeout
    from holdfast.http.pools import ConnectionPool
    from holdfast.http.requests import Defaults
    from holdfast.http.responses import Response
    from holdfast.ops import Program

__all__ = [
    "TAKEN",
    "BlockRequest",
    "Fields",
    "checked_classes",
    "new_request_id",
    "quick_answer",
    "quick_exchange",
    "quick_start",
]

#: From how many bytes on a service is asked before they are sent. Fewer go along with the head
#: of the request, and to ask would take longer.
EXPECTED = (1 << 16) + 1

#: The largest body that a connection takes at once, whatever the peer does, in bytes.
TAKEN = 1 << 15

#: The largest answer that is no block, in bytes.
ANSWER = 1 << 16


#: The names of storage classes: what stands in a header, and is no comma or equals sign.
_CLASS = re.compile(r"[!-+\--<>-~]+")


def new_request_id() -> str:
    """Return an id for the requests of one operation: ``req-`` and 20 digits."""
    return f"req-{random.getrandbits(80):020x}"


class Fields:
    """The headers of an operation's requests.

    ``request_id``: one of ours, or of the user's. Raises ArgumentError for what could inject.
    """

    __slots__ = ("names", "request_id", "text")

    def __init__(self, request_id: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.request_id = request_id
        #: The names of headers that may stand for default ones.
        self.names: frozenset[str] = frozenset()
        if request_id:
            headers = {"X-Request-Id": request_id, **(headers or {})}
        if not headers:
            self.text = ""
            return
        try:
            self.text = encode_headers(headers.items()).decode("latin-1")
        except (TypeError, WireError) as error:
            raise ArgumentError(str(error)) from None
        if len(headers) > 1:
            names = frozenset(name.lower() for name in headers)
            if not names.isdisjoint(FRAMING):
                raise ArgumentError("the headers of framing are set by the body")
            self.names = frozenset(name for name in names if not name.startswith("x-"))

    @classmethod
    def new(cls) -> Fields:
        """Return headers that tell a new request id, and nothing else."""
        fields = cls()
        fields.request_id = new_request_id()
        fields.text = f"X-Request-Id: {fields.request_id}\r\n"
        return fields

    def plus(self, headers: Mapping[str, str]) -> Fields:
        """Return the same headers and others, which none of these is named as."""
        fields = Fields("", headers)
        fields.text = self.text + fields.text
        fields.names |= self.names
        return fields

    def wanting(self, copies: int, classes: Sequence[str]) -> Fields:
        """Return the same headers, with how many copies are wanted in which storage classes.

        The classes were checked by `checked_classes`.
        """
        fields = Fields()
        fields.names = self.names
        fields.text = f"{self.text}X-Keep-Desired-Replicas: {copies}\r\n"
        if classes:
            fields.text += f"X-Keep-Storage-Classes: {', '.join(classes)}\r\n"
        return fields


def checked_classes(classes: Iterable[str]) -> tuple[str, ...]:
    """Return the names of storage classes, each once; raises ArgumentError."""
    if isinstance(classes, str):
        classes = [classes]
    names = tuple(dict.fromkeys(classes))
    for name in names:
        if not _CLASS.fullmatch(str(name)):
            raise ArgumentError(f"not the name of a storage class: {name!r}")
    return names


class BlockRequest(Request):
    """A GET, HEAD or PUT of a block, whose path and headers were checked before."""

    body: BytesBody | None = None

    bare = False
    ordinary = False

    def __init__(
        self,
        method: str,
        target: str,
        timeout: Timeout,
        fields: Fields,
        body: BytesBody | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.timeout = timeout
        self.names = fields.names
        self._text = fields.text
        self.max_body = BLOCK if method == "GET" else ANSWER
        if body is not None:
            self.body = body
            assert body.length is not None
            self.expect_continue = body.length >= EXPECTED

    def head(self, prefix: str, defaults: Defaults) -> bytes:
        """Return start line and headers."""
        text = self._text
        if self.body is not None:
            text += f"Content-Length: {self.body.length}\r\n"
            if self.expect_continue:
                text += "Expect: 100-continue\r\n"
        rest = defaults.text
        if self.names:
            rest = defaults.without(self.names).decode("latin-1") + "\r\n"
        return f"{self.method} {prefix}{self.target} HTTP/1.1\r\n{text}{rest}".encode("latin-1")


def quick_exchange(
    pool: ConnectionPool, request: BlockRequest, deadline: float
) -> Program[Response]:
    """Exchange a request for a response, as `exchange`, in one operation where that is possible.

    It is when a connection was used a moment ago, the request goes out in one piece, and the
    answer comes in one. The request is no HEAD and not to be streamed.
    """
    now = pool.clock()
    read = request.timeout.read
    until = deadline if read is None else min(deadline, now + read)
    connection = None if request.expect_continue else pool.begin(request, until, now)
    if connection is None:
        return (yield from exchange(pool, request, deadline))
    operation = connection.round_trip
    if request.body is not None:
        operation.data = b"".join((operation.data, request.body.data))
    owned = True
    broken: OSError | None = None
    try:
        try:
            data = yield operation
        except ConnectionError as error:
            broken = error
        else:
            response = pool.accept(connection, request, data, pool.clock())
            if response is not None:
                owned = False
                return response
        owned = False
    except (OSError, WireError, HoldfastError) as error:
        raise translated(error, pool, request.timeout, deadline) from error
    finally:
        operation.data = b""
        if owned:
            connection.close()
    started = Started(connection, request, deadline, broken)
    return (yield from exchange(pool, request, deadline, started))


def quick_start(
    pool: ConnectionPool, request: BlockRequest, deadline: float, soon: float
) -> Program[Started | None]:
    """Send a request with a small body, as `quick_exchange` would, so that others can be sent.

    None when it takes more than that; ``soon``: until when it can have been sent.
    """
    body = request.body
    if body is None or len(body.data) > TAKEN:
        return None
    connection = pool.begin(request, soon, pool.clock())
    if connection is None:
        return None
    operation = connection.sending
    operation.data = b"".join((connection.round_trip.data, body.data))
    operation.deadline = min(soon, deadline)
    started = None
    try:
        yield operation
        started = Started(connection, request, deadline, None)
    except OSError:
        pass  # the whole way finds out what is wrong
    finally:
        operation.data = connection.round_trip.data = b""
        if started is None:
            connection.close()
    return started


def quick_answer(pool: ConnectionPool, started: Started, soon: float) -> Program[Response | None]:
    """Receive the answer if it comes soon and in one piece; else `exchange` goes on."""
    connection = started.connection
    operation = connection.receiving
    operation.limit = ANSWER
    operation.deadline = soon
    try:
        data = yield operation
    except TimeoutError:
        return None
    except ConnectionError as error:
        started.broken = error
        return None
    try:
        return pool.accept(connection, started.request, data, pool.clock())
    except (WireError, HoldfastError) as error:
        connection.close()
        raise translated(error, pool, started.request.timeout, started.deadline) from error

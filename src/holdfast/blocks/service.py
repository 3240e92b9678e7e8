"""One service, and what came of the requests to it in one operation."""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.blocks.errors import HttpError
from holdfast.blocks.locators import BLOCK, KeepLocator
from holdfast.blocks.receiving import LARGE, Hashing, Room, md5, receive
from holdfast.blocks.requests import (
    BlockRequest,
    Fields,
    quick_answer,
    quick_exchange,
    quick_start,
)
from holdfast.blocks.timeouts import DEFAULT_TIMEOUT, seconds_of, timeout_of
from holdfast.drivers import blocking
from holdfast.errors import HoldfastError, NetworkError
from holdfast.http.bodies import BytesBody
from holdfast.http.exchange import exchange
from holdfast.http.origins import Origin
from holdfast.http.pools import ConnectionPool, Transport
from holdfast.telemetry.redaction import REDACTED, redacted

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Mapping

    from holdfast.blocks.counters import Counter
    from holdfast.http.exchange import Started
    from holdfast.http.limits import Timeout
    from holdfast.http.readers import BodyReader
    from holdfast.http.responses import Response
    from holdfast.ops import Program

__all__ = ["BadBlock", "KeepService"]

#: Statuses after which the same service may be asked again.
RETRYABLE = frozenset({408, 409, 423, 500, 502, 503, 504})

#: A block of at most so many bytes is received in one piece.
SMALL = 1 << 16

#: How much of an error's text is told, in bytes.
_DETAIL = 400

_SIGNATURE = re.compile(r"\+A[0-9a-f]{40}@[0-9a-f]{8}")


class BadBlock(NetworkError):
    """What a service sent is not the block that it was asked for."""


class KeepService:
    """Make requests to a single Keep service, and track results.

    ``root``: its URL. ``user_agent_pool``: its kept connections, a `ConnectionPool`.
    ``upload_counter`` and ``download_counter`` count bytes. ``headers`` are sent with each
    request. ``insecure``: do not check the service's certificate. ``secret``: a token that no
    error may tell. ``threaded``: hash large blocks on threads. ``reclaim`` may have memory for a
    large block, see `BlockCache`.
    """

    __slots__ = (
        "_download",
        "_reclaim",
        "_response",
        "_secret",
        "_sent",
        "_succeeded",
        "_threaded",
        "_upload",
        "_usable",
        "content",
        "error",
        "fields",
        "pool",
        "root",
    )

    def __init__(
        self,
        root: str,
        user_agent_pool: ConnectionPool | None = None,
        upload_counter: Counter | None = None,
        download_counter: Counter | None = None,
        headers: Mapping[str, str] | Fields | None = None,
        insecure: bool = False,
        *,
        secret: str | None = None,
        threaded: bool = True,
        reclaim: Callable[[int], io.BytesIO | None] | None = None,
    ) -> None:
        if user_agent_pool is None:
            transport = Transport(verify=not insecure)
            user_agent_pool = ConnectionPool(Origin.parse(root), transport)
        self.root = root
        self.pool = user_agent_pool
        self._upload = upload_counter
        self._download = download_counter
        self.fields = headers if isinstance(headers, Fields) else Fields("", headers)
        self._secret = secret
        self._threaded = threaded
        self._reclaim = reclaim
        self._usable = True
        self._succeeded = False
        self._response: Response | None = None
        #: A block that was sent, and whose answer is still to come.
        self._sent: Started | None = None
        #: Why the last request failed, None when it did not.
        self.error: Exception | None = None
        #: What the last request brought: a block, or the text of the answer.
        self.content: bytes = b""

    def __repr__(self) -> str:
        state = "succeeded" if self._succeeded else self.error or "not asked"
        return f"<KeepService {self.root}: {state}>"

    def usable(self) -> bool:
        """Return whether it may be asked (again): it has not failed for good."""
        return self._usable

    def finished(self) -> bool:
        """Return whether it succeeded, or has failed for good."""
        return self._succeeded or not self._usable

    @property
    def status(self) -> int | None:
        """The last answer's status; None without one."""
        return None if self._response is None else self._response.status_code

    def last_result(self) -> dict[str, Any]:
        """Return what came of the last request: ``error``, and of an answer its parts."""
        result: dict[str, Any] = {"error": self.error or (False if self._succeeded else None)}
        if self._response is not None:
            result["status_code"] = self._response.status_code
            result["headers"] = dict(self._response.headers)
            result["body"] = self.content
        return result

    def header(self, name: str) -> str | None:
        """Return a header of the last answer, by its name in lower case."""
        value = None if self._response is None else self._response.raw_header(name.encode())
        return None if value is None else value.decode("latin-1")

    def get(
        self,
        locator: KeepLocator | str,
        method: str = "GET",
        timeout: float | tuple[float, ...] | None = None,
    ) -> bytes | bool | None:
        """Return a block, or True for a HEAD; None when it failed, see `last_result`."""
        if not isinstance(locator, KeepLocator):
            locator = KeepLocator(locator)
        seconds = seconds_of(timeout, DEFAULT_TIMEOUT)
        program = self.read(method, locator, f"/{locator}", timeout_of(seconds, method != "HEAD"))
        if not blocking.run(program):
            return None
        return True if method == "HEAD" else self.content

    def put(
        self,
        hash_s: str,
        body: bytes,
        timeout: float | tuple[float, ...] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """Store a block; returns whether it succeeded, see `last_result`."""
        fields = self.fields.plus(headers) if headers else self.fields
        limits = timeout_of(seconds_of(timeout, DEFAULT_TIMEOUT))
        return blocking.run(self.write(hash_s, BytesBody(body), limits, fields))

    def close(self) -> None:
        """Close the kept connections; of a client's services, the client does so."""
        self.pool.close()

    # The programs.

    def read(
        self,
        method: str,
        locator: KeepLocator,
        target: str,
        timeout: Timeout,
        deadline: float = inf,
    ) -> Program[bool]:
        """Ask for a block, or whether it is there; returns whether it succeeded."""
        self._begin()
        room: Room | None = None
        hashing: Hashing | None = None
        try:
            request = BlockRequest(method, target, timeout, self.fields)
            size = locator.size
            if method == "HEAD":
                self._response = response = yield from exchange(self.pool, request, deadline)
            elif size is not None and size <= SMALL:
                self._response = response = yield from quick_exchange(self.pool, request, deadline)
            else:
                request.stream = True
                if self._threaded and (size is None or size >= LARGE):
                    # Ready by the time that the service answers.
                    room = None if size is None else self._room(size)
                    hashing = Hashing(room)
                self._response = response = yield from exchange(self.pool, request, deadline)
            if response.status_code != 200:
                yield from self._refused(response)
                return False
            if method == "GET":
                self.content = yield from self._block(response, locator, room, hashing)
            self._succeeded = True
            return True
        except (HoldfastError, OSError) as error:
            self.error = error
            return False
        finally:
            if hashing is not None:
                hashing.close()

    def write(
        self,
        md5sum: str,
        body: BytesBody,
        timeout: Timeout,
        fields: Fields | None = None,
        deadline: float = inf,
    ) -> Program[bool]:
        """Send a block, unless `begin` has sent it; returns whether it was stored."""
        sent, self._sent = self._sent, None
        try:
            if sent is not None:
                response = yield from exchange(self.pool, sent.request, deadline, sent)
            else:
                self._begin()
                request = BlockRequest("PUT", f"/{md5sum}", timeout, fields or self.fields, body)
                response = yield from quick_exchange(self.pool, request, deadline)
            yield from self._stored(response, md5sum, body)
        except (HoldfastError, OSError) as error:
            self.error = error
        return self._succeeded

    def begin(
        self,
        md5sum: str,
        body: BytesBody,
        timeout: Timeout,
        fields: Fields,
        deadline: float,
        soon: float,
    ) -> Program[None]:
        """Send a small block, if that takes no wait, so that it can be sent to others as well."""
        self._begin()
        request = BlockRequest("PUT", f"/{md5sum}", timeout, fields, body)
        self._sent = yield from quick_start(self.pool, request, deadline, soon)

    def answered(self, md5sum: str, body: BytesBody, soon: float) -> Program[bool | None]:
        """Return whether the block that `begin` has sent was stored; None when `write` goes on.

        ``soon``: until when the answer is waited for.
        """
        sent = self._sent
        if sent is None:
            return None
        try:
            response = yield from quick_answer(self.pool, sent, soon)
            if response is None:
                return None
            self._sent = None  # it is over, and the connection with the others
            yield from self._stored(response, md5sum, body)
        except (HoldfastError, OSError) as error:
            self.abandon()
            self.error = error
        return self._succeeded

    def abandon(self) -> None:
        """Give up what was sent, and is not answered yet."""
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.close()

    def _stored(self, response: Response, md5sum: str, body: BytesBody) -> Program[None]:
        """Take note of the answer to a block that was sent."""
        self._response = response
        self.content = response.content
        if response.status_code != 200:
            yield from self._refused(response)
            return
        text = self.content.decode("latin-1").strip()
        if text and not text.startswith(md5sum):
            raise BadBlock("it answered with the locator of another block")
        self._succeeded = True
        assert body.length is not None
        if self._upload is not None:
            self._upload.add(body.length)

    def _begin(self) -> None:
        self._succeeded = False
        self._response = self.error = None
        self.content = b""

    def _block(
        self,
        response: Response,
        locator: KeepLocator,
        room: Room | None,
        hashing: Hashing | None,
    ) -> Program[bytes]:
        """Receive a block, and check that it is the one that was asked for."""
        size = locator.size
        data: bytes
        if response.reader is None:
            data = response.content
            digest = md5(data)
        else:
            try:
                if room is None:
                    room = self._room(self._most(size, response))
                data, digest = yield from receive(response.reader, room, hashing)
            finally:
                response.reader.close()
        if self._download is not None:
            self._download.add(len(data))
        if size is not None and len(data) != size:
            raise BadBlock(f"it sent {len(data)} bytes, not {size}")
        if digest != locator.md5sum:
            raise BadBlock("the content has another checksum")
        return data

    def _room(self, size: int) -> Room:
        memory = None
        if self._reclaim is not None and size >= LARGE:
            memory = self._reclaim(size)
        return Room(size, memory)

    def _most(self, size: int | None, response: Response) -> int:
        """Return how many bytes a block may have."""
        if size is not None:
            return size
        length = int(response.headers.get("content-length", BLOCK))
        if length > BLOCK:
            raise BadBlock(f"it would send {length} bytes, more than a block has")
        return length

    def _refused(self, response: Response) -> Program[None]:
        """Keep the status that is an error, with the line of text that came with it."""
        status = response.status_code
        self._usable = status in RETRYABLE
        if response.reader is None:
            self.content = response.content
        else:
            self.content = yield from _beginning(response.reader)
        detail = self.content[:_DETAIL].decode("utf-8", "replace").strip().partition("\n")[0]
        self.error = HttpError(status, self._clean(response.reason_phrase), self._clean(detail))

    def _clean(self, text: str) -> str:
        """Return what a service says without what must not be told."""
        if self._secret:
            text = text.replace(self._secret, REDACTED)
        return redacted(_SIGNATURE.sub(f"+A{REDACTED}", text))


def _beginning(reader: BodyReader) -> Program[bytes]:
    """Return the beginning of a body; of a short one all, so that the connection is kept."""
    data = b""
    try:
        while len(data) < _DETAIL and (piece := (yield from reader.read())):
            data += piece
    except (HoldfastError, OSError):
        pass  # the status has told enough
    finally:
        reader.close()
    return data[:_DETAIL]

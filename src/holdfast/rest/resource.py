"""One host, one connection."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterator
from math import inf
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from holdfast import ops
from holdfast.errors import HoldfastError, InvalidRequest
from holdfast.http.attempts import Attempt
from holdfast.http.exchange import Started, exchange, start
from holdfast.http.limits import TimeoutTypes
from holdfast.http.pipelines import Pipeline
from holdfast.http.responses import Response as HTTPResponse
from holdfast.rest.pools import TIMEOUT, PoolPrograms
from holdfast.rest.response import Response
from holdfast.rest.verbs import Asynchronous, Blocking, request_of

if TYPE_CHECKING:
    from holdfast.ops import Program

__all__ = ["AsyncResource", "Resource"]

R = TypeVar("R")
T = TypeVar("T")


class _Resource(PoolPrograms[R]):
    def __init__(
        self,
        host: str,
        port: int | None = None,
        strict: Any = None,
        timeout: TimeoutTypes = TIMEOUT,
        source_address: tuple[str, int] | None = None,
        **transport: Any,
    ) -> None:
        if port is not None:
            host = _with_port(host, port)
        super().__init__(host, 1, timeout=timeout, source_address=source_address, **transport)
        self._started: Started | None = None

    def __len__(self) -> int:
        return 1

    def _start(
        self, method: str, path: str, body: Any = None, headers: Any = None, params: Any = ()
    ) -> Program[None]:
        if self._started is not None:
            raise InvalidRequest("the response to the last request was not read: getresponse()")
        request = request_of(self._timeout, method, path, body, params, headers=headers)
        started = start(self._endpoint.pool, request, self._deadline())
        self._started = yield from self._attempted(started)

    def _finish(self, filename: str = "") -> Program[Response]:
        started, self._started = self._started, None
        if started is None:
            raise InvalidRequest("no request was sent: request() goes before getresponse()")
        return Response((yield from self._attempted(self._received(started, filename))))

    def _received(self, started: Started, filename: str) -> Program[HTTPResponse]:
        request = started.request
        request.stream = bool(filename)
        response = yield from exchange(self._endpoint.pool, request, started.deadline, started)
        if filename:
            yield from self._save(response, filename)
        return response

    def _deadline(self) -> float:
        return self._core.clock() + (self._timeout.total or inf)

    def _download(self, path: str, filename: str) -> Program[Response]:
        request = request_of(self._timeout, "GET", path, stream=True)
        response = yield from self._core.call(request, lambda: (self._endpoint,))
        yield from self._attempted(self._save(response, filename))
        return _checked(Response(response))

    def _save(self, response: HTTPResponse, filename: str) -> Program[None]:
        """Write a successful body to a file, whole or not at all; read any other one.

        The time limit is for each wait: how long the whole of a file takes, nobody knows.
        """
        reader = response.reader
        try:
            if not response.is_success:
                response.content = yield from reader.read_all()
                return
            file = _PartialFile(filename)
            try:
                yield ops.Invoke(file.open)
                while True:
                    reader.deadline = self._deadline()
                    if not (data := (yield from reader.read())):
                        break
                    yield ops.Invoke(file.write, data)
                file.complete()
            finally:
                file.discard()
        finally:
            reader.close()
            response.reader = None

    def _attempted(self, program: Program[T]) -> Program[T]:
        """Run a program below the cluster's call, and tell of it as of the one attempt it is."""
        name = self._endpoint.name
        clock = self._core.clock
        began = clock()
        try:
            result = yield from program
        except HoldfastError as error:
            if error.attempts or isinstance(error, InvalidRequest):
                raise
            # An error of its own: the one in the list of attempts stays as it was.
            failure = type(error)(error.summary)
            failure.attempts = (Attempt(1, name, 0.0, clock() - began, None, error),)
            raise failure from error
        if isinstance(result, HTTPResponse):
            result.tried = name
            result.seconds = clock() - began
        return result

    def _pipeline(self, requests: tuple[Any, ...]) -> Pipeline:
        for request in requests:
            if not isinstance(request, tuple) or not 2 <= len(request) <= 3:
                raise InvalidRequest(f"multicall takes (method, path[, body]), not {request!r}")
        return Pipeline(
            self._endpoint.pool, [request_of(self._timeout, *request) for request in requests]
        )

    def request(
        self, method: str, path: str, body: Any = None, headers: Any = None, params: Any = ()
    ) -> Any:
        """Send a request; `getresponse` goes on from there."""
        return self._run(self._start(method, path, body, headers, params))

    def getresponse(self, filename: str = "") -> R:
        """Return the completed response to `request`.

        With a ``filename`` a successful body is written to that file, as it comes in; the file is
        there only when all of it was received.
        """
        return self._run(self._finish(filename))  # type: ignore[no-any-return]

    def download(self, path: str, filename: str) -> R:
        """Write the body of a GET to a file and return the response; see `getresponse`.

        Raises ResponseError when the status is not 2xx.
        """
        return self._run(self._download(path, filename))  # type: ignore[no-any-return]

    def _discard(self) -> None:
        started, self._started = self._started, None
        if started is not None:
            started.close()


class Resource(Blocking, _Resource[Response]):
    """A connection to one host, kept alive; for one thread at a time.

    ``host``: ``name``, ``name:port`` or a URL with scheme and base path. ``strict`` is accepted
    and means nothing: parsing is always strict. ``timeout``: seconds for a call, or a
    `holdfast.Timeout`. Further keywords as in `Pool`.
    """

    def multicall(self, *requests: tuple[Any, ...]) -> Iterator[Response]:
        """Send ``(method, path[, body])`` requests in a pipeline; yield the responses in order.

        What follows a failure is sent again on a new connection when that is safe for all of it.
        """
        pipeline = self._pipeline(requests)
        try:
            while (response := self._run(self._attempted(pipeline.next()))) is not None:
                yield Response(response)
        finally:
            pipeline.close()

    def close(self) -> None:
        """Close the connection."""
        self._discard()
        super().close()


class AsyncResource(Asynchronous, _Resource[Coroutine[Any, Any, Response]]):
    """`Resource` for asyncio: its methods are to be awaited, `multicall` to be iterated."""

    async def multicall(self, *requests: tuple[Any, ...]) -> AsyncIterator[Response]:
        """Send ``(method, path[, body])`` requests in a pipeline; see `Resource.multicall`."""
        pipeline = self._pipeline(requests)
        try:
            while (response := await self._run(self._attempted(pipeline.next()))) is not None:
                yield Response(response)
        finally:
            pipeline.close()

    async def aclose(self) -> None:
        """Close the connection."""
        self._discard()
        await super().aclose()


def _checked(response: Response) -> Response:
    if not response:
        response()  # raises
    return response


class _PartialFile:
    """A file that is not whole yet, and has its name only when it is."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        # A name of its own: somebody else may be writing the same file.
        self._part = f"{filename}.{secrets.token_hex(4)}.part"
        self._file: BinaryIO | None = None

    def open(self) -> None:
        # Kept here, not returned: a program that is cancelled meanwhile gets no result.
        self._file = open(self._part, "xb")  # noqa: SIM115  closed by whoever called this

    def write(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)

    def complete(self) -> None:
        assert self._file is not None
        self._file.close()
        os.replace(self._part, self._filename)
        self._file = None

    def discard(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            finally:
                os.unlink(self._part)


def _with_port(host: str, port: int) -> str:
    """Return a host, or a URL, with the port that stood beside it."""
    scheme, mark, rest = host.rpartition("://")
    authority, slash, path = rest.partition("/")
    user, at, name = authority.rpartition("@")
    if name.count(":") > 1 and "[" not in name:
        name = f"[{name}]"
    elif ":" in name.rpartition("]")[2]:
        raise InvalidRequest(f"the port is named twice: {name!r} and {port!r}")
    return f"{scheme}{mark}{user}{at}{name}:{port}{slash}{path}"

"""A call whose attempts are HTTP exchanges."""

from __future__ import annotations

import copy
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.cluster.calls import Call
from holdfast.cluster.retry_after import retry_after
from holdfast.errors import HoldfastError, StatusError
from holdfast.http.exchange import Started, exchange
from holdfast.http.failures import translated
from holdfast.http.readers import NoBody
from holdfast.http.redirects import fetch
from holdfast.http.responses import Response
from holdfast.wire.http1 import Message, WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from holdfast.cluster.core import ClusterCore
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.http.requests import Request
    from holdfast.ops import Program

__all__ = ["HTTPCall"]

#: What says that a host has too much to do.
_OVERLOADED = frozenset({429, 503})


class HTTPCall(Call[Response]):
    """The call of a cluster with a request.

    ``again`` tells which responses are worth another attempt, instead of the policy's statuses.
    """

    failures = (HoldfastError, OSError, WireError)

    def __init__(
        self,
        core: ClusterCore,
        request: Request,
        began: float,
        prefer: Callable[[], Iterable[Endpoint]] | None = None,
        again: Callable[[Response], bool] | None = None,
        attempts: int | None = None,
    ) -> None:
        key = request.target if request.key is None else request.key
        super().__init__(core, began, request.timeout.total, prefer, attempts, key)
        self.request = request
        self.idempotent = request.idempotent
        # What is read piece by piece is a response, and no value.
        self.replaceable = not request.stream
        # Two answers cannot be written into one buffer, nor one file be read by two.
        self.hedgeable = request.into is None and (request.body is None or request.body.shared)
        self._again = again
        self._fault_status = core.fault_status

    def subject(self) -> Request:
        """Return the request."""
        return self.request

    @property
    def replayable(self) -> bool:
        """Whether its body can still be sent (again)."""
        return self.request.replayable

    def name(self) -> tuple[str, str]:
        """Return the method and the path, without the query: it may hold secrets."""
        return self.request.method, self.request.target.partition("?")[0]

    def send(
        self, endpoint: Endpoint, until: float, number: int, started: Any = None
    ) -> Program[Response]:
        """Exchange the request for a response."""
        request = self.request
        header = self.caller.policy.deadline_header
        if header is not None and until < inf:
            left = max(int((until - self.caller.clock()) * 1000), 1)
            request = request.with_header(header, str(left))
        if self.caller.inject is not None:
            for name, value in self.caller.inject(self.number, number, endpoint.name):
                request = request.with_header(name, value)
        assert started is None or isinstance(started, Started)
        if request.redirects:
            return fetch(endpoint.pool, request, until, started)
        return exchange(endpoint.pool, request, until, started)

    def failure(self, error: Exception, endpoint: Endpoint, until: float) -> HoldfastError:
        """Return what went wrong, with the host's name."""
        return translated(error, endpoint.pool, self.request.timeout, until)

    def healthy(self, outcome: Response) -> bool:
        """Tell whether the status speaks for the host's health."""
        return outcome.status_code < self._fault_status

    def overloaded(self, outcome: Response) -> bool:
        """Tell whether the host says that it has too much to do."""
        return outcome.status_code in _OVERLOADED

    def again(self, outcome: Response) -> bool:
        """Tell whether the response is worth another attempt."""
        if self._again is not None:
            return self._again(outcome)
        return outcome.status_code in self.caller.statuses

    def wait_asked(self, outcome: Response) -> float:
        """Return the seconds of the response's Retry-After."""
        return retry_after(outcome)

    def status(self, outcome: Response) -> int:
        """Return the response's status."""
        return outcome.status_code

    def bad(self, outcome: Response) -> Exception | None:
        """Return the error that a response is when its host failed, or had too much to do."""
        if outcome.status_code < 500 and outcome.status_code != 429:
            return None
        try:
            outcome.raise_for_status()
        except StatusError as error:
            return error
        return None

    def identity(self) -> Hashable:
        """Return what makes requests identical: those that read only, and are read whole."""
        request = self.request
        if request.method not in ("GET", "HEAD") or not request.plain or request.body is not None:
            return None
        if self.prefer is not None or self._again is not None:
            return None  # it matters who answers, and what
        return request.method, request.target, tuple(request.headers), self.key, request.redirects

    def shared(self, outcome: Response) -> Response:
        """Return a response of the caller's own; only the body is shared."""
        return copy.copy(outcome)

    def drop(self, outcome: Response) -> None:
        """Close a response whose body was not read."""
        if outcome.reader is not None:
            outcome.reader.close()

    def on_close(self, outcome: Response) -> list[Callable[[Exception | None], None]] | None:
        """Return what is called when the body of a streamed response was read."""
        return None if outcome.reader is None else outcome.reader.on_close

    def answer(self, endpoint: Endpoint, status: int) -> Response:
        """Return a response that no host has sent."""
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = ""
        message = Message(f"HTTP/1.1 {status} {phrase}\r\n\r\n".encode(), status)
        response = Response(self.request, endpoint.pool.origin, message)
        if self.request.stream:
            response.reader = NoBody()
        return response

    def finish(self, outcome: Response) -> Response:
        """Return the response with what it took."""
        outcome.tried = self.made
        outcome.seconds = self.caller.clock() - self.began
        return outcome

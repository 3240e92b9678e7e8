"""What responses and errors of Twisted's mean, and how to let go of a response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as LateDeferred
from twisted.internet.protocol import Protocol
from twisted.web.error import Error
from twisted.web.iweb import IResponse

from holdfast.calls.judging import failed_status
from holdfast.cluster.retry_after import retry_after
from holdfast.errors import DeadlineExceeded, ReadTimeout
from holdfast.http.headers import Headers as OwnHeaders

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from holdfast.policy.events import Kind

__all__ = [
    "RequestTimeout",
    "TotalTimeout",
    "drop",
    "error_of",
    "let_go_of_redirects",
    "let_go_of_response",
    "told",
    "wait_asked",
]


class RequestTimeout(ReadTimeout, CancelledError):
    """The request took longer than its timeout, and was cancelled."""


class TotalTimeout(DeadlineExceeded, CancelledError):
    """The time for the whole call was over, and the attempt was cancelled."""


def error_of(response: Any) -> Exception:
    """Return the error that a response is."""
    phrase = response.phrase if isinstance(response.phrase, bytes) else b""
    error = Error(str(response.code).encode(), phrase)
    error.response = response
    return error


def told(kind: Kind, cause: Any) -> tuple[Kind, Any]:
    """Return what came of a call as those who listen know it."""
    if type(cause) is CancelledError or isinstance(cause, LateDeferred):
        # Whoever cancels the call itself closes it, and is told of by nobody.
        return kind, RequestTimeout(str(cause) or "it was cancelled")
    if IResponse.providedBy(cause) and failed_status(cause.code):
        return "call failed", error_of(cause)
    return kind, cause


def wait_asked(response: Any) -> float:
    """Return the seconds of a response's Retry-After."""
    values = response.headers.getRawHeaders(b"retry-after") or []
    return retry_after(_Headed(values))  # type: ignore[arg-type]


class _Headed:
    """As much of a response as `retry_after` looks at."""

    def __init__(self, values: list[bytes]) -> None:
        self.headers = OwnHeaders([("retry-after", value.decode("latin-1")) for value in values])


def drop(response: Any) -> None:
    """Let go of a response that nobody will see.

    What has come of its body is thrown away; unless that is all of it, its connection is closed.
    """
    sink = _Sink()
    response.deliverBody(sink)
    transport: Any = sink.transport
    if not sink.over and transport is not None:
        transport.loseConnection()


class _Sink(Protocol):
    over = False

    def connectionLost(self, reason: Any = None) -> None:
        """Take note of the end."""
        self.over = True


def let_go_of_redirects(response: Any) -> Any:
    """Free the connections of what led to a response, which nobody reads."""
    previous = response.previousResponse
    while previous is not None:
        _drop_unfinished(previous)
        previous = previous.previousResponse
    return response


def let_go_of_response(failure: Failure) -> Failure:
    """Free the connection of a response that was a failure, such as a redirect not followed."""
    response = getattr(failure.value, "response", None)
    if IResponse.providedBy(response):
        _drop_unfinished(response)
    return failure


def _drop_unfinished(response: Any) -> None:
    # What has come as a whole holds no connection, and may still be read.
    if getattr(response, "_state", "") == "INITIAL":
        drop(response)

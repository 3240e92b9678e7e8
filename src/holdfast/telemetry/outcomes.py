"""How attempts and calls end, in the few words that labels are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from holdfast.errors import CircuitOpenError, HoldfastError, LimitExceeded, NoEndpointError
from holdfast.http.responses import Response

if TYPE_CHECKING:
    from holdfast.policy.events import Event

__all__ = [
    "FAILED_STATUS",
    "Outcome",
    "error_of",
    "error_type",
    "is_cancellation",
    "outcome_of",
    "status_of",
    "text_of",
]

Outcome: TypeAlias = Literal["success", "failure", "timeout", "rejected", "cancelled"]

#: A call whose answer has a status from here on has failed, though an answer came.
FAILED_STATUS = 500

# Nothing was sent.
_REJECTED = (CircuitOpenError, LimitExceeded, NoEndpointError)


def error_of(event: Event) -> BaseException | None:
    """Return the exception behind an event, None when there is an answer behind it."""
    cause = event.cause
    # What went well may have an exception as its result.
    if not isinstance(cause, BaseException) or event.kind in (
        "attempt succeeded",
        "call succeeded",
    ):
        return None
    # What a function raised is wrapped while its policy judges it.
    own = getattr(cause, "error", None)
    if isinstance(cause, HoldfastError) and isinstance(own, Exception):
        return own
    return cause


def status_of(event: Event) -> int | None:
    """Return the status code of the answer behind an event, None when there is none."""
    return event.cause.status_code if isinstance(event.cause, Response) else None


def error_type(error: BaseException) -> str:
    """Return the name of an exception's class, with its module unless that is built in."""
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def text_of(error: BaseException, whole: bool = False) -> str:
    """Return what an exception says; one of ours with its list of attempts when it is ``whole``."""
    try:
        return error.summary if isinstance(error, HoldfastError) and not whole else str(error)
    except Exception:  # whatever a class of the user's makes of it
        return f"<a {type(error).__name__} that cannot be shown>"


def outcome_of(event: Event) -> Outcome:
    """Return how the attempt or the call ended whose end an event is."""
    error = error_of(event)
    if error is None:
        status = status_of(event)
        failed = event.kind == "attempt failed" or (status or 0) >= FAILED_STATUS
        return "failure" if failed else "success"
    if is_cancellation(error):
        return "cancelled"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "rejected" if isinstance(error, _REJECTED) else "failure"


def is_cancellation(error: BaseException) -> bool:
    """Tell whether an exception says that somebody has lost interest."""
    if not isinstance(error, Exception):
        return True  # asyncio.CancelledError, GeneratorExit, KeyboardInterrupt
    if type(error).__name__ == "CancelledError":
        return True  # that of Twisted is an Exception
    # An attempt that got no outcome: cancelled by its caller, or by a hedge that was faster.
    return type(error) is HoldfastError and error.summary == "cancelled"

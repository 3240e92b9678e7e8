"""What came of an attempt: whether another one may mend it, and whether the dependency is to blame.

Packages that are not imported have raised nothing: those of Twisted are asked only when the program
has loaded them.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError, URLError

from holdfast.calls.clients import failure_of, repeatable
from holdfast.errors import (
    CallTimeout,
    ConnectTimeout,
    HoldfastError,
    NetworkError,
    StatusError,
)
from holdfast.http.responses import Response

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "RETRIED",
    "Retryable",
    "Verdict",
    "failed_status",
    "is_repeatable",
    "judged",
    "status_of",
]

#: Answers that say that another attempt may go better: a bad gateway, or a server that is not up.
RETRIED = frozenset({502, 503, 504})

_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})


class Retryable(Exception):
    """Raise it, or a subclass of yours, to have the call tried again, whatever was sent."""


class Verdict(NamedTuple):
    """What an error means.

    ``again``: another attempt may mend it. ``fault``: it counts against the circuit. ``named``:
    the caller has said that it is worth another attempt. ``late``: something took too long.
    ``unsafe``: what may have been carried out must not be twice.
    """

    again: bool
    fault: bool
    named: bool = False
    late: bool = False
    unsafe: bool = False


_MENDABLE = Verdict(True, True)
_FINAL = Verdict(False, True)


def judged(
    error: BaseException, retry_on: tuple[type[Exception], ...], retry_on_timeout: bool
) -> Verdict:
    """Return what an error that a function raised means."""
    if isinstance(error, (Retryable, *retry_on)):
        return Verdict(True, True, named=True)
    if isinstance(error, HoldfastError):
        return _judged_ours(error, retry_on_timeout)
    defer, internet = _loaded("twisted.internet.defer"), _loaded("twisted.internet.error")
    if defer is not None and isinstance(error, (defer.CancelledError, defer.TimeoutError)):
        # Nobody else has cancelled it: whoever did, did so because it took too long.
        return Verdict(retry_on_timeout, True, late=True)
    if internet is not None and isinstance(
        error, (internet.ConnectError, internet.ConnectionClosed, internet.DNSLookupError)
    ):
        return _MENDABLE  # its TimeoutError, too, is one of connecting
    reasons = getattr(error, "reasons", None)
    if _is_twisted_failure(error) and reasons:
        return judged(reasons[-1].value, retry_on, retry_on_timeout)
    status = _status_of_error(error)
    if status is not None:
        return Verdict(status in RETRIED, _is_fault(status), unsafe=not repeatable(error))
    failure = failure_of(error)
    if failure is not None:
        unsafe = failure != "unconnected" and not repeatable(error)
        late = failure == "late"
        return Verdict(retry_on_timeout if late else True, True, late=late, unsafe=unsafe)
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return judged(error.reason, retry_on, retry_on_timeout)
    if isinstance(error, TimeoutError):
        return Verdict(retry_on_timeout, True, late=True, unsafe=not repeatable(error))
    if isinstance(error, (ConnectionRefusedError, socket.gaierror)):
        return _MENDABLE
    if isinstance(error, ConnectionError):
        return Verdict(True, True, unsafe=not repeatable(error))
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return _MENDABLE
    return _FINAL


def _judged_ours(error: HoldfastError, retry_on_timeout: bool) -> Verdict:
    if isinstance(error, StatusError):
        status = status_of(error.response)
        if status is None:
            return _FINAL
        unsafe = not is_repeatable(error.response)
        return Verdict(status in RETRIED, _is_fault(status), unsafe=unsafe)
    if isinstance(error, CallTimeout) and not isinstance(error, ConnectTimeout):
        return Verdict(retry_on_timeout, error.fault, late=True)
    again = error.retryable
    if isinstance(error, NetworkError) and error.attempts and error.sent:
        # A call within has seen to its own retries; what may have been carried out stays so.
        again = False
    return Verdict(again, error.fault)


def status_of(result: Any) -> int | None:
    """Return the status of a response, None for what is none."""
    if isinstance(result, Response):
        return result.status_code
    iweb = _loaded("twisted.web.iweb")
    if iweb is not None and iweb.IResponse.providedBy(result):
        return int(result.code)
    return None


def is_repeatable(response: Any) -> bool:
    """Tell whether the request behind a response may be repeated, and those that led there."""
    steps = (*response.history, response) if isinstance(response, Response) else (response,)
    return all(repeatable(step) for step in steps)


def failed_status(status: int | None) -> bool:
    """Tell whether an answer with this status is a failure, for which a fallback stands in."""
    return status is not None and (status >= 500 or status == 429)


def _is_fault(status: int) -> bool:
    return status >= 500


def _is_twisted_failure(error: BaseException) -> bool:
    # ResponseFailed, ResponseNeverReceived, RequestTransmissionFailed: each has its reasons.
    newclient = _loaded("twisted.web._newclient")
    return newclient is not None and isinstance(error, newclient._WrapperException)


def _status_of_error(error: BaseException) -> int | None:
    """Return the status that an error of another HTTP client tells, None without one."""
    if isinstance(error, HTTPError):
        return error.code
    web = _loaded("twisted.web.error")
    if web is not None and isinstance(error, web.Error):
        return int(error.status) if error.status.isdigit() else None
    # As in requests and httpx, then as in aiohttp.
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None:
        status = getattr(error, "status", None)
    return status if type(status) is int and 100 <= status <= 599 else None


def _loaded(module: str) -> ModuleType | None:
    return sys.modules.get(module)

"""What other HTTP clients raise: whether it is a connection's failure, and what was sent.

Their exceptions are not the standard library's, and say in ways of their own what went wrong. A
package that is not imported has raised nothing; none is imported here.
"""

from __future__ import annotations

import sys
from typing import Any, Literal, TypeAlias

from holdfast.calls.requested import method_of
from holdfast.http.requests import IDEMPOTENT

__all__ = ["Failure", "failure_of", "repeatable"]

#: No connection was made, one broke, or it took too long.
Failure: TypeAlias = Literal["unconnected", "broken", "late"]

# By module, in the order in which the classes are looked at: special ones come first.
_KINDS: dict[str, tuple[tuple[str, Failure], ...]] = {
    "requests.exceptions": (
        ("ConnectTimeout", "unconnected"),
        ("Timeout", "late"),
        ("ConnectionError", "broken"),
        ("ChunkedEncodingError", "broken"),
    ),
    "urllib3.exceptions": (
        ("ConnectTimeoutError", "unconnected"),
        ("NewConnectionError", "unconnected"),
        ("TimeoutError", "late"),
        ("ProtocolError", "broken"),
    ),
    "aiohttp": (
        ("ClientConnectorError", "unconnected"),
        ("ConnectionTimeoutError", "unconnected"),
        ("ServerTimeoutError", "late"),
        ("ClientConnectionError", "broken"),
        ("ClientPayloadError", "broken"),
    ),
    "http.client": (("IncompleteRead", "broken"),),
}
_KINDS["httpx"] = _KINDS["httpx2"] = (
    ("ConnectTimeout", "unconnected"),
    ("PoolTimeout", "unconnected"),
    ("ConnectError", "unconnected"),
    ("TimeoutException", "late"),
    ("NetworkError", "broken"),
    ("RemoteProtocolError", "broken"),
)


def failure_of(error: BaseException) -> Failure | None:
    """Return what an error of another client says of its connection, None for all else."""
    for name, kinds in _KINDS.items():
        module = sys.modules.get(name)
        if module is None:
            continue
        for kind, failure in kinds:
            of = getattr(module, kind, None)
            if isinstance(of, type) and isinstance(error, of):
                inner = _cause(error) if failure == "broken" else None
                # requests and urllib3 wrap what they could not connect to in what broke.
                unconnected = inner is not None and failure_of(inner) == "unconnected"
                return "unconnected" if unconnected else failure
    reason = getattr(error, "reason", None)  # of urllib3's MaxRetryError
    if type(error).__name__ == "MaxRetryError" and isinstance(reason, BaseException):
        return failure_of(reason)
    return None


def _cause(error: BaseException) -> BaseException | None:
    arguments = error.args
    if arguments and isinstance(arguments[0], BaseException):
        return arguments[0]
    return None


def repeatable(answer: Any) -> bool:
    """Tell whether a request may be repeated, as far as its answer, or an error, tells of it."""
    for source in (answer, _known(answer, "response")):
        request = _known(source, "request") or _known(source, "request_info")
        idempotent = _known(request, "idempotent")
        if isinstance(idempotent, bool):  # of ours
            return idempotent
        method = _known(request, "method")
        if isinstance(method, bytes):
            method = method.decode("latin-1")
        if isinstance(method, str):
            return method.upper() in IDEMPOTENT
    found = method_of(answer) if isinstance(answer, BaseException) else None
    return found is None or found.upper() in IDEMPOTENT


def _known(source: Any, name: str) -> Any:
    try:
        return getattr(source, name, None)
    except Exception:  # httpx raises RuntimeError where there is none
        return None

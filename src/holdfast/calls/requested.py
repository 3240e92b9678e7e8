"""Which method a request had, told by the traceback of what went wrong with it.

The errors of most HTTP clients do not say what was asked for: a connection was reset, and that is
all. But they were raised in the midst of their client's functions, whose frames are in the
traceback, and know. So it is found out where nothing else tells; nothing of it is kept, and of a
client that is not known here nothing is found out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["method_of"]

#: The packages that are looked into.
_CLIENTS = frozenset({"aiohttp", "http", "requests", "urllib", "urllib3"})

#: What their connections and responses call the method.
_NAMES = ("_method", "method", "_request_method")

# Of a function that connects, in the standard library: nothing was sent yet.
_CONNECTING = frozenset({("socket", "create_connection"), ("http.client", "connect")})

#: So many errors are looked at of which one stems from the other.
_DEPTH = 5


def method_of(error: BaseException) -> str | None:
    """Return the method of the request that failed with an error.

    None when that is unknown, and when nothing of the request can have been sent.
    """
    inner: BaseException | None = error
    for _ in range(_DEPTH):
        if inner is None:
            return None
        found = ""
        traceback = inner.__traceback__
        while traceback is not None:
            frame = traceback.tb_frame
            module = frame.f_globals.get("__name__")
            if (module, frame.f_code.co_name) in _CONNECTING:
                return None
            if isinstance(module, str) and module.partition(".")[0] in _CLIENTS:
                found = _method_in(frame) or found
            traceback = traceback.tb_next
        if found:
            return found
        inner = _origin_of(inner)
    return None


def _origin_of(error: BaseException) -> BaseException | None:
    """Return the error that one stems from, as far as it says so."""
    first = error.args[0] if error.args else None
    for origin in (error.__cause__, first, getattr(error, "reason", None)):
        if isinstance(origin, BaseException):
            return origin
    return None


def _method_in(frame: FrameType) -> str | None:
    """Return the method that a client's function is about."""
    values = frame.f_locals
    method: Any = values.get("method")
    if isinstance(method, str):
        return method
    request: Any = values.get("req")  # of urllib
    if hasattr(request, "get_method"):
        method = request.get_method()
        return method if isinstance(method, str) else None
    owner = vars(values.get("self")) if hasattr(values.get("self"), "__dict__") else {}
    for name in _NAMES:
        method = owner.get(name)
        if isinstance(method, str):
            return method
    return None

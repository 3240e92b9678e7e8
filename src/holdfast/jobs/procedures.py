"""What a host offers: functions that may be called from elsewhere.

A file of procedures is ordinary Python. What is marked in it can be called, and nothing else:

    from holdfast.jobs.procedures import Result, procedure, streaming_procedure

    @procedure
    def uptime():
        return float(open("/proc/uptime").read().split()[0])

    @streaming_procedure(timeout=60, uid="nobody")
    def count(to):
        for number in range(to):
            yield number
        yield Result(to)

Every call runs in a process of its own. This module is in all of them, so it imports little.
"""

from __future__ import annotations

from functools import update_wrapper
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from holdfast.jobs.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Procedure",
    "ProcedureCancelled",
    "ProcedureTimeout",
    "Result",
    "StreamingProcedure",
    "procedure",
    "streaming_procedure",
]

#: A user or a group, by name or number.
Name: TypeAlias = "str | int"


class ProcedureTimeout(BaseException):
    """Raised in a procedure whose time is over, so that it can clean up.

    It is no Exception, so that an ordinary ``except`` does not stop it.
    """


class ProcedureCancelled(BaseException):
    """Raised in a procedure whose caller has gone, so that it can clean up."""


class Procedure:
    """A function that may be called from elsewhere.

    ``timeout``: seconds that a call may take. `ProcedureTimeout` is then raised in the function,
    and its process is ended if that does not end it. ``uid``: the user that it runs as, by name or
    number. ``gid``: the group likewise; of a list the first is the group, and all of them are the
    supplementary groups. A user without a group has its own groups.

    A subclass may have its own ``__call__`` and needs no function then.
    """

    #: Whether it gives packets before its result.
    streaming = False

    timeout: float | None = None
    uid: Name | None = None
    gid: Name | Sequence[Name] | None = None

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        timeout: float | None = None,
        uid: Name | None = None,
        gid: Name | Sequence[Name] | None = None,
    ) -> None:
        if function is None and type(self).__call__ in (
            Procedure.__call__,
            StreamingProcedure.__call__,
        ):
            raise TypeError(f"{type(self).__name__}: there must be a function, or a __call__")
        if function is not None:
            if not callable(function):
                raise TypeError(f"{type(self).__name__}: {function!r} cannot be called")
            update_wrapper(self, function)
        if timeout is not None and not _positive(timeout):
            raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
        self.function = function
        self.timeout = timeout
        self.uid = uid
        self.gid = gid

    def __repr__(self) -> str:
        name = getattr(self, "__qualname__", None) or type(self).__qualname__
        return f"<{type(self).__name__} {name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function here, as if it were not marked."""
        assert self.function is not None
        return self.function(*args, **kwargs)


class StreamingProcedure(Procedure):
    """A `Procedure` that yields packets, and may yield a `Result` last."""

    streaming = True


@overload
def procedure(function: Callable[..., Any], /) -> Procedure: ...
@overload
def procedure(
    *,
    timeout: float | None = None,
    uid: Name | None = None,
    gid: Name | Sequence[Name] | None = None,
) -> Callable[[Callable[..., Any]], Procedure]: ...
def procedure(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a function that returns its result; see `Procedure` for the options."""
    return _marked(Procedure, function, options)


@overload
def streaming_procedure(function: Callable[..., Any], /) -> StreamingProcedure: ...
@overload
def streaming_procedure(
    *,
    timeout: float | None = None,
    uid: Name | None = None,
    gid: Name | Sequence[Name] | None = None,
) -> Callable[[Callable[..., Any]], StreamingProcedure]: ...
def streaming_procedure(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a function that yields packets and may yield a `Result` last; see `Procedure`.

    Without a `Result` the result is null.
    """
    return _marked(StreamingProcedure, function, options)


def _marked(
    kind: type[Procedure], function: Callable[..., Any] | None, options: dict[str, Any]
) -> Any:
    if function is not None:
        return kind(function)
    kind(_nothing, **options)  # wrong options are seen where they are written
    return lambda function: kind(function, **options)


def _positive(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isfinite(value) and value > 0


def _nothing() -> None:
    pass

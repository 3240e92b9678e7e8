"""How a function's mode is found out: in threads, in asyncio, or on a reactor of Twisted's.

A plain function tells only by what it returns. Its call is therefore run on the caller's thread,
and watched: when a Deferred or something of asyncio's comes up, the program is handed over where it
stands.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from holdfast import ops

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.ops import Program

__all__ = [
    "KNOWN",
    "VALUES",
    "Handover",
    "begun",
    "is_awaited",
    "is_deferred",
    "is_for_asyncio",
    "is_for_twisted",
    "is_pending",
    "name_of",
    "underlying",
    "watched",
]


def name_of(function: Any) -> str:
    """Return the name of a function; of a partial one, or an object, without what it holds."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) and name else type(function).__qualname__


def underlying(function: Any) -> Any:
    """Return the function that is run when a partial one, or an object, is called."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return type(function).__call__


#: Kinds of results that are nothing but themselves.
VALUES = frozenset({type(None), bool, int, float, str, bytes, tuple, list, dict, set})

#: The same, and those that `is_pending` has found not to be pending, so that it looks once.
KNOWN: set[type] = set(VALUES)
_MOST_KNOWN = 500


def is_pending(value: Any) -> bool:
    """Tell whether a value has yet to come: a Deferred, a coroutine or a future of asyncio's."""
    kind = value.__class__
    if kind in KNOWN:
        return False
    if is_deferred(value) or is_awaited(value):
        return True
    if len(KNOWN) < _MOST_KNOWN:
        KNOWN.add(kind)
    return False


def is_deferred(value: Any) -> bool:
    """Tell whether a value is a Deferred, without importing Twisted."""
    defer = sys.modules.get("twisted.internet.defer")
    return defer is not None and isinstance(value, defer.Deferred)


def is_awaited(value: Any) -> bool:
    """Tell whether a value is a coroutine or a future of asyncio's.

    Other awaitables may be more than that, such as a context manager, and are left alone.
    """
    return isinstance(value, CoroutineType) or asyncio.isfuture(value)


def is_for_asyncio(function: Callable[..., Any]) -> bool:
    """Tell whether a function, or one that it wraps, is a coroutine function."""
    inner = inspect.unwrap(underlying(function), stop=inspect.iscoroutinefunction)
    return inspect.iscoroutinefunction(underlying(inner))


def is_for_twisted(function: Callable[..., Any]) -> bool:
    """Tell whether a function says itself that it returns a Deferred."""
    function = underlying(function)
    if _is_of_twisted(inspect.unwrap(function, stop=_is_of_twisted)):
        return True  # inlineCallbacks, for one
    annotation = getattr(function, "__annotations__", {}).get("return")
    if isinstance(annotation, str):
        return annotation.partition("[")[0].rpartition(".")[2] == "Deferred"
    origin = getattr(annotation, "__origin__", annotation)
    return getattr(origin, "__module__", "") == "twisted.internet.defer"


def _is_of_twisted(function: Any) -> bool:
    names = getattr(function, "__globals__", {})
    return names.get("__name__") == "twisted.internet.defer"


class Handover:
    """A program that stands before a Deferred, a coroutine or a future."""

    __slots__ = ("_program", "pending", "rest")

    def __init__(self, program: Program[Any], pending: Any, deadline: float) -> None:
        self._program = program
        self.pending = pending
        #: The program that is left.
        self.rest = _continued(program, ops.Invoke(partial(_same, pending), deadline=deadline))

    def close(self) -> None:
        """Have the program give back what it holds, instead of running the rest of it."""
        self._program.close()


def watched(program: Program[Any]) -> Program[Any]:
    """Run a program, until it is over or a function returns what has yet to come."""
    step: Callable[[Any], Any] = program.send
    value: Any = None
    try:
        while True:
            try:
                operation = step(value)
            except StopIteration as stop:
                return stop.value
            step = program.send
            try:
                value = yield operation
            except BaseException as error:
                value, step = error, program.throw
            else:
                if operation.__class__ is ops.Invoke and is_pending(value):
                    return Handover(program, value, operation.deadline)
    finally:
        value = None  # an exception must not keep its own frame alive


def begun(program: Program[Any]) -> Program[Any]:
    """Take the first step of a program, and return the rest of it.

    What a program holds when it is made, it gives back only once it has begun; the rest of it may
    be dropped without ever being run, as a coroutine that nobody awaits.
    """
    try:
        operation = program.send(None)
    except StopIteration as stop:
        return _over(stop.value, None)
    except Exception as error:
        return _over(None, error)
    return _continued(program, operation)


def _over(result: Any, error: Exception | None) -> Program[Any]:
    yield from ()
    if error is not None:
        raise error
    return result


def _continued(program: Program[Any], operation: Any) -> Program[Any]:
    """Run the rest of a program that stands before an operation."""
    step: Callable[[Any], Any]
    value: Any = None
    try:
        while True:
            try:
                value = yield operation
            except BaseException as error:
                value, step = error, program.throw
            else:
                step = program.send
            try:
                operation = step(value)
            except StopIteration as stop:
                return stop.value
    finally:
        value = None


def _same(value: Any) -> Any:
    return value

"""How a function's mode is found out: in threads, in asyncio, or on a reactor of Twisted's.

A plain function tells only by what it returns. Its call is therefore run on the caller's thread,
and watched: when a Deferred comes up, the program is handed over where it stands.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast import ops

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.ops import Program

__all__ = ["Handover", "continued", "is_deferred", "is_for_twisted", "watched"]


def is_deferred(value: Any) -> bool:
    """Tell whether a value is a Deferred, without importing Twisted."""
    defer = sys.modules.get("twisted.internet.defer")
    return defer is not None and isinstance(value, defer.Deferred)


def is_for_twisted(function: Callable[..., Any]) -> bool:
    """Tell whether a function says itself that it returns a Deferred."""
    inner = inspect.unwrap(function, stop=_is_of_twisted)
    if _is_of_twisted(inner):
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
    """A program that stands before a Deferred."""

    __slots__ = ("deadline", "deferred", "program")

    def __init__(self, program: Program[Any], deferred: Any, deadline: float) -> None:
        self.program = program
        self.deferred = deferred
        self.deadline = deadline


def watched(program: Program[Any]) -> Program[Any]:
    """Run a program, until it is over or a function that it calls returns a Deferred."""
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
                if operation.__class__ is ops.Invoke and is_deferred(value):
                    return Handover(program, value, operation.deadline)
    finally:
        value = None  # an exception must not keep its own frame alive


def continued(handover: Handover) -> Program[Any]:
    """Run the rest of a program that was handed over."""
    program = handover.program
    operation: Any = ops.Invoke(partial(_same, handover.deferred), deadline=handover.deadline)
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

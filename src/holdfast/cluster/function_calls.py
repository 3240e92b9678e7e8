"""One call of a function, and what becomes of what it raises."""

from __future__ import annotations

import inspect
from functools import partial
from math import inf
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from holdfast import ops
from holdfast.cluster.calls import Call
from holdfast.cluster.modes import underlying
from holdfast.errors import DeadlineExceeded, HoldfastError
from holdfast.policy.deadline import OUTER

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from holdfast.cluster.endpoints import Endpoint
    from holdfast.cluster.functions import FunctionCore
    from holdfast.ops import Program

__all__ = ["FunctionCall", "FunctionFailed", "within", "within_async"]


class FunctionFailed(HoldfastError):
    """What a function raised, with what the policy makes of it."""

    def __init__(self, error: Exception, retryable: bool, fault: bool) -> None:
        try:
            text = str(error)
        except Exception:  # it is the user's, and must not be lost to another one
            text = "(it cannot be shown)"
        super().__init__(f"{type(error).__name__}: {text}")
        self.error = error
        self.retryable = retryable
        self.fault = fault


class FunctionCall(Call[Any]):
    """The call of a function with its arguments."""

    elsewhere = False

    def __init__(
        self,
        core: FunctionCore,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        began: float | None = None,
    ) -> None:
        super().__init__(core, core.clock() if began is None else began, core.policy.timeout)
        self._core = core
        self._function = function
        self._arguments = arguments
        self._keywords = keywords
        # A plain function runs to its end: nothing could run beside it.
        self.hedgeable = inspect.iscoroutinefunction(underlying(function))

    def subject(self) -> str:
        """Return the function's name."""
        return self._core.name

    def name(self) -> tuple[str, str]:
        """Return the function's name, which has no method."""
        return "", self._core.name

    def send(
        self, endpoint: Endpoint, until: float, number: int, started: Any = None
    ) -> Program[Any]:
        """Call the function; ``started`` holds what it has returned already."""
        outer = (until, self.caller.clock)
        if started is not None:
            if until < inf and started[0].__class__ is CoroutineType:
                started = (_finished_within(outer, started[0]),)
            return (yield ops.Invoke(started.__getitem__, 0, deadline=until))
        function = target = self.target(endpoint, until, number)
        keywords = self._keywords
        if until < inf:
            within = within_async if self.hedgeable else _within_either
            function = partial(within, outer, target)
        if keywords:
            function = partial(function, **keywords)
        return (yield ops.Invoke(function, *self._arguments, deadline=until))

    def target(self, endpoint: Endpoint, until: float, number: int) -> Callable[..., Any]:
        """Return what is called with the arguments in an attempt."""
        return self._function

    def failure(self, error: Exception, endpoint: Endpoint, until: float) -> HoldfastError:
        """Return what the function raised, or that the time was over."""
        now = self.caller.clock()
        if isinstance(error, TimeoutError) and now >= until and not error.args:
            return DeadlineExceeded(f"{endpoint.name}: it did not end before the deadline")
        if isinstance(error, HoldfastError):
            # A call within has seen to its own retries; what may have been carried out stays so.
            return FunctionFailed(error, error.retryable and not error.sent, error.fault)
        retry = self.caller.policy.retry
        retryable = retry is not None and isinstance(error, retry.exceptions)
        return FunctionFailed(error, retryable, True)

    def identity(self) -> Hashable:
        """Return the arguments, when they can be compared."""
        identity = (self._arguments, tuple(sorted(self._keywords.items())))
        try:
            hash(identity)
        except TypeError:
            return None
        return identity

    def give_up(self, error: HoldfastError, why: str) -> Exception:
        """Return what the function raised, with a note of the attempts, or an error of ours."""
        if not isinstance(error, FunctionFailed):
            return super().give_up(error, why)
        own = error.error
        if len(self.made) > 1:
            tried = "; ".join(str(attempt) for attempt in self.made)
            reason = f" ({why})" if why else ""
            own.add_note(f"{self._core.name}: {len(self.made)} attempts{reason}: {tried}")
        return own


def within(
    outer: tuple[float, Callable[[], float]], function: Callable[..., Any], /, *args: Any, **kw: Any
) -> Any:
    """Call a function whose own calls have no more time than is left."""
    token = OUTER.set(outer)
    try:
        return function(*args, **kw)
    finally:
        OUTER.reset(token)


async def within_async(
    outer: tuple[float, Callable[[], float]], function: Callable[..., Any], /, *args: Any, **kw: Any
) -> Any:
    """Await a function whose own calls have no more time than is left."""
    token = OUTER.set(outer)
    try:
        return await function(*args, **kw)
    finally:
        OUTER.reset(token)


def _within_either(
    outer: tuple[float, Callable[[], float]], function: Callable[..., Any], /, *args: Any, **kw: Any
) -> Any:
    """Call a function of which is not known whether it returns a coroutine."""
    result = within(outer, function, *args, **kw)
    return _finished_within(outer, result) if result.__class__ is CoroutineType else result


async def _finished_within(
    outer: tuple[float, Callable[[], float]], coroutine: CoroutineType[Any, Any, Any]
) -> Any:
    token = OUTER.set(outer)
    try:
        return await coroutine
    finally:
        OUTER.reset(token)

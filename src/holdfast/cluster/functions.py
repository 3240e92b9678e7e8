"""Functions that survive: a function is called as an endpoint is."""

from __future__ import annotations

import inspect
import random as random_module
from functools import partial, update_wrapper
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast import ops
from holdfast.cluster.balancing import PowerOfTwo
from holdfast.cluster.caller import Caller
from holdfast.cluster.calls import Call
from holdfast.cluster.endpoints import Endpoint, EndpointSet
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from holdfast.drivers.expiry import Expiry
from holdfast.errors import DeadlineExceeded, HoldfastError
from holdfast.policy.deadline import OUTER

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from holdfast.ops import Program
    from holdfast.policy import Policy

__all__ = [
    "FunctionCall",
    "FunctionCore",
    "FunctionFailed",
    "decorated",
    "guarded",
    "name_of",
    "underlying",
]

F = TypeVar("F", bound="Callable[..., Any]")


class FunctionFailed(HoldfastError):
    """What a function raised, with what the policy makes of it."""

    def __init__(self, error: Exception, retryable: bool, fault: bool) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error
        self.retryable = retryable
        self.fault = fault


class FunctionCore(Caller):
    """A function under a policy: the state that its calls share.

    ``name`` is for messages and events; ``clock`` returns seconds, ``random`` numbers from 0 to 1.
    """

    #: Tells whether a result that is not None has to be judged before it is one.
    questionable: Callable[[Any], bool] | None = None
    #: Runs the program of a call, for plain functions.
    run: Callable[[Program[Any]], Any] = staticmethod(blocking.run)

    def __init__(
        self,
        policy: Policy,
        name: str,
        *,
        clock: Callable[[], float] = monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        super().__init__(policy, PowerOfTwo(), clock=clock, random=random)
        self.name = name
        self.endpoint = self.watch(Endpoint(name, policy))
        endpoint = self.endpoint
        self.call_endpoints(EndpointSet(lambda host: endpoint, [name], None))
        self._limited = policy.limit is not None
        # Seconds that the first attempt has, infinity without a limit.
        self.first_timeout = min(policy.timeout or inf, self.attempt_timeout or inf)
        special = (
            self.limiter,
            self.admission,
            self.latencies,
            self.flights,
            self.stale,
            self.endpoint.adaptive,
        )
        self._special = bool(policy.faults) or any(part is not None for part in special)
        self.plain = not self._special

    def call(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Program[Any]:
        """Call a function, and again where that fails, within the policy."""
        return self.new_call(function, arguments, keywords).run()

    def new_call(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        began: float | None = None,
    ) -> FunctionCall:
        """Return a call of a function, which may have begun already."""
        return FunctionCall(self, function, arguments, keywords, began)

    # An ordinary call is a first attempt that goes well: it needs no program.

    def first(
        self,
    ) -> tuple[Callable[[float], int] | None, Callable[[int, float], None] | None]:
        """Return how a first attempt begins and ends; None where there is nothing to do for it."""
        if self.endpoint.breaker is not None or self._limited:
            return self._begin, self._end
        if self.budget is not None:
            return self._begin, None
        return None if self.rate is None else self.rate.try_acquire, None

    def _begin(self, now: float) -> int:
        """Take what a first attempt needs, and return its permit; 0 when something is missing."""
        endpoint = self.endpoint
        permit = endpoint.permit
        if not permit or (self._limited and not endpoint.try_acquire()):
            return 0
        if self.rate is not None and not self.rate.try_acquire(now):
            if self._limited:
                endpoint.release()
            return 0
        if self.budget is not None:
            self.count(now)
        return permit

    def _end(self, permit: int, began: float) -> None:
        """Give back what a first attempt took that went well."""
        endpoint = self.endpoint
        now = self.clock()
        if not self._limited:
            self.endpoints.record(endpoint, permit, True, now, now - began)
        elif not endpoint.leave(permit, now):
            endpoint.release()
            self.endpoints.record(endpoint, permit, True, now, now - began)

    def cancelled(self, permit: int) -> None:
        """Give back what a first attempt took that came to no end."""
        if self._limited:
            self.endpoint.release()
        self.endpoints.record(self.endpoint, permit, None, self.clock())

    def go_on(
        self,
        call: FunctionCall,
        permit: int,
        began: float,
        error: Exception | None,
        started: tuple[Any] | None = None,
    ) -> Program[Any]:
        """Go on after a first attempt that failed, or has returned what ``started`` holds."""
        if not self._limited:
            self.endpoint.try_acquire()  # which the call gives back
        return call.resume(self.endpoint, permit, began, 1, started, error)


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
        if started is not None:
            return (yield ops.Invoke(started.__getitem__, 0, deadline=until))
        function = target = self.target(endpoint, until, number)
        keywords = self._keywords
        if until < inf:
            function = partial(_within, (until, self.caller.clock), target)
            if self.hedgeable:
                function = partial(_within_async, (until, self.caller.clock), target)
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


def _within(
    outer: tuple[float, Callable[[], float]], function: Callable[..., Any], /, *args: Any, **kw: Any
) -> Any:
    """Call a function whose own calls have no more time than is left."""
    token = OUTER.set(outer)
    try:
        return function(*args, **kw)
    finally:
        OUTER.reset(token)


async def _within_async(
    outer: tuple[float, Callable[[], float]], function: Callable[..., Any], /, *args: Any, **kw: Any
) -> Any:
    token = OUTER.set(outer)
    try:
        return await function(*args, **kw)
    finally:
        OUTER.reset(token)


def decorated(policy: Policy, function: F) -> F:
    """Return the function under a policy; see `Policy.__call__`.

    ``core`` of what it returns is the state, with the breaker and the listeners. Raises ValueError
    for what is no function, or is one whose work begins after the call.
    """
    if not callable(function):
        raise ValueError(f"Policy: it decorates functions, not {function!r}")
    name = name_of(function)
    called = underlying(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise ValueError(f"Policy: {name} is a generator, whose work begins after its call")
    return guarded(FunctionCore(policy, name), function)  # type: ignore[no-any-return]


def guarded(core: FunctionCore, function: Callable[..., Any]) -> Any:
    """Return the function whose calls go through a core, which it has as its ``core``."""
    wrap = _coroutine if inspect.iscoroutinefunction(underlying(function)) else _plain
    wrapper: Any = wrap(core, function)
    update_wrapper(wrapper, function)
    wrapper.core = core
    return wrapper


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


def _plain(core: FunctionCore, function: Callable[..., Any]) -> Callable[..., Any]:
    clock = core.clock
    begin, end = core.first()
    timeout = core.first_timeout
    timed = timeout < inf
    questionable = core.questionable

    def wrapper(*args: Any, **keywords: Any) -> Any:
        began = clock()
        permit = 0
        # An outer deadline is the business of who set it, unless there are two to be compared.
        if core.plain and (not timed or OUTER.get() is None):
            permit = 1 if begin is None else begin(began)
        if not permit:
            return core.run(core.call(function, args, keywords))
        try:
            if timed:
                result = _within((began + timeout, clock), function, *args, **keywords)
            else:
                result = function(*args, **keywords)
        except Exception as error:
            call = core.new_call(function, args, keywords, began)
            program = core.go_on(call, permit, began, error)
        except BaseException:
            core.cancelled(permit)
            raise
        else:
            if questionable is None or result is None or not questionable(result):
                if end is not None:
                    end(permit, began)
                return result
            call = core.new_call(function, args, keywords, began)
            program = core.go_on(call, permit, began, None, (result,))
        return core.run(program)

    return wrapper


def _coroutine(core: FunctionCore, function: Callable[..., Any]) -> Callable[..., Any]:
    clock = core.clock
    begin, end = core.first()
    timeout = core.first_timeout
    timed = timeout < inf
    questionable = core.questionable
    checked = questionable is not None or end is not None
    outer = OUTER.get

    async def wrapper(*args: Any, **keywords: Any) -> Any:
        began = clock()
        # An outer deadline may be the nearer one, or the only one.
        if not core.plain or outer() is not None:
            return await asyncio_driver.run(core.call(function, args, keywords))
        permit = 1 if begin is None else begin(began)
        if not permit:
            return await asyncio_driver.run(core.call(function, args, keywords))
        try:
            if timed:
                until = began + timeout
                async with Expiry(until):
                    result = await _within_async((until, clock), function, *args, **keywords)
            else:
                result = await function(*args, **keywords)
            if not checked:
                return result
        except Exception as error:
            call = core.new_call(function, args, keywords, began)
            program = core.go_on(call, permit, began, error)
        except BaseException:
            core.cancelled(permit)
            raise
        else:
            if questionable is None or result is None or not questionable(result):
                if end is not None:
                    end(permit, began)
                return result
            call = core.new_call(function, args, keywords, began)
            program = core.go_on(call, permit, began, None, (result,))
        return await asyncio_driver.run(program)

    return wrapper

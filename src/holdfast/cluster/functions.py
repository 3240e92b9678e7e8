"""Functions that survive: a function is called as an endpoint is.

An ordinary call is a first attempt that goes well, and needs no program; what else happens is the
business of one. A plain function may return what has yet to come, too: then its program goes on in
asyncio, from where it stands.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random as random_module
from functools import update_wrapper
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.cluster.balancing import PowerOfTwo
from holdfast.cluster.caller import Caller
from holdfast.cluster.endpoints import Endpoint, EndpointSet
from holdfast.cluster.function_calls import FunctionCall, FunctionFailed, within, within_async
from holdfast.cluster.modes import (
    KNOWN,
    VALUES,
    Handover,
    begun,
    is_deferred,
    is_for_twisted,
    is_pending,
    name_of,
    underlying,
    watched,
)
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from holdfast.drivers.expiry import Expiry
from holdfast.policy.deadline import OUTER

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.ops import Program
    from holdfast.policy import Policy

__all__ = [
    "FunctionCall",
    "FunctionCore",
    "FunctionFailed",
    "decorated",
    "guarded",
]

F = TypeVar("F", bound="Callable[..., Any]")

_log = logging.getLogger("holdfast")

_DEFERRED = (
    "a Deferred, which a policy alone cannot wait for: decorate it with "
    "holdfast.drivers.twisted.Driver().under(policy)"
)


class FunctionCore(Caller):
    """A function under a policy: the state that its calls share.

    ``name`` is for messages and events; ``clock`` returns seconds, ``random`` numbers from 0 to 1.
    """

    #: Tells whether a result that is not None has to be judged before it is one.
    questionable: Callable[[Any], bool] | None = None
    #: Whether the function, be it a plain one, is known to return what is awaited.
    awaited = False
    #: Whether that is a future, which goes on before it is awaited.
    scheduled = False

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

    # Running, for plain functions.

    def run(self, program: Program[Any]) -> Any:
        """Run a call on this thread; as a coroutine if that is what the function returns."""
        if self.awaited:
            coming = asyncio_driver.run(begun(program))
            return asyncio.ensure_future(coming) if self.scheduled else coming
        result = blocking.run(watched(program))
        return self.hand_over(result) if isinstance(result, Handover) else result

    def hand_over(self, call: Handover) -> Any:
        """Go on with a call whose function has returned what has yet to come."""
        pending = call.pending
        if is_deferred(pending):
            call.close()
            _dismiss(pending)
            raise TypeError(f"Policy: {self.name} returned {_DEFERRED}")
        self.awaited = True
        coming = asyncio_driver.run(call.rest)
        self.scheduled = asyncio.isfuture(pending)
        if self.scheduled:
            return asyncio.ensure_future(coming, loop=pending.get_loop())
        return coming

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


def _dismiss(deferred: Any) -> None:
    """Cancel a Deferred that nobody will have, quietly."""
    deferred.addErrback(lambda failure: None)
    try:
        deferred.cancel()
    except Exception:
        _log.exception("a Deferred could not be cancelled")


def decorated(policy: Policy, function: F) -> F:
    """Return the function under a policy; see `Policy.__call__`.

    ``core`` of what it returns is the state, with the breaker and the listeners. Raises ValueError
    for what is no function, or is one whose work begins after the call, or in Twisted.
    """
    if not callable(function):
        raise ValueError(f"Policy: it decorates functions, not {function!r}")
    name = name_of(function)
    called = underlying(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise ValueError(f"Policy: {name} is a generator, whose work begins after its call")
    # Who waits for Deferreds, as `Driver.under` does, says so.
    if is_for_twisted(function) and not getattr(function, "later", False):
        raise ValueError(f"Policy: {name} returns {_DEFERRED}")
    return guarded(FunctionCore(policy, name), function)  # type: ignore[no-any-return]


def guarded(core: FunctionCore, function: Callable[..., Any]) -> Any:
    """Return the function whose calls go through a core, which it has as its ``core``."""
    wrap = _coroutine if inspect.iscoroutinefunction(underlying(function)) else _plain
    wrapper: Any = wrap(core, function)
    update_wrapper(wrapper, function)
    wrapper.core = core
    return wrapper


def _plain(core: FunctionCore, function: Callable[..., Any]) -> Callable[..., Any]:
    clock = core.clock
    begin, end = core.first()
    timeout = core.first_timeout
    timed = timeout < inf
    # Kinds of results that need no further look.
    values: frozenset[type] | set[type] = VALUES
    questionable = core.questionable
    if questionable is None:
        questionable, values = is_pending, KNOWN

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
                result = within((began + timeout, clock), function, *args, **keywords)
            else:
                result = function(*args, **keywords)
        except Exception as error:
            call = core.new_call(function, args, keywords, began)
            program = core.go_on(call, permit, began, error)
        except BaseException:
            core.cancelled(permit)
            raise
        else:
            if result is None or result.__class__ in values or not questionable(result):
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
                    result = await within_async((until, clock), function, *args, **keywords)
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

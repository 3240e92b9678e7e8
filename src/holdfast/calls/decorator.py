"""`fault_tolerant`."""

from __future__ import annotations

import inspect
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from holdfast.calls.balancers import balancer_of
from holdfast.calls.call import Call
from holdfast.calls.dependency import Dependency
from holdfast.calls.parameters import named, of_type, without
from holdfast.calls.services import services_of
from holdfast.calls.settings import Settings
from holdfast.cluster.functions import guarded
from holdfast.cluster.modes import is_for_asyncio, is_for_twisted, name_of, underlying

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fault_tolerant"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound="Callable[..., Any]")


class Decorator(Protocol):
    """What `fault_tolerant` with arguments returns."""

    @overload
    def __call__(self, function: Callable[Concatenate[Call, P], R], /) -> Callable[P, R]: ...

    @overload
    def __call__(self, function: F, /) -> F: ...

    def __call__(self, function: Any, /) -> Any:
        """Decorate a function."""


@overload
def fault_tolerant(dependency_id: Callable[Concatenate[Call, P], R], /) -> Callable[P, R]: ...


@overload
def fault_tolerant(dependency_id: F, /) -> F: ...


@overload
def fault_tolerant(
    dependency_id: str | None = None,
    reactor: Any = None,
    circuit_reset_timeout: float = 10,
    load_balancer: Any = None,
    http_pool_size: int = 10,
    fallback: Callable[..., Any] | None = None,
    timeout: float | None = 5,
    retry_attempts: int = 3,
    max_open_per_netloc: int = 10,
    retry_on_timeout: bool = False,
    expected_in: float | None = None,
    statsd: Any = None,
    use_proxy: bool = False,
    context_factory: Any = None,
    connect_timeout: float | None = 1,
    *,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
) -> Decorator: ...


def fault_tolerant(
    dependency_id: Any = None,
    reactor: Any = None,
    circuit_reset_timeout: float = 10,
    load_balancer: Any = None,
    http_pool_size: int = 10,
    fallback: Callable[..., Any] | None = None,
    timeout: float | None = 5,
    retry_attempts: int = 3,
    max_open_per_netloc: int = 10,
    retry_on_timeout: bool = False,
    expected_in: float | None = None,
    statsd: Any = None,
    use_proxy: bool = False,
    context_factory: Any = None,
    connect_timeout: float | None = 1,
    *,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
) -> Any:
    """Wrap a function so that its calls survive: timeouts, retries, balancing, a way out.

    The decorator goes, with arguments or without, on a plain function, an ``async def``, or a
    function that returns a Deferred; what the wrapped function returns is of the same kind. A
    parameter annotated `Call`, or named ``call``, is given the `Call` of each attempt; the other
    arguments and the results pass through untouched. ``core`` of the wrapped function is its
    state: ``core.listen(listener)`` for events, ``core.close()`` for its kept connections.

    ``dependency_id``: the name in statistics, logs and errors, by default the function's.
    ``reactor``: makes it Twisted mode, on this reactor. ``circuit_reset_timeout``: seconds after
    which an open circuit lets one probe through. ``load_balancer``: a function that returns a
    ``(protocol, netloc)`` pair, a `RoundRobin`, a `LeastLoaded` or a `Cluster`; each attempt asks
    again, and avoids netlocs that failed in this call or whose circuit is open.
    ``http_pool_size``: connections to each server through ``call.http``. ``fallback``: called with
    the same arguments, and with the exception if it has a parameter ``error``, when all failed;
    what it returns is the result. ``timeout``: seconds for the whole call, retries and waits
    included; a plain function is not interrupted, but not repeated after it. ``retry_attempts``:
    further attempts after the first one. ``max_open_per_netloc``: calls at once at each netloc;
    others wait in order of arrival. ``retry_on_timeout``: whether a timeout is worth a retry.
    ``expected_in``: seconds; when half of the last calls take as long, the circuit opens.
    ``statsd``: an object with ``incr``, ``timing`` and ``gauge``. ``use_proxy``: honour
    ``http_proxy``, ``https_proxy`` and ``no_proxy``. ``context_factory``: an ``ssl.SSLContext``,
    in Twisted mode a context factory. ``connect_timeout``: seconds to connect. ``retry_on``:
    further exceptions that are worth a retry, besides `Retryable`.

    Retried are connection failures, the statuses 502, 503 and 504, returned or raised, and what
    the caller names; not when a request that is not idempotent may have been carried out.

    Raises ValueError or TypeError for arguments that make no sense; a call raises what the
    function raised last, with the attempts in its ``attempts`` and notes, CircuitOpenError when
    no netloc may be called, and DeadlineExceeded, a TimeoutError, when the time is over.
    """
    arguments: dict[str, Any] = {
        "reactor": reactor,
        "circuit_reset_timeout": circuit_reset_timeout,
        "load_balancer": load_balancer,
        "http_pool_size": http_pool_size,
        "fallback": fallback,
        "timeout": timeout,
        "retry_attempts": retry_attempts,
        "max_open_per_netloc": max_open_per_netloc,
        "retry_on_timeout": retry_on_timeout,
        "expected_in": expected_in,
        "statsd": statsd,
        "use_proxy": use_proxy,
        "context_factory": context_factory,
        "connect_timeout": connect_timeout,
        "retry_on": retry_on,
    }
    if callable(dependency_id):
        return _decorated(dependency_id, None, arguments)
    # Now, so that what is wrong is said in the line where it stands.
    Settings(dependency_id=dependency_id if dependency_id is not None else "function", **arguments)
    balancer_of(load_balancer)

    def decorate(function: Any) -> Any:
        return _decorated(function, dependency_id, arguments)

    return decorate


def _decorated(function: Any, name: str | None, arguments: dict[str, Any]) -> Any:
    if not callable(function):
        raise TypeError(f"fault_tolerant: it decorates functions, not {function!r}")
    shown = name_of(function)
    called = underlying(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise TypeError(
            f"fault_tolerant: {shown} is a generator, whose work begins after its call (for "
            "Twisted, inlineCallbacks goes below fault_tolerant)"
        )
    settings = Settings(dependency_id=shown if name is None else name, **arguments)
    driver = _driver_for(settings, function)
    slot = of_type(function, Call, "call")
    fallback = settings.fallback
    core = Dependency(
        settings,
        services_of(settings, is_for_asyncio(function), driver),
        balancer=balancer_of(settings.load_balancer),
        slot=slot,
        error_slot=named(fallback, "error") if fallback is not None else None,
        driver=driver,
        awaited=driver is None and inspect.iscoroutinefunction(called),
    )
    if settings.statsd is not None:
        from holdfast.telemetry.statsd import Statsd

        core.listen(Statsd(settings.statsd, settings.dependency_id))
    wrapper = guarded(core, function) if driver is None else _deferring(core, function)
    if slot is not None:
        wrapper.__signature__ = without(function, slot)
    return wrapper


def _driver_for(settings: Settings, function: Any) -> Any:
    """Return Twisted's driver when the function is for Twisted, else None."""
    if settings.reactor is None and not is_for_twisted(function):
        return None
    from holdfast.drivers.twisted import Driver

    return Driver(settings.reactor)


def _deferring(core: Dependency, function: Callable[..., Any]) -> Any:
    def wrapper(*args: Any, **keywords: Any) -> Any:
        return core.driver.run(core.call(function, args, keywords))

    update_wrapper(wrapper, function)
    wrapper.core = core  # type: ignore[attr-defined]
    return wrapper

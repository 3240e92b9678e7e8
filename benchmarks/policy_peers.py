"""Who guards a function against failing: holdfast's policies, and what people use today.

Every decorator is told the same where it can be told: three attempts for the errors of a network
with random waits that grow from 25 ms to 1 s, five failures in a row to open a circuit, a hundred
calls at once, five seconds. None of it happens, since the function that they guard does nothing:
what is measured is the price of being ready.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

Function = Callable[[], Any]
Decorator = Callable[[Function], Function]

ERRORS = (ConnectionError, TimeoutError)
ATTEMPTS, BASE, CAP = 3, 0.025, 1.0
FAILURES, OPEN_FOR = 5, 10.0
CALLS, QUEUE = 100, 100
SECONDS = 5.0
#: More than anybody can make, so that no rate limit ever says no.
PER_SECOND = 1e9

BARE = "bare call"
DEFAULT = "default stack"
EVERYTHING = "everything"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row: a policy, who brings it, and how a function gets it."""

    policy: str
    name: str
    decorate: Decorator
    ours: bool = False
    together: bool = False
    """Whether it is several policies at once."""


def entries(asynchronous: bool) -> list[Entry]:
    """List who takes part, ours first in each policy; the first row is the function alone."""
    peers = [*BOTH, *(ASYNCHRONOUS if asynchronous else SYNCHRONOUS)]
    found = [Entry(BARE, BARE, lambda function: function)]
    for policy, parts in OURS.items():
        together = policy in (DEFAULT, EVERYTHING)
        ours = partial(guarded, parts)
        found.append(Entry(policy, f"holdfast: {policy}", ours, ours=True, together=together))
        found += [peer for peer in peers if peer.policy == policy]
    return found


# --- holdfast ---------------------------------------------------------------------------------


def guarded(parts: Callable[[], dict[str, Any]], function: Function) -> Function:
    """Guard the function by a policy of these parts alone."""
    from holdfast import Policy

    on = {field.name: field.default for field in dataclasses.fields(Policy)}
    # Whatever a policy has without being asked is turned off, and then what is measured turned on.
    off = {name: None for name, default in on.items() if default}
    decorated: Function = Policy(**{**off, **parts()})(function)
    return decorated


def default() -> dict[str, Any]:
    """Return what a policy consists of when nothing is said."""
    from holdfast import Policy

    return {field.name: field.default for field in dataclasses.fields(Policy)}


def everything() -> dict[str, Any]:
    """Return a policy of all parts."""
    parts = default()
    for policy, one in OURS.items():
        if policy not in (DEFAULT, EVERYTHING, "limit"):  # its place is the adaptive limit's
            parts |= one()
    return parts


def part(field: str, kind: str, **values: Any) -> Callable[[], dict[str, Any]]:
    """Return what makes one part of a policy."""

    def parts() -> dict[str, Any]:
        from holdfast import policy

        if not hasattr(policy, kind):
            raise ImportError(f"holdfast.policy has no {kind}")
        return {field: getattr(policy, kind)(**values)}

    return parts


def retry_with_budget() -> dict[str, Any]:
    """Return retries and what bounds their number."""
    return {**part("retry", "Retry")(), **part("budget", "Budget")()}


def faults() -> dict[str, Any]:
    """Return a fault that matches every call and meets next to none."""
    from holdfast.policy.injection import Fault

    return {"faults": (Fault(share=1e-12, error=ConnectionError),)}


OURS: dict[str, Callable[[], dict[str, Any]]] = {
    "deadline": lambda: {"timeout": SECONDS},
    "retry": part("retry", "Retry"),
    "retry and budget": retry_with_budget,
    "breaker": part("breaker", "Breaker"),
    "breaker over the last 100 calls": part("breaker", "Breaker", last=100),
    "breaker of slow calls": part("breaker", "Breaker", slow_after=1.0),
    "limit": part("limit", "Limit", calls=CALLS, queue=QUEUE),
    "adaptive limit": part("limit", "AdaptiveLimit"),
    "rate limit": part("rate", "RateLimit", per_second=PER_SECOND),
    "admission": part("admission", "Admission"),
    "hedge": part("hedge", "Hedge"),
    "fallback": part("fallback", "Fallback", value=None),
    "coalescing": part("coalesce", "Coalesce"),
    "fault injection": faults,
    DEFAULT: default,
    EVERYTHING: everything,
}


# --- peers ------------------------------------------------------------------------------------


def stamina(function: Function) -> Function:
    """Retry by stamina, which is cheaper without its limit of time."""
    import stamina

    return stamina.retry(
        on=ERRORS, attempts=ATTEMPTS, timeout=None, wait_initial=BASE, wait_max=CAP
    )(function)


def tenacity(function: Function) -> Function:
    """Retry by tenacity."""
    import tenacity

    return tenacity.retry(
        retry=tenacity.retry_if_exception_type(ERRORS),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=BASE, max=CAP),
        reraise=True,
    )(function)


def hyx_retry(function: Function) -> Function:
    """Retry by hyx."""
    from hyx.retry import retry

    return retry(on=ERRORS, attempts=ATTEMPTS, backoff=BASE)(function)


def pybreaker(function: Function) -> Function:
    """Break the circuit by pybreaker."""
    import pybreaker

    breaker = pybreaker.CircuitBreaker(fail_max=FAILURES, reset_timeout=OPEN_FOR)
    decorated: Function = breaker(function)
    return decorated


def aiobreaker(function: Function) -> Function:
    """Break the circuit by aiobreaker."""
    from datetime import timedelta

    from aiobreaker import CircuitBreaker

    breaker = CircuitBreaker(fail_max=FAILURES, timeout_duration=timedelta(seconds=OPEN_FOR))
    decorated: Function = breaker(function)
    return decorated


def purgatory(function: Function) -> Function:
    """Break the circuit by purgatory, for plain functions."""
    from purgatory import SyncCircuitBreakerFactory

    breakers = SyncCircuitBreakerFactory(default_threshold=FAILURES, default_ttl=OPEN_FOR)
    decorated: Function = breakers("nothing")(function)
    return decorated


def purgatory_async(function: Function) -> Function:
    """Break the circuit by purgatory, for coroutines."""
    from purgatory import AsyncCircuitBreakerFactory

    breakers = AsyncCircuitBreakerFactory(default_threshold=FAILURES, default_ttl=OPEN_FOR)
    decorated: Function = breakers("nothing")(function)
    return decorated


def hyx_breaker(function: Function) -> Function:
    """Break the circuit by hyx."""
    from hyx.circuitbreaker import consecutive_breaker

    return consecutive_breaker(
        exceptions=ERRORS,
        failure_threshold=FAILURES,
        recovery_time_secs=OPEN_FOR,
        recovery_threshold=1,
    )(function)


def hyx_timeout(function: Function) -> Function:
    """Limit the time by hyx."""
    from hyx.timeout import timeout

    return timeout(SECONDS)(function)


def hyx_bulkhead(function: Function) -> Function:
    """Limit the calls at once by hyx."""
    from hyx.bulkhead import bulkhead

    return bulkhead(max_concurrency=CALLS, max_capacity=CALLS + QUEUE)(function)


def hyx_tokens(function: Function) -> Function:
    """Limit the rate by hyx, which asks no clock while there are tokens."""
    from hyx.ratelimit import tokenbucket

    return tokenbucket(max_executions=PER_SECOND, per_time_secs=1.0)(function)


def hyx_fallback(function: Function) -> Function:
    """Fall back on a value by hyx."""
    from hyx.fallback import fallback

    async def value(result: Any, *_: Any, **__: Any) -> None:
        """Return what stands in for an answer."""

    return fallback(value, on=ERRORS)(function)


def nested(*decorators: Decorator) -> Decorator:
    """Return one decorator that applies several, the outermost first."""

    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


BOTH = [
    Entry("retry", "stamina.retry", stamina),
    Entry("retry", "tenacity.retry", tenacity),
    Entry("breaker", "aiobreaker", aiobreaker),
]
SYNCHRONOUS = [
    Entry("breaker", "pybreaker", pybreaker),
    Entry("breaker", "purgatory", purgatory),
    Entry(DEFAULT, "stamina + pybreaker", nested(stamina, pybreaker), together=True),
    Entry(DEFAULT, "tenacity + pybreaker", nested(tenacity, pybreaker), together=True),
]
ASYNCHRONOUS = [
    Entry("deadline", "hyx.timeout", hyx_timeout),
    Entry("retry", "hyx.retry", hyx_retry),
    Entry("breaker", "purgatory", purgatory_async),
    Entry("breaker", "hyx.circuitbreaker", hyx_breaker),
    Entry("limit", "hyx.bulkhead", hyx_bulkhead),
    Entry("rate limit", "hyx.ratelimit", hyx_tokens),
    Entry("fallback", "hyx.fallback", hyx_fallback),
    Entry(DEFAULT, "stamina + aiobreaker", nested(stamina, aiobreaker), together=True),
    Entry(
        DEFAULT,
        "hyx: timeout, retry, breaker, bulkhead",
        nested(hyx_timeout, hyx_retry, hyx_breaker, hyx_bulkhead),
        together=True,
    ),
]

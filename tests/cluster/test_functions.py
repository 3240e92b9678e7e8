"""A policy decorates functions: what they do stays theirs, what happens around them is its."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from holdfast import Breaker, Budget, Limit, Policy, Retry, errors
from holdfast.cluster.functions import FunctionCore
from holdfast.drivers.simulated import World
from holdfast.policy import (
    AdaptiveLimit,
    Admission,
    Coalesce,
    Event,
    Fallback,
    Hedge,
    RateLimit,
)
from holdfast.policy.deadline import OUTER
from tests.conformance.drivers import LOOPS

EAGER = Retry(attempts=3, base=1e-9)

#: Policies that take each of the ways a call may go.
WAYS: dict[str, Policy] = {
    "default": Policy(retry=EAGER),
    "nothing": Policy(None, retry=EAGER, budget=None, breaker=None, limit=None),
    "untimed": Policy(None, retry=EAGER),
    "no-limit": Policy(retry=EAGER, limit=None),
    "no-breaker": Policy(retry=EAGER, breaker=None),
    "no-budget": Policy(retry=EAGER, budget=None),
    "rate": Policy(retry=EAGER, rate=RateLimit(1e6)),
    "rate-only": Policy(
        None, retry=EAGER, budget=None, breaker=None, limit=None, rate=RateLimit(1e6)
    ),
    "adaptive": Policy(retry=EAGER, limit=AdaptiveLimit()),
    "cluster-limit": Policy(retry=EAGER, cluster_limit=Limit(3)),
    "slow-calls": Policy(retry=EAGER, breaker=Breaker(slow_after=60)),
    "hedge": Policy(retry=EAGER, hedge=Hedge(after=60)),
    "coalesce": Policy(retry=EAGER, coalesce=Coalesce()),
    "fallback": Policy(retry=EAGER, fallback=Fallback("instead", on=(UnicodeError,))),
    "stale": Policy(retry=EAGER, fallback=Fallback(stale=60, on=(UnicodeError,))),
}


@pytest.fixture(params=WAYS)
def policy(request: pytest.FixtureRequest) -> Policy:
    """Give each of the policies."""
    return WAYS[request.param]


def core_of(function: Any) -> FunctionCore:
    """Return a decorated function's state."""
    core: FunctionCore = function.core
    return core


def idle(function: Any) -> bool:
    """Tell whether a decorated function's state holds nothing for any call."""
    core = core_of(function)
    limiter = core.limiter
    return core.endpoint.in_flight == core.endpoint.waiting == 0 and (
        limiter is None or limiter.in_flight == limiter.waiting == 0
    )


class Flaky:
    """What fails so many times, and then returns what it was given."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.left = failures
        self.error = error if error is not None else ConnectionError("lost")
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        self.calls.append((args, keywords))
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return args, keywords


def plain(policy: Policy, flaky: Flaky) -> Any:
    """Decorate a plain function."""

    @policy
    def work(*args: Any, **keywords: Any) -> Any:
        return flaky(*args, **keywords)

    return work


def asynchronous(policy: Policy, flaky: Flaky) -> Any:
    """Decorate an asynchronous function, and return one that awaits it."""

    @policy
    async def work(*args: Any, **keywords: Any) -> Any:
        await asyncio.sleep(0)
        return flaky(*args, **keywords)

    def call(*args: Any, **keywords: Any) -> Any:
        return asyncio.run(work(*args, **keywords))

    call.core = core_of(work)  # type: ignore[attr-defined]
    return call


@pytest.fixture(params=[plain, asynchronous])
def decorate(request: pytest.FixtureRequest) -> Any:
    """Give a way to decorate what may be flaky."""
    return request.param


def test_arguments_and_results_pass_unchanged(policy: Policy, decorate: Any) -> None:
    """By place and by name, also by the names that the decorator uses itself."""
    flaky = Flaky(0)
    work = decorate(policy, flaky)
    assert work() == ((), {})
    assert work(1, "b", c=3) == ((1, "b"), {"c": 3})
    taken = {"deadline": 1, "function": 2, "policy": 3, "error": 4, "outer": 5}
    assert work(**taken) == ((), taken)
    assert work(1, self=2, args=3, keywords=4, core=5) == (
        (1,),
        {"self": 2, "args": 3, "keywords": 4, "core": 5},
    )
    assert len(flaky.calls) == 4
    assert idle(work)


@pytest.mark.parametrize("value", [None, False, 0, "", (), NotImplemented])
def test_what_is_false_is_a_result(policy: Policy, value: Any) -> None:
    """A function that returns None has succeeded, once."""
    calls: list[int] = []

    @policy
    def work() -> Any:
        calls.append(1)
        return value

    @policy
    async def later() -> Any:
        calls.append(1)
        return value

    assert work() is value
    assert asyncio.run(later()) is value
    assert len(calls) == 2
    assert idle(work)


def test_what_fails_is_called_again(policy: Policy, decorate: Any) -> None:
    """As often as the policy has attempts, with the same arguments."""
    flaky = Flaky(2)
    work = decorate(policy, flaky)
    assert work(1, b=2) == ((1,), {"b": 2})
    assert flaky.calls == [((1,), {"b": 2})] * 3
    assert idle(work)


def test_an_error_is_raised_as_it_is(policy: Policy, decorate: Any) -> None:
    """The very object, with a note of the attempts where there were several."""
    error = ConnectionError("lost")
    work = decorate(policy, Flaky(99, error))
    with pytest.raises(ConnectionError) as caught:
        work()
    assert caught.value is error
    (note,) = error.__notes__
    assert "3 attempts" in note
    assert "ConnectionError: lost" in note
    assert idle(work)


def test_an_error_that_is_not_retryable_is_raised_at_once(policy: Policy, decorate: Any) -> None:
    """Without a note: there was one attempt, and nothing to tell."""
    error = KeyError("x")
    flaky = Flaky(99, error)
    work = decorate(policy, flaky)
    with pytest.raises(KeyError) as caught:
        work()
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert len(flaky.calls) == 1
    assert idle(work)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_is_not_caught(policy: Policy, kind: type[BaseException]) -> None:
    """Nor counted as a failure of the function."""
    work = plain(policy, Flaky(99, kind()))
    for _ in range(9):
        with pytest.raises(kind):
            work()
    assert idle(work)
    breaker = core_of(work).endpoint.breaker
    assert breaker is None or breaker.state == "closed"


def test_the_exceptions_of_the_policy_are_retried() -> None:
    """And their subclasses, and no others."""
    policy = Policy(retry=Retry(base=1e-9, exceptions=(LookupError,)))
    flaky = Flaky(2, KeyError("x"))
    plain(policy, flaky)()
    assert len(flaky.calls) == 3
    flaky = Flaky(1, ConnectionError())
    with pytest.raises(ConnectionError):
        plain(policy, flaky)()
    assert len(flaky.calls) == 1


def test_metadata_is_the_functions() -> None:
    """Name, docstring, signature, annotations and attributes are as before."""

    def work(number: int, *, scale: float = 1.0) -> float:
        """Scale a number."""
        return number * scale

    work.mark = "mine"  # type: ignore[attr-defined]
    wrapped: Any = Policy()(work)
    assert wrapped.__name__ == "work"
    assert wrapped.__qualname__ == work.__qualname__
    assert wrapped.__doc__ == "Scale a number."
    assert wrapped.__wrapped__ is work
    assert wrapped.mark == "mine"
    assert inspect.signature(wrapped) == inspect.signature(work)
    assert not inspect.iscoroutinefunction(wrapped)

    async def later() -> None:
        """Wait."""

    assert inspect.iscoroutinefunction(Policy()(later))
    assert asyncio.iscoroutinefunction(Policy()(later))


class Service:
    """An object with methods under a policy."""

    def __init__(self, failures: int = 0) -> None:
        self.flaky = Flaky(failures)

    @Policy(retry=EAGER)
    def work(self, number: int) -> int:
        """Return twice the number."""
        self.flaky()
        return number * 2

    @Policy(retry=EAGER)
    async def later(self, number: int) -> int:
        self.flaky()
        return number * 2

    @staticmethod
    @Policy(retry=EAGER)
    def alone(number: int) -> int:
        return number * 2

    @classmethod
    @Policy(retry=EAGER)
    def of_class(cls, number: int) -> tuple[str, int]:
        return cls.__name__, number * 2

    @property
    @Policy(retry=EAGER)
    def value(self) -> int:
        self.flaky()
        return 2


def test_methods_are_decorated() -> None:
    """Of objects, of classes, static ones and properties; the state is the class's."""
    assert Service(2).work(1) == 2
    assert asyncio.run(Service(2).later(1)) == 2
    assert Service.alone(1) == Service().alone(1) == 2
    assert Service.of_class(1) == ("Service", 2)
    assert Service(2).value == 2
    assert core_of(Service.work) is core_of(Service(1).work)
    assert core_of(Service.work).name == "Service.work"
    bound = Policy(retry=EAGER)(Service(2).work)
    assert bound(3) == 6


def test_partials_and_callable_objects_are_decorated() -> None:
    """Whatever can be called, asynchronous or not."""
    flaky = Flaky(2)
    work: Any = Policy(retry=EAGER)(functools.partial(flaky, 1, b=2))
    assert work(3, c=4) == ((1, 3), {"b": 2, "c": 4})
    assert len(flaky.calls) == 3
    flaky = Flaky(2)
    direct: Any = Policy(retry=EAGER)(flaky)
    assert direct(1) == ((1,), {})

    async def later(one: int, two: int) -> int:
        return one + two

    part: Any = Policy(retry=EAGER)(functools.partial(later, 1))
    assert inspect.iscoroutinefunction(part)
    assert asyncio.run(part(2)) == 3
    assert Policy()(lambda x: x + 1)(1) == 2
    assert Policy()(int)("12") == 12
    assert Policy()(len)([1]) == 1


class Awaitable:
    """An object whose call is asynchronous."""

    def __init__(self) -> None:
        self.left = 2

    async def __call__(self, number: int) -> int:
        await asyncio.sleep(0)
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError
        return number


def test_objects_with_an_asynchronous_call_are_asynchronous() -> None:
    """What they return is awaited, within the policy."""
    work: Any = Policy(retry=EAGER)(Awaitable())
    assert asyncio.run(work(3)) == 3


def test_what_begins_its_work_after_the_call_is_refused() -> None:
    """A generator's work is done while it is iterated, past every policy."""

    def pieces() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    for function in (pieces, later, functools.partial(pieces)):
        with pytest.raises(ValueError, match="generator"):
            Policy()(function)
    for nothing in (3, None, "name", classmethod(lambda cls: 1)):
        with pytest.raises(ValueError, match="it decorates functions"):
            Policy()(nothing)  # type: ignore[type-var]


def test_each_decorated_function_has_its_own_state() -> None:
    """One that fails opens its own circuit."""
    policy = Policy(retry=None, breaker=Breaker(failures=1))
    bad, good = plain(policy, Flaky(99)), plain(policy, Flaky(0))
    with pytest.raises(ConnectionError):
        bad()
    with pytest.raises(errors.CircuitOpenError):
        bad()
    good()


def test_the_breaker_opens_and_refuses(decorate: Any) -> None:
    """Without a call of the function, with an error that says when it is tried again."""
    flaky = Flaky(99, LookupError("x"))
    work = decorate(Policy(breaker=Breaker(failures=3)), flaky)
    events: list[Event] = []
    core_of(work).listen(events.append)
    for _ in range(3):
        with pytest.raises(LookupError):
            work()
    with pytest.raises(errors.CircuitOpenError, match="tried again in") as caught:
        work()
    assert len(flaky.calls) == 3
    assert "work" in str(caught.value)
    assert "circuit opened" in [event.kind for event in events]
    assert idle(work)


def test_the_breaker_lets_its_probes_through() -> None:
    """After its time one call passes, and closes it, or opens it for longer."""
    world = World()
    core = FunctionCore(
        Policy(retry=None, breaker=Breaker(failures=1, open_for=10), fallback=Fallback("no")),
        "work",
        clock=world.clock,
        random=world.random,
    )
    flaky = Flaky(2)

    def work() -> Any:
        return world.run(core.call(flaky, (), {}))

    assert work() == "no"  # it opens
    world.advance(9.9)
    assert (work(), len(flaky.calls)) == ("no", 1)
    world.advance(0.2)
    assert (work(), len(flaky.calls)) == ("no", 2)  # the probe fails
    world.advance(19)
    assert (work(), len(flaky.calls)) == ("no", 2)
    world.advance(2)
    assert work() == ((), {})
    assert core.endpoint.breaker is not None
    assert core.endpoint.breaker.state == "closed"


def test_the_breaker_can_be_forced() -> None:
    """By whoever has the function."""
    work = plain(Policy(), Flaky(0))
    breaker = core_of(work).endpoint.breaker
    assert breaker is not None
    work()
    breaker.force("open", monotonic())
    with pytest.raises(errors.CircuitOpenError):
        work()
    breaker.force(None, monotonic())
    assert work() == ((), {})


@pytest.mark.parametrize("name", ["limit", "cluster_limit"])
def test_a_limit_bounds_the_calls_at_once(name: str) -> None:
    """Further ones wait in order, and when the queue is full are refused."""
    limits: dict[str, Any] = {name: Limit(2, queue=3)}

    async def main() -> None:
        gate = asyncio.Event()
        running = most = 0

        @Policy(retry=None, **limits)
        async def work(number: int) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await gate.wait()
            running -= 1
            return number

        tasks = [asyncio.ensure_future(work(number)) for number in range(6)]
        for _ in range(9):
            await asyncio.sleep(0)
        assert running == 2
        gate.set()
        *results, refused = await asyncio.gather(*tasks, return_exceptions=True)
        assert results == [0, 1, 2, 3, 4]
        assert isinstance(refused, errors.LimitExceeded)
        assert most == 2
        assert idle(work)

    asyncio.run(main())


def test_a_rate_bounds_the_calls_in_time(decorate: Any) -> None:
    """What has no token waits for it, or is refused."""
    work = decorate(Policy(retry=None, rate=RateLimit(0.001, burst=2, wait=False)), Flaky(0))
    work()
    work()
    with pytest.raises(errors.RateLimited):
        work()
    world = World()
    core = FunctionCore(
        Policy(rate=RateLimit(2, burst=1)), "work", clock=world.clock, random=world.random
    )
    for _ in range(5):
        world.run(core.call(lambda: None, (), {}))
    assert world.now == pytest.approx(2)
    assert idle(work)


def test_a_budget_bounds_the_retries(decorate: Any) -> None:
    """And the note says so."""
    flaky = Flaky(99)
    policy = Policy(retry=EAGER, budget=Budget(share=0, per_second=0.3, window=10), breaker=None)
    work = decorate(policy, flaky)
    for _ in range(4):
        with pytest.raises(ConnectionError):
            work()
    assert len(flaky.calls) == 4 + 3


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("way", [{}, {"hedge": Hedge(after=60)}, {"limit": None}])
def test_a_deadline_cancels_an_asynchronous_function(loop: str, way: dict[str, Any]) -> None:
    """The function, nothing else: the task that awaits goes on."""
    ended: list[str] = []

    async def main() -> None:
        @Policy(timeout=0.01, **way)
        async def work() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await work()
        assert isinstance(caught.value, TimeoutError)
        assert len(caught.value.attempts) == 1
        assert task.cancelling() == 0
        await asyncio.sleep(0)
        assert ended == ["cancelled"]
        assert idle(work)
        assert OUTER.get() is None

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_attempts_deadline_leads_to_another_attempt(loop: str) -> None:
    """Each attempt has its own, within the call's."""
    calls: list[int] = []

    @Policy(timeout=30, retry=Retry(base=1e-9, attempt_timeout=0.01))
    async def work() -> int:
        calls.append(1)
        if len(calls) < 3:
            await asyncio.get_running_loop().create_future()
        return 3

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(work()) == 3
    assert len(calls) == 3
    assert idle(work)


def test_a_plain_function_runs_to_its_end() -> None:
    """Nothing can stop it, but it is not repeated after its deadline."""
    calls: list[int] = []

    @Policy(timeout=0.001, retry=Retry(attempts=5, base=1e-9))
    def work(fails: bool) -> int:
        calls.append(1)
        until = monotonic() + 0.002
        while monotonic() < until:
            pass
        if fails:
            raise ConnectionError("late")
        return 3

    assert work(False) == 3
    with pytest.raises(ConnectionError, match="late"):
        work(True)
    assert len(calls) == 2


def test_a_timeout_of_the_functions_own_stays_its_own() -> None:
    """It is an error like others, and is raised as it is."""
    error = TimeoutError()

    @Policy(timeout=60, retry=Retry(attempts=2, base=1e-9))
    async def work() -> None:
        raise error

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(work())
    assert caught.value is error


@pytest.mark.parametrize("loop", LOOPS)
def test_cancellation_from_outside_stays_a_cancellation(loop: str, policy: Policy) -> None:
    """It is no failure: nothing is repeated, nothing falls back, no circuit opens."""
    calls: list[int] = []

    async def main() -> None:
        @policy
        async def work() -> None:
            calls.append(1)
            started.set()
            await asyncio.get_running_loop().create_future()

        for _ in range(6):
            started = asyncio.Event()
            task = asyncio.ensure_future(work())
            await started.wait()
            task.cancel("why")
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert task.cancelled()
            assert caught.value.args in (("why",), ())
            assert idle(work)
        breaker = core_of(work).endpoint.breaker
        assert breaker is None or breaker.state == "closed"

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
    assert len(calls) == 6


def test_cancellation_in_a_pause_between_attempts_ends_the_call() -> None:
    """It need not wait for the backoff's end."""
    calls: list[int] = []

    async def main() -> None:
        failed = asyncio.Event()

        @Policy(timeout=None, retry=Retry(base=50, cap=50))
        async def work() -> None:
            calls.append(1)
            failed.set()
            raise ConnectionError

        task = asyncio.ensure_future(work())
        await failed.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert idle(work)
        assert core_of(work).budget is not None
        assert core_of(work).budget.window.failures == 0  # type: ignore[union-attr]

    random.seed(1)
    asyncio.run(main())
    assert len(calls) == 1


def test_an_outer_timeout_is_the_outer_ones() -> None:
    """``asyncio.timeout`` around a call ends it as it would end the function itself."""

    @Policy(timeout=60)
    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                await work()
        assert not isinstance(caught.value, errors.HoldfastError)

    asyncio.run(main())
    assert idle(work)


def test_functions_within_functions() -> None:
    """An inner one has seen to its own retries: what its call may have done is not done again."""
    flaky = Flaky(2)
    inner = plain(Policy(retry=EAGER), flaky)
    calls: list[int] = []

    @Policy(retry=EAGER)
    def outer() -> Any:
        calls.append(1)
        return inner()

    assert outer() == ((), {})
    assert (len(calls), len(flaky.calls)) == (1, 3)
    assert idle(inner)
    assert idle(outer)


def test_a_function_that_calls_itself() -> None:
    """Each depth is a call, with a slot of its own."""

    @Policy(limit=Limit(10))
    def down(depth: int) -> int:
        return 0 if depth == 0 else 1 + down(depth - 1)

    assert down(9) == 9
    with pytest.raises(errors.LimitExceeded):
        Policy(retry=None, limit=Limit(1, queue=0))(_recursive)(1)
    assert idle(down)


def _recursive(depth: int) -> None:
    """Call for a slot while holding one."""
    inner = Policy(retry=None, limit=Limit(1, queue=0))(_recursive)
    core = core_of(inner)
    assert core.endpoint.try_acquire()
    inner(depth - 1)


def test_threads_share_a_functions_state() -> None:
    """However many call at once, no more than the limit are in it, and all slots come back."""
    lock = threading.Lock()
    running = most = 0
    failures = [0]

    @Policy(
        timeout=30,
        retry=Retry(attempts=99, base=1e-6),
        budget=None,
        breaker=None,
        limit=Limit(3, queue=100),
    )
    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            failures[0] += 1
            fails = failures[0] % 5 == 0
        for _ in range(50):
            pass
        with lock:
            running -= 1
        if fails:
            raise ConnectionError
        return number

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(2000))) == list(range(2000))
    assert 1 <= most <= 3
    assert idle(work)


def test_threads_and_an_open_circuit() -> None:
    """When many fail at once the circuit opens once, and every slot comes back."""
    work = plain(Policy(retry=None, breaker=Breaker(failures=5, open_for=60)), Flaky(10**9))

    def call(number: int) -> type[Exception]:
        try:
            work()
        except (ConnectionError, errors.HoldfastError) as error:
            return type(error)
        raise AssertionError

    with ThreadPoolExecutor(8) as threads:
        kinds = list(threads.map(call, range(400)))
    assert kinds.count(ConnectionError) <= 5 + 8
    assert set(kinds) == {ConnectionError, errors.CircuitOpenError}
    assert idle(work)


def test_a_success_counts_for_the_breakers_rate() -> None:
    """Calls that go well by the short way are seen by who judges the share of failures."""
    flaky = Flaky(0)
    work = plain(
        Policy(retry=None, breaker=Breaker(failures=None, rate=0.5, calls=10, window=60)), flaky
    )
    for _ in range(20):
        work()
    flaky.left = 19
    for _ in range(19):
        with pytest.raises(ConnectionError):
            work()
    assert work() == ((), {})
    flaky.left = 2
    for _ in range(2):
        with pytest.raises(ConnectionError):
            work()
    with pytest.raises(errors.CircuitOpenError):
        work()


def test_admission_throttles_a_function() -> None:
    """What fails all the time is called less and less."""
    flaky = Flaky(10**9)
    work = plain(Policy(retry=None, breaker=None, admission=Admission()), flaky)
    rejected = 0
    for _ in range(300):
        try:
            work()
        except errors.AdmissionRejected:
            rejected += 1
        except ConnectionError:
            pass
    assert rejected > 200
    assert len(flaky.calls) + rejected == 300
    assert idle(work)

"""Plain functions under a policy whose results are still to come: coroutines, tasks, Deferreds."""

from __future__ import annotations

import asyncio
import functools
import gc
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import Clock

from holdfast import Breaker, Hedge, Limit, Policy, Retry, errors
from holdfast.drivers.twisted import Driver
from holdfast.policy import AdaptiveLimit, Coalesce
from holdfast.policy.deadline import OUTER

EAGER = Retry(attempts=3, base=1e-9)

#: Policies that take each of the ways a call may go.
WAYS: dict[str, Policy] = {
    "default": Policy(retry=EAGER),
    "nothing": Policy(None, retry=EAGER, budget=None, breaker=None, limit=None),
    "untimed": Policy(None, retry=EAGER),
    "no-limit": Policy(retry=EAGER, limit=None),
    "adaptive": Policy(retry=EAGER, limit=AdaptiveLimit()),
    "hedge": Policy(retry=EAGER, hedge=Hedge(after=60)),
    "coalesce": Policy(retry=EAGER, coalesce=Coalesce()),
}


@pytest.fixture(params=WAYS)
def policy(request: pytest.FixtureRequest) -> Policy:
    """Give each of the policies."""
    return WAYS[request.param]


def idle(function: Any) -> bool:
    """Tell whether a decorated function's state holds nothing for any call."""
    endpoint = function.core.endpoint
    return bool(endpoint.in_flight == endpoint.waiting == 0)


class Flaky:
    """What fails so many times, once it is awaited."""

    def __init__(self, failures: int = 2) -> None:
        self.left = failures
        self.calls = 0

    async def fetch(self, value: int = 3) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError("lost")
        return value


def wrapped(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Decorate a coroutine function as most decorators do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Awaitable[Any]:
        return function(*args, **keywords)

    return wrapper


@pytest.mark.parametrize("how", ["wrapped", "lambda", "task"])
def test_what_a_coroutine_awaits_is_under_the_policy(policy: Policy, how: str) -> None:
    """A plain function that returns a coroutine, or a task, is called again when that fails."""

    async def main() -> None:
        flaky = Flaky()
        function: Any = {
            "wrapped": wrapped(flaky.fetch),
            "lambda": lambda value=3: flaky.fetch(value),
            "task": lambda value=3: asyncio.ensure_future(flaky.fetch(value)),
        }[how]
        work: Any = policy(function)
        for value in (3, 4, 5):
            flaky.left, flaky.calls = 2, 0
            coming = work(value)
            assert isinstance(coming, asyncio.Task) is (how == "task")
            assert await coming == value
            assert flaky.calls == 3
        assert idle(work)

    asyncio.run(main())


def test_a_coroutines_failures_open_the_circuit() -> None:
    """They count when they come, not as a success when the function returns."""
    flaky = Flaky(99)
    work: Any = Policy(retry=None, breaker=Breaker(failures=2))(lambda: flaky.fetch())

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await work()
        with pytest.raises(errors.CircuitOpenError):
            await work()
        assert flaky.calls == 2

    asyncio.run(main())


def test_a_deadline_cancels_a_coroutine() -> None:
    """Which has no more time than the call, and so have the calls that it makes."""
    seen: list[Any] = []

    async def hang() -> None:
        seen.append(OUTER.get())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    for way in (Limit(), AdaptiveLimit()):
        work: Any = Policy(timeout=0.01, limit=way)(lambda: hang())

        async def main() -> None:
            for _ in range(2):
                with pytest.raises(errors.DeadlineExceeded):
                    await work()  # noqa: B023  run at once

        asyncio.run(main())
        assert seen[1::2] == ["cancelled"] * 2
        assert all(outer is not None for outer in seen[::2])
        assert OUTER.get() is None
        assert idle(work)
        seen.clear()


def test_a_limit_bounds_coroutines() -> None:
    """A slot is free again when the coroutine is over, not when it is made."""
    running = [0, 0]

    async def inner() -> None:
        running[0] += 1
        running[1] = max(running)
        await asyncio.sleep(0)
        running[0] -= 1

    work: Any = Policy(limit=Limit(2))(lambda: inner())

    async def main() -> None:
        await work()
        await asyncio.gather(*(work() for _ in range(10)))

    asyncio.run(main())
    assert running == [0, 2]


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_coroutine_that_nobody_awaits_holds_nothing(policy: Policy) -> None:
    """It gives back its slot when it is dropped."""
    work: Any = policy(lambda: Flaky().fetch())
    for _ in range(3):
        work().close()
        work()
    gc.collect()
    assert idle(work)


def test_a_deferred_is_refused(policy: Policy) -> None:
    """A plain policy cannot wait for it, and says what can; the Deferred is cancelled."""
    made: list[Deferred[Any]] = []
    cancelled: list[Any] = []

    @policy
    def work() -> Any:
        made.append(Deferred(cancelled.append))
        return made[-1]

    for _ in range(2):
        with pytest.raises(
            TypeError, match=r"work returned a Deferred.*Driver\(\)\.under\(policy\)"
        ):
            work()
    assert cancelled == made
    assert len(made) == 2
    assert idle(work)
    gc.collect()


def test_a_deferred_that_has_failed_is_refused() -> None:
    """Its failure is in the error, not lost in a log."""

    class Broken(Deferred[None]):
        def cancel(self) -> None:
            raise KeyError("cannot be cancelled")

    deferred: Deferred[None] = Broken()
    deferred.errback(OSError("no"))
    work: Any = Policy()(lambda: deferred)
    with pytest.raises(TypeError, match="a Deferred"):
        work()
    gc.collect()


def test_functions_of_twisted_are_refused_when_they_are_decorated() -> None:
    """Those that say themselves that they return a Deferred; `Driver.under` takes them."""

    @inlineCallbacks
    def one() -> Generator[Deferred[Any], Any, int]:
        one: int = yield succeed(1)
        return one

    def two() -> Deferred[int]:
        return succeed(2)

    made: list[Any] = [one, two, functools.partial(two)]
    for function in made:
        with pytest.raises(ValueError, match=r"returns a Deferred.*under\(policy\)"):
            Policy()(function)
    results: list[Any] = []
    for function in made:
        Driver(Clock()).under(Policy())(function)().addCallback(results.append)
    assert results == [1, 2, 2]

    def pieces() -> Generator[int, None, None]:
        yield 1

    with pytest.raises(ValueError, match="generator"):
        Driver(Clock()).under(Policy())(pieces)


def test_twisted_is_not_imported() -> None:
    """Nobody has to have it who does not use it."""
    code = (
        "import sys; from holdfast import Policy; Policy()(lambda: object())();"
        "assert not any(name.partition('.')[0] == 'twisted' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Deadlines of coroutines, by one timer of each event loop."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import weakref
from collections.abc import Iterator
from math import inf
from time import monotonic
from typing import Any

import pytest

from holdfast.drivers import expiry
from holdfast.drivers.expiry import Expiry
from tests.conformance.drivers import LOOPS


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Give a runner of each kind of event loop."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner


def alarms() -> Any:
    """Return the deadlines of the running loop."""
    return expiry._ALARMS[asyncio.get_running_loop()]


async def never() -> None:
    """Wait for nothing."""
    await asyncio.get_running_loop().create_future()


def test_what_takes_too_long_is_cancelled(runner: asyncio.Runner) -> None:
    """Not before its time, with a TimeoutError, and the task goes on."""

    async def main() -> None:
        until = monotonic() + 0.02
        with pytest.raises(TimeoutError) as caught:
            async with Expiry(until):
                await never()
        assert monotonic() >= until
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    runner.run(main())


def test_what_ends_in_time_is_left_alone(runner: asyncio.Runner) -> None:
    """With its result, or its own error, also after its deadline has passed."""

    async def main() -> None:
        until = monotonic() + 0.01
        async with Expiry(until):
            await asyncio.sleep(0)
        with pytest.raises(KeyError):
            async with Expiry(until):
                raise KeyError
        own = TimeoutError("my own")
        with pytest.raises(TimeoutError) as caught:
            async with Expiry(until):
                raise own
        assert caught.value is own
        async with Expiry(monotonic() + 10):
            with pytest.raises(TimeoutError):  # the loop turns past the first ones
                async with Expiry(until + 0.01):
                    await never()

    runner.run(main())


def test_without_a_deadline_nothing_is_armed(runner: asyncio.Runner) -> None:
    """Infinity is none."""

    async def main() -> None:
        async with Expiry(inf):
            await asyncio.sleep(0)
        assert asyncio.get_running_loop() not in expiry._ALARMS

    runner.run(main())


@pytest.mark.parametrize("late", [0.0, -1.0, -inf])
def test_a_deadline_that_has_passed_ends_what_waits(runner: asyncio.Runner, late: float) -> None:
    """Soon, though not before it has begun."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with Expiry(monotonic() + late):
                await never()

    runner.run(main())


def test_deadlines_end_in_their_order(runner: asyncio.Runner) -> None:
    """Whatever the order in which they began."""
    ended: list[int] = []

    async def wait(number: int, until: float) -> None:
        with pytest.raises(TimeoutError):
            async with Expiry(until):
                await never()
        assert monotonic() >= until
        ended.append(number)

    async def main() -> None:
        began = monotonic() + 0.01
        numbers = list(range(200))
        random.Random(7).shuffle(numbers)
        async with asyncio.TaskGroup() as tasks:
            for number in numbers:
                tasks.create_task(wait(number, began + number * 1e-4))
        assert alarms().entries == []
        assert alarms().done == 0

    runner.run(main())
    assert ended == list(range(200))


def test_a_nearer_deadline_arms_the_timer_anew(runner: asyncio.Runner) -> None:
    """One that comes later in the program and sooner in time is not late."""

    async def main() -> None:
        async with Expiry(monotonic() + 60):
            until = monotonic() + 0.01
            with pytest.raises(TimeoutError):
                async with Expiry(until):
                    await never()
            assert until <= monotonic() < until + 5
        assert alarms().handle is not None  # one timer, for the mark that is left

    runner.run(main())


def test_one_timer_serves_many(runner: asyncio.Runner) -> None:
    """Waits that end in time neither arm nor cancel one."""

    async def main() -> None:
        async with Expiry(monotonic() + 60):
            handle = alarms().handle
            for _ in range(100):
                async with Expiry(monotonic() + 61):
                    pass
            assert alarms().handle is handle

    runner.run(main())


def test_the_heap_is_cleaned(runner: asyncio.Runner) -> None:
    """What is done stays until its time, but never more of it than of what waits, by far."""

    async def main() -> None:
        release = asyncio.Event()

        async def wait() -> None:
            async with Expiry(monotonic() + 60):
                await release.wait()

        waiting = [asyncio.ensure_future(wait()) for _ in range(10)]
        await asyncio.sleep(0)
        for _ in range(20_000):
            async with Expiry(monotonic() + 30):
                pass
            assert len(alarms().entries) <= expiry._SLACK + 11
        assert sum(not entry[2].over for entry in alarms().entries) == 10
        assert alarms().done == len(alarms().entries) - 10
        release.set()
        await asyncio.gather(*waiting)

    runner.run(main())


def test_what_is_done_keeps_no_task(runner: asyncio.Runner) -> None:
    """The entry that stays does not hold what was waited for."""

    async def main() -> None:
        async def work() -> None:
            async with Expiry(monotonic() + 60):
                await asyncio.sleep(0)

        task = asyncio.ensure_future(work())
        gone = weakref.ref(task)
        await task
        del task
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None
        assert len(alarms().entries) == 1

    runner.run(main())


def test_a_cancellation_from_outside_stays_one(runner: asyncio.Runner) -> None:
    """Before the deadline, and in the same turn as it, before or after it."""

    async def work(until: float, expiries: list[Expiry]) -> None:
        expiries.append(Expiry(until))
        async with expiries[0]:
            await never()

    async def main() -> None:
        for order in ("alone", "before", "after"):
            expiries: list[Expiry] = []
            task = asyncio.ensure_future(work(monotonic() + 60, expiries))
            await asyncio.sleep(0)
            if order == "after":
                expiries[0].expire()
            task.cancel()
            if order == "before":
                expiries[0].expire()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

    runner.run(main())


def test_nested_deadlines_end_the_right_block(runner: asyncio.Runner) -> None:
    """The one whose time it is; at the same time the outer one, as asyncio's own do."""

    async def main() -> None:
        now = monotonic()
        for outer, inner, expected in (
            (60.0, 0.005, "inner"),
            (0.005, 60.0, "outer"),
            (0.005, 0.005, "outer"),
        ):
            ended = ""
            try:
                async with Expiry(now + outer):
                    try:
                        async with Expiry(now + inner):
                            await never()
                    except TimeoutError:
                        ended = "inner"
            except TimeoutError:
                ended = "outer"
            assert ended == expected
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

    runner.run(main())


def test_it_goes_with_asyncios_own(runner: asyncio.Runner) -> None:
    """Inside and outside of ``asyncio.timeout``, each ends its own block."""

    async def main() -> None:
        async with asyncio.timeout(60):
            with pytest.raises(TimeoutError):
                async with Expiry(monotonic() + 0.005):
                    await never()
        async with Expiry(monotonic() + 60):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await never()

    runner.run(main())


def test_what_will_not_be_cancelled_returns(runner: asyncio.Runner) -> None:
    """A result that comes in spite of the cancellation is a result."""

    async def main() -> str:
        async with Expiry(monotonic() + 0.005):
            try:
                await never()
            except asyncio.CancelledError:
                pass
            result = "all the same"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return result

    assert runner.run(main()) == "all the same"


def test_results_and_deadlines_race(runner: asyncio.Runner) -> None:
    """However close they are, each wait ends once, and its task is not cancelled later."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        outcomes = {"in time": 0, "late": 0}

        async def race(offset: float) -> None:
            until = monotonic() + 0.01
            future = loop.create_future()

            def land() -> None:
                if not future.done():
                    future.set_result(None)

            loop.call_at(loop.time() + 0.01 + offset, land)
            try:
                async with Expiry(until):
                    await future
                outcomes["in time"] += 1
            except TimeoutError:
                outcomes["late"] += 1
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        await asyncio.gather(*[race((number - 100) * 1e-4) for number in range(200)])
        # How many of each there are depends on the machine: one that stalls makes all of them late.
        assert sum(outcomes.values()) == 200
        assert alarms().done >= 0

    runner.run(main())


def test_each_loop_has_its_own() -> None:
    """Loops of several threads at once do not disturb each other."""
    failures: list[BaseException] = []

    async def main() -> None:
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with Expiry(monotonic() + 0.001):
                    await never()
            async with Expiry(monotonic() + 60):
                await asyncio.sleep(0)

    def work(loop: str) -> None:
        try:
            with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                runner.run(main())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(loop,)) for loop in [*LOOPS, *LOOPS]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("loop", LOOPS)
def test_loops_that_were_closed_are_forgotten(loop: str) -> None:
    """All but the last one, at most, also when deadlines were left in them."""

    async def main() -> None:
        async with Expiry(monotonic() + 60):
            await asyncio.sleep(0)
        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        assert not task.done()

    async def wait() -> None:
        async with Expiry(monotonic() + 60):
            await never()

    def run() -> weakref.ref[Any]:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(main())
            return weakref.ref(runner.get_loop())

    gone = [run() for _ in range(5)]
    gc.collect()
    assert sum(ref() is not None for ref in gone) <= 1
    assert sum(loop.is_closed() for loop in expiry._ALARMS) <= 1


def test_a_coroutine_that_is_dropped_marks_its_entry(runner: asyncio.Runner) -> None:
    """Closing is an end like others: no task is cancelled for it later."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None

        async def work() -> None:
            async with Expiry(monotonic() + 0.005):
                await never()

        coroutine = work()
        coroutine.send(None)
        coroutine.close()
        with pytest.raises(TimeoutError):
            async with Expiry(monotonic() + 0.02):
                await never()
        assert task.cancelling() == 0
        assert alarms().entries == []

    runner.run(main())

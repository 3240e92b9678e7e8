"""The concurrency limit: never more, in order of arrival, and no slot lost."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import errors, ops
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from holdfast.drivers.simulated import Task, World
from holdfast.policy import Limit, Limiter
from tests.policy.hammering import hammer


def test_it_waits_only_when_it_is_full() -> None:
    """A free slot is taken without an operation."""
    world = World()
    limiter = Limiter(Limit(2, queue=5))
    assert list(limiter.acquire(0)) == []
    assert limiter.try_acquire()
    assert not limiter.try_acquire()
    assert repr(limiter) == "<Limiter 2 in flight, 0 waiting>"
    waiting = world.start(limiter.acquire(world.now + 5))
    world.advance(1)
    assert repr(limiter) == "<Limiter 2 in flight, 1 waiting>"
    limiter.release()
    world.advance(0)
    assert waiting.result() is None
    assert (limiter.in_flight, limiter.waiting) == (2, 0)


def test_without_a_limit_it_counts() -> None:
    """Load is known even where it is not limited."""
    limiter = Limiter(None)
    for _ in range(10_000):
        assert limiter.try_acquire()
    assert limiter.in_flight == 10_000
    assert list(limiter.acquire(0)) == []


def test_who_came_first_is_served_first() -> None:
    """Slots go to those who wait, in the order in which they came; nobody overtakes them."""
    world = World()
    limiter = Limiter(Limit(1, queue=10))
    assert limiter.try_acquire()
    served: list[int] = []

    def wait(number: int) -> ops.Program[None]:
        yield from limiter.acquire(world.now + 100)
        served.append(number)

    for number in range(10):
        world.start(wait(number))
        world.advance(0.1)
    for number in range(10):
        limiter.release()
        assert not limiter.try_acquire()  # the slot is not free in between
        world.advance(0)
        assert served == list(range(number + 1))
    limiter.release()
    assert limiter.try_acquire()


@pytest.mark.parametrize("queue", [0, 1, 3])
def test_a_full_queue_is_an_error_at_once(queue: int) -> None:
    """Who finds the queue full is told so, with the numbers, and takes nothing."""
    world = World()
    limiter = Limiter(Limit(1, queue=queue))
    assert limiter.try_acquire()
    for _ in range(queue):
        world.start(limiter.acquire(world.now + 10))
    world.advance(0)
    with pytest.raises(errors.LimitExceeded, match=f"1 calls are in flight and {queue} wait"):
        world.run(limiter.acquire(world.now + 10))
    assert world.now == world.began
    assert (limiter.in_flight, limiter.waiting) == (1, queue)


def test_a_wait_ends_at_its_deadline() -> None:
    """At its deadline a call leaves the queue, and the others keep their order."""
    world = World()
    limiter = Limiter(Limit(1, queue=3))
    assert limiter.try_acquire()
    short = world.start(limiter.acquire(world.now + 1))
    long = world.start(limiter.acquire(world.now + 9))
    world.advance(1)
    with pytest.raises(TimeoutError):
        short.result()
    assert limiter.waiting == 1
    limiter.release()
    world.advance(0)
    assert long.result() is None
    assert limiter.in_flight == 1


#: acquire (with so long to wait), release, cancel the n-th that waits, let time pass.
actions = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.sampled_from([0.0, 1.0, 3.0, 10.0])),
        st.tuples(st.just("try"), st.just(0)),
        st.tuples(st.just("release"), st.booleans()),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("release and cancel"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, 2.0])),
    ),
    max_size=80,
)


@given(actions=actions, calls=st.integers(1, 3), queue=st.integers(0, 4))
def test_no_slot_is_lost_or_made(actions: list[tuple[str, float]], calls: int, queue: int) -> None:
    """However calls come, wait, give up, are cancelled and end, the slots stay as many."""
    world = World()
    limiter = Limiter(Limit(calls, queue=queue))
    tasks: list[Task] = []
    arrived: list[Task] = []
    held = 0

    def settle() -> None:
        """Count who got a slot; they were the ones who had waited longest."""
        nonlocal held
        world.advance(0)
        done = [task for task in tasks if task.done]
        for task in done:
            tasks.remove(task)
            if task.value == "got":
                held += 1
                before = arrived[: arrived.index(task)]
                assert all(other.done for other in before), "overtaken"

    def take(seconds: float) -> ops.Program[str]:
        yield from limiter.acquire(world.now + seconds)
        return "got"

    for action, value in actions:
        waiting = [task for task in tasks if task.turn > 0]
        if action == "acquire":
            full = limiter.in_flight == calls and limiter.waiting == queue
            task = world.start(take(value))
            tasks.append(task)
            arrived.append(task)
            world.advance(0)
            assert full == isinstance(task.error, errors.LimitExceeded)
        elif action == "try":
            held += limiter.try_acquire()
        elif action == "release" and held:
            held -= 1
            limiter.release()
        elif action == "cancel" and waiting:
            waiting[int(value) % len(waiting)].cancel()
        elif action == "release and cancel" and held and waiting:
            # The slot was handed over, but its new owner never learns of it.
            held -= 1
            limiter.release()
            waiting[int(value) % len(waiting)].cancel()
        elif action == "wait":
            world.advance(value)
        settle()
        assert limiter.in_flight == held <= calls
        assert limiter.waiting == len(tasks) <= queue
        assert held == calls or not tasks, "somebody waits beside a free slot"

    while held:
        held -= 1
        limiter.release()
        settle()
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


def test_a_slot_handed_over_at_the_deadline_is_not_lost() -> None:
    """A release in the moment of the time limit leaves the slot with somebody."""
    world = World()
    limiter = Limiter(Limit(1, queue=2))
    assert limiter.try_acquire()
    first = world.start(limiter.acquire(world.now + 1))
    second = world.start(limiter.acquire(world.now + 5))
    world.advance(0)

    def release_late() -> ops.Program[None]:
        yield ops.Sleep(world.began + 1)
        limiter.release()

    world.start(release_late())
    world.advance(2)
    assert first.done
    assert second.done == (first.error is not None)
    assert limiter.in_flight == 1


def test_threads_share_the_slots() -> None:
    """Threads that wait for one another never hold more than there are, and all are served."""
    limiter = Limiter(Limit(2, queue=6))
    lock = threading.Lock()
    held: list[int] = []
    seen: set[int] = set()
    served: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            blocking.run(limiter.acquire(monotonic() + 60))
            with lock:
                held.append(number)
                seen.add(len(held))
            with lock:
                held.remove(number)
                served.append(number)
            limiter.release()

    hammer(work, 6)
    assert max(seen) <= 2
    assert len(served) == 1200
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


def test_threads_that_give_up_lose_no_slot() -> None:
    """Time limits of microseconds race with releases, and no slot is lost."""
    limiter = Limiter(Limit(1, queue=10))
    outcomes: list[str] = []

    def work(number: int) -> None:
        for turn in range(200):
            try:
                blocking.run(limiter.acquire(monotonic() + turn * 1e-6))
            except TimeoutError:
                outcomes.append("late")
            else:
                limiter.release()
                outcomes.append("got")

    hammer(work, 6)
    assert len(outcomes) == 1200
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


def test_cancelled_tasks_lose_no_slot() -> None:
    """Tasks cancelled while they wait, or as they are served, leave the slots whole."""

    async def scenario() -> None:
        limiter = Limiter(Limit(2, queue=100))
        deadline = monotonic() + 60
        served: list[int] = []

        async def call(number: int, turns: int) -> None:
            await asyncio_driver.run(limiter.acquire(deadline))
            try:
                served.append(number)
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                limiter.release()

        tasks = [asyncio.create_task(call(number, number % 4)) for number in range(100)]
        for number, task in enumerate(tasks):
            if number % 3 == 0:
                task.cancel()
            await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {type(None), asyncio.CancelledError}
        assert (limiter.in_flight, limiter.waiting) == (0, 0)
        assert all(one < other for one, other in pairwise(served))

    asyncio.run(scenario())


@pytest.mark.parametrize("turns", range(6))
def test_a_task_cancelled_at_any_point_passes_its_slot_on(turns: int) -> None:
    """Whenever after the release the one who got the slot is cancelled, the next one gets it."""

    async def scenario() -> None:
        limiter = Limiter(Limit(1, queue=10))
        deadline = monotonic() + 60
        assert limiter.try_acquire()

        async def call() -> None:
            await asyncio_driver.run(limiter.acquire(deadline))
            limiter.release()

        first, second = asyncio.create_task(call()), asyncio.create_task(call())
        while limiter.waiting < 2:
            await asyncio.sleep(0)
        limiter.release()
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        await second
        await asyncio.wait([first])
        assert (limiter.in_flight, limiter.waiting) == (0, 0)

    asyncio.run(scenario())

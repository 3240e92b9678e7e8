"""Whenever a call is cancelled, whatever its policy, it gives everything back.

Each scenario is run again and again, and cancelled one event later each time, until it is over
before: so every point is tried at which a call waits, and every one at which an answer is there
already and has not been taken yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from itertools import combinations
from math import inf
from types import coroutine
from typing import Any

import pytest

from holdfast import Breaker, Budget, Ejection, Limit, Policy, Retry, errors, ops
from holdfast.cluster.functions import FunctionCore
from holdfast.drivers.simulated import World
from holdfast.errors import HoldfastError
from holdfast.http.limits import Timeout
from holdfast.http.responses import Response
from holdfast.policy import (
    AdaptiveLimit,
    Admission,
    Coalesce,
    Event,
    Fallback,
    Fault,
    Hedge,
    RateLimit,
)
from tests.cluster.calls import Asked, Reply, Virtual
from tests.conformance.drivers import LOOPS

#: Each part of a policy so that it takes part in the scenario.
PARTS: dict[str, Any] = {
    "retry": Retry(attempts=3, base=0.01, attempt_timeout=0.4),
    "budget": Budget(share=0, per_second=0.01, window=600),  # six of them, in one bucket
    "hedge": Hedge(after=0.1),
    "breaker": Breaker(failures=1, open_for=0.05),
    "limit": Limit(1, queue=9),
    "cluster_limit": Limit(2, queue=9),
    "rate": RateLimit(20, burst=1),
    "admission": Admission(k=1.5),
    "fallback": Fallback(function=lambda error: error, stale=60),
    "coalesce": Coalesce(),
    "faults": Fault(0.3, delay=0.05),
    "deadline_header": "timeout-ms",
}

NONE: dict[str, Any] = dict.fromkeys(PARTS) | {"faults": ()}

COMBINATIONS = [
    (),
    *[(one,) for one in PARTS],
    *combinations(PARTS, 2),
    tuple(name for name in PARTS if name != "coalesce"),
    tuple(PARTS),
]


def policy_of(names: tuple[str, ...]) -> Policy:
    """Return a policy with these parts only."""
    return Policy(timeout=2, **{**NONE, **{name: PARTS[name] for name in names}})


class Scene:
    """Three calls at once on three hosts that have their troubles; the second one is the victim."""

    def __init__(self, policy: Policy, stream: bool = False) -> None:
        self.cluster = Virtual(
            3, policy, ejection=Ejection(failures=1, base=0.05), balancer="round-robin"
        )
        self.events: list[Event] = []
        self.cluster.core.listen(self.events.append)
        replies = iter(
            [
                Reply(after=0.02),
                Reply(fate="reset"),
                Reply(status=503, after=0.2, pieces=[(0.01, b"busy")]),
                Reply(after=0.3, pieces=[(0.01, b"a"), (0.01, b"b")]),
                Reply(after=1),
            ]
        )

        def behave(asked: Asked) -> Reply:
            return next(replies, Reply(after=0.01, pieces=[(0.01, b"x")]))

        for host in self.cluster.hosts:
            host.behaviour = behave
        self.world = world = self.cluster.world
        core = self.cluster.core
        self.calls = 4
        world.start(self._call())
        world.advance(0.05)
        if core.policy.breaker is not None or core.endpoints.ready != core.endpoints.all:
            world.advance(0.06)  # half-open, or to be probed
        self.tasks = [world.start(self._call(), _quiet)]
        self.victim = world.start(self._streamed() if stream else self._call(), _quiet)
        self.tasks += [world.start(self._call(), _quiet)]

    def _call(self) -> ops.Program[Any]:
        try:
            return (yield from self.cluster.program())
        except HoldfastError as error:
            return error

    def _streamed(self) -> ops.Program[Any]:
        """Read a streamed answer as ``with cluster.stream(...)`` does."""
        try:
            response: Any = yield from self.cluster.program(stream=True)
        except HoldfastError as error:
            return error
        if not isinstance(response, Response):
            return response  # the fallback's
        try:
            while (yield from response.reader.read()):
                pass
        finally:
            response.reader.close()
        return response

    def cancel_after(self, events: int, error: BaseException | None) -> bool:
        """Cancel the victim after so many events; tell whether it was still running."""
        left = events
        while left and not self.victim.done:
            self.world.happen()
            left -= 1
        running = not self.victim.done
        self.victim.cancel(error)
        return running

    def check(self) -> None:
        """Assert that nothing is held once the other calls are over."""
        world, core = self.world, self.cluster.core
        world.advance(10)
        assert all(task.done and task.error is None for task in self.tasks)
        assert self.cluster.idle()
        assert core.limiter is None or core.limiter.in_flight == core.limiter.waiting == 0
        assert core.rate is None or core.rate.waiting == 0
        assert core.flights is None or len(core.flights) == 0
        self._check_budget()
        # Nothing that the cancelled call did keeps anybody from being called.
        for host in self.cluster.hosts:
            host.behaviour = Reply()
        served = [host.served for host in self.cluster.hosts]
        world.advance(1000)
        for _ in range(12):
            world.advance(1)
            world.run(self._call())
        if core.admission is None:
            assert all(
                host.served > before
                for host, before in zip(self.cluster.hosts, served, strict=True)
            )
        assert core.endpoints.ready == core.endpoints.all
        for endpoint in core.endpoints.all:
            assert not endpoint.health.probing
            assert endpoint.breaker is None or endpoint.breaker.state == "closed"
        if core.rate is not None:
            world.advance(10)
            assert core.rate.balance(world.now) == pytest.approx(1)
        assert self.cluster.idle()

    def _check_budget(self) -> None:
        """Assert that what was paid is what was made: attempts that are no call's first."""
        budget = self.cluster.core.budget
        if budget is None:
            return
        settled = [e for e in self.events if e.kind in ("attempt succeeded", "attempt failed")]
        further = sum(event.attempt > 1 for event in settled)
        assert budget.window.failures == further


def _quiet(task: Any) -> None:
    """Leave what became of a task to be looked at."""


class Cancelled(BaseException):
    """What is thrown into a program that is cancelled."""


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("names", COMBINATIONS, ids=lambda names: "+".join(names) or "nothing")
def test_a_call_is_cancelled_at_every_point(names: tuple[str, ...], stream: bool) -> None:
    """Slots, permits, tokens, connections and the budget are as if it had not been."""
    policy = policy_of(names)
    count = 0
    running = True
    while running:
        # Programs are closed by drivers that drop them, and thrown into by those that cancel.
        error = Cancelled() if count % 2 else None
        scene = Scene(policy, stream)
        running = scene.cancel_after(count, error)
        scene.check()
        count += 1
    assert count > 8


@pytest.mark.slow
@pytest.mark.parametrize("names", [("hedge", "limit"), ("hedge", "retry", "budget", "breaker")])
def test_a_hedged_stream_is_cancelled_at_every_point(names: tuple[str, ...]) -> None:
    """Also between the answer of who won and its arrival at the call."""
    count = 0
    running = True
    while running:
        cluster = Virtual(2, policy_of(names))
        left = iter([Reply(after=0.3, status=503, body=b"x"), Reply(after=0.25, body=b"y")])
        for host in cluster.hosts:
            host.behaviour = lambda asked, left=left: next(left, Reply())
        task = cluster.world.start(cluster.program(stream=True), _quiet)
        for _ in range(count):
            if not task.done:
                cluster.world.happen()
        running = not task.done
        task.cancel()
        cluster.world.advance(5)
        if running:
            assert cluster.idle()
        count += 1
    assert count > 10


# Functions.


def operations(program: ops.Program[Any], world: World) -> Generator[int, None, Any]:
    """Perform a program's operations, and stop before each; close it, or throw, in between."""
    value: Any = None
    step: Callable[[Any], Any] = program.send
    count = 0
    while True:
        try:
            operation = step(value)
        except StopIteration as stop:
            return stop.value
        yield (count := count + 1)
        step = program.send
        try:
            match operation:
                case ops.Sleep():
                    world.now = max(world.now, operation.until)
                    value = None
                case ops.Wait():
                    assert operation.deadline < inf
                    world.now = max(world.now, operation.deadline)
                    raise TimeoutError
                case ops.Invoke():
                    value = operation.function(*operation.arguments)
                case _:
                    raise AssertionError(operation)
        except BaseException as error:
            value, step = error, program.throw


FUNCTION_COMBINATIONS = [
    tuple(name for name in names if name not in ("hedge", "deadline_header"))
    for names in COMBINATIONS
]


def core_of(policy: Policy, world: World) -> FunctionCore:
    """Return a function's state in virtual time."""
    return FunctionCore(policy, "work", clock=world.clock, random=world.random)


def assert_idle(core: FunctionCore) -> None:
    """Assert that a function's state holds nothing for any call."""
    endpoint = core.endpoint
    assert endpoint.in_flight == endpoint.waiting == 0
    assert core.limiter is None or core.limiter.in_flight == core.limiter.waiting == 0
    assert core.rate is None or core.rate.waiting == 0
    assert core.flights is None or len(core.flights) == 0
    assert not endpoint.health.probing
    assert endpoint.breaker is None or endpoint.breaker._probing == 0


@pytest.mark.parametrize("how", ["close", "throw"])
@pytest.mark.parametrize(
    "names", sorted(set(FUNCTION_COMBINATIONS)), ids=lambda names: "+".join(names) or "nothing"
)
def test_a_function_call_is_cancelled_at_every_operation(names: tuple[str, ...], how: str) -> None:
    """Its program is closed, or thrown into, before each of its operations."""
    stop_at = 0
    running = True
    while running:
        world = World(seed=stop_at)
        core = core_of(policy_of(names), world)
        outcomes = iter([ConnectionError(), TimeoutError("slow"), 3])
        events: list[Event] = []
        core.listen(events.append)

        def work() -> Any:
            outcome = next(outcomes)  # noqa: B023
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        program = core.call(work, (), {})
        steps = operations(program, world)
        reached = 0
        try:
            while reached < stop_at:
                reached = next(steps)
        except StopIteration:
            running = False
        except (HoldfastError, OSError):
            running = False
        else:
            if how == "close":
                program.close()
            else:
                with pytest.raises(Cancelled):
                    program.throw(Cancelled())
        assert_idle(core)
        if core.budget is not None:
            settled = [e for e in events if e.kind in ("attempt succeeded", "attempt failed")]
            further = sum(event.attempt > 1 for event in settled)
            assert core.budget.window.failures == further
        stop_at += 1
    assert stop_at >= 2


@coroutine
def pause() -> Generator[None, None, None]:
    """Let the event loop go on once, or whoever steps the coroutine."""
    yield


ASYNC_PARTS: dict[str, Any] = {
    "breaker": Breaker(failures=1),
    "limit": Limit(1),
    "cluster_limit": Limit(1),
    "adaptive": AdaptiveLimit(initial=1, least=1, most=1),
    "budget": Budget(),
    "rate": RateLimit(1000),
    "admission": Admission(),
    "coalesce": Coalesce(),
    "fallback": Fallback(7, stale=3),
}


def async_policy(names: tuple[str, ...], timeout: float | None) -> Policy:
    """Return a policy for an asynchronous function with these parts only."""
    parts = {**NONE, **{name: ASYNC_PARTS[name] for name in names}}
    if (adaptive := parts.pop("adaptive", None)) is not None:
        parts["limit"] = adaptive
    return Policy(timeout=timeout, **parts)


ASYNC_COMBINATIONS = [
    (),
    *[(one,) for one in ASYNC_PARTS],
    *[pair for pair in combinations(ASYNC_PARTS, 2) if set(pair) != {"limit", "adaptive"}],
]


@pytest.mark.parametrize("how", ["close", "throw"])
@pytest.mark.parametrize(
    "names",
    [names for names in ASYNC_COMBINATIONS if "cluster_limit" not in names],
    ids=lambda names: "+".join(names) or "nothing",
)
def test_a_coroutine_is_closed_at_every_point(names: tuple[str, ...], how: str) -> None:
    """Also a coroutine that no event loop runs gives its slot back, and is no failure."""

    @async_policy(names, None)
    async def work() -> int:
        for _ in range(3):
            await pause()
        return 3

    core: FunctionCore = work.core  # type: ignore[attr-defined]
    for stop_at in range(1, 4):
        running = work()
        for _ in range(stop_at):
            running.send(None)
        if "limit" in names:
            assert core.endpoint.in_flight == 1
        if how == "close":
            running.close()
        else:
            with pytest.raises(asyncio.CancelledError):
                running.throw(asyncio.CancelledError())
        assert_idle(core)
        assert core.endpoint.breaker is None or core.endpoint.breaker.state == "closed"


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize("loop", LOOPS)
def test_an_asynchronous_function_is_cancelled_at_every_point(
    loop: str, timeout: float | None
) -> None:
    """The task's cancellation stays one, and the state is as if the call had not been."""

    async def cancelled_at(names: tuple[str, ...], point: int) -> bool:
        points = 0

        @async_policy(names, timeout)
        async def work() -> int:
            nonlocal points
            for _ in range(3):
                points += 1
                if points == point:
                    task.cancel()
                await asyncio.sleep(0)
            return 3

        core: FunctionCore = work.core  # type: ignore[attr-defined]
        task = asyncio.ensure_future(work())
        try:
            assert await task == 3
        except asyncio.CancelledError:
            assert points == point
        assert task.cancelling() == (points >= point)
        reached = points >= point
        assert_idle(core)
        assert core.endpoint.breaker is None or core.endpoint.breaker.state == "closed"
        assert await work() == 3  # nothing stands in the way of another call
        assert_idle(core)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return reached

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        for names in ASYNC_COMBINATIONS:
            point = 1
            while runner.run(cancelled_at(names, point)):
                point += 1
                assert point < 10
            assert point == 4


@pytest.mark.parametrize("loop", LOOPS)
def test_a_queued_function_call_is_cancelled(loop: str) -> None:
    """Who waits for a slot, or for the end of another's call, leaves the queue."""

    async def main(policy: Policy) -> None:
        gate = asyncio.Event()

        @policy
        async def work() -> int:
            await gate.wait()
            return 3

        core: FunctionCore = work.core  # type: ignore[attr-defined]
        tasks = [asyncio.ensure_future(work()) for _ in range(4)]
        for _ in range(5):
            await asyncio.sleep(0)
        for turn in (2, 0):  # one that waits, then the one that all wait for
            tasks[turn].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[turn]
        gate.set()
        assert list(await asyncio.gather(tasks[1], tasks[3])) == [3, 3]
        assert_idle(core)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        for parts in (
            {"limit": Limit(1)},
            {"cluster_limit": Limit(1)},
            {"coalesce": Coalesce()},
            {"coalesce": Coalesce(), "limit": Limit(1)},
        ):
            runner.run(main(Policy(**parts)))


def test_the_loser_of_hedged_functions_is_cancelled() -> None:
    """It gets a cancellation, and its slot is free when the call returns."""
    ended: list[str] = []

    async def main() -> None:
        gate = asyncio.Event()

        @Policy(hedge=Hedge(after=0.001), limit=Limit(2))
        async def work() -> int:
            if not gate.is_set():
                gate.set()
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    ended.append("cancelled")
                    raise
            return 3

        assert await work() == 3
        assert ended == ["cancelled"]
        assert_idle(work.core)  # type: ignore[attr-defined]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_the_program_of_a_call_can_be_closed_before_it_begins() -> None:
    """It holds nothing yet."""
    cluster = Virtual(1, policy_of(tuple(PARTS)))
    program = cluster.program()
    program.close()
    assert cluster.idle()


def test_a_token_that_was_waited_for_goes_to_the_next() -> None:
    """Who is cancelled before its token comes leaves it to those behind."""
    cluster = Virtual(1, Policy(timeout=None, rate=RateLimit(0.1, burst=1)))
    world = cluster.world
    cluster.call()
    tasks = [world.start(cluster.program(timeout=Timeout(None))) for _ in range(3)]
    world.advance(1)
    tasks[0].cancel()
    tasks[1].cancel()
    world.advance(8.9)
    assert cluster.hosts[0].served == 1
    world.advance(0.2)
    assert cluster.hosts[0].served == 2
    assert cluster.core.rate is not None
    assert cluster.core.rate.waiting == 0


def test_cancelled_calls_say_nothing_of_the_hosts() -> None:
    """Neither they nor those that a full queue refused make admission reject others."""
    cluster = Virtual(1, Policy(admission=Admission(), limit=Limit(1, queue=0), retry=None))
    admission = cluster.core.admission
    assert admission is not None
    for _ in range(60):
        cluster.call()
    cluster.all_reply(after=1)
    for _ in range(50):
        task = cluster.world.start(cluster.program())
        cluster.world.advance(0.1)
        assert isinstance(cluster.fail(), errors.LimitExceeded)
        task.cancel()
    assert admission.probability(cluster.world.now) == 0
    assert cluster.idle()

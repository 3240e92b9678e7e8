"""A call within another one has no more time than is left of that."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import AsyncCluster, Cluster, Policy, Retry, errors
from holdfast.cluster.functions import FunctionCore
from holdfast.http.limits import Timeout
from holdfast.policy import Fallback, Hedge, deadline, remaining
from holdfast.policy.deadline import OUTER, inherited
from holdfast.testing import scripted
from tests.cluster.calls import Reply, Virtual, request

HEADER = "X-Envoy-Expected-Rq-Timeout-Ms"


def told(cluster: Virtual) -> list[int]:
    """Return the milliseconds that the hosts were told, in order of time."""
    every = sorted((one for host in cluster.hosts for one in host.asked), key=lambda a: a.time)
    return [int(one.headers[HEADER.lower()]) for one in every]


def test_an_outer_deadline_ends_a_call() -> None:
    """A call that may take 5 seconds ends after 2 when that is what is left."""
    cluster = Virtual()
    cluster.all_reply(after=inf)
    with deadline(2, clock=cluster.world.clock):
        error = cluster.fail(timeout=5)
    assert isinstance(error, errors.DeadlineExceeded)
    assert cluster.elapsed == 2
    assert cluster.idle()


def test_a_call_has_its_own_deadline_when_that_is_nearer() -> None:
    """The outer one extends nothing."""
    cluster = Virtual()
    cluster.all_reply(after=inf)
    with deadline(2, clock=cluster.world.clock):
        cluster.fail(timeout=0.5)
    assert cluster.elapsed == 0.5


def test_calls_share_an_outer_deadline() -> None:
    """What one has used is not there for the next one, which fails without being sent."""
    cluster = Virtual()
    cluster.all_reply(after=0.7)
    with deadline(1, clock=cluster.world.clock):
        assert cluster.call().status_code == 200
        assert isinstance(cluster.fail(), errors.DeadlineExceeded)
        assert cluster.elapsed == 1
        assert isinstance(cluster.fail(), errors.DeadlineExceeded)
    assert cluster.elapsed == 1
    assert cluster.idle()
    assert cluster.call().status_code == 200


def test_no_retry_begins_after_an_outer_deadline() -> None:
    """Nor one that would."""
    cluster = Virtual(3, Policy(retry=Retry(base=9, cap=9, attempts=9), breaker=None))
    cluster.all_reply(fate="reset")
    with deadline(0.5, clock=cluster.world.clock):
        error = cluster.fail(timeout=60)
    assert "the deadline is too near" in str(error)
    assert cluster.elapsed <= 0.5


def test_each_attempt_is_told_what_is_left() -> None:
    """In milliseconds, without those that earlier attempts have used."""
    policy = Policy(
        timeout=4, deadline_header=HEADER, retry=Retry(base=1e-9), budget=None, breaker=None
    )
    cluster = Virtual(3, policy)
    cluster.all_reply(after=1, status=503)
    cluster.call()
    assert told(cluster) == pytest.approx([4000, 3000, 2000], abs=1)


def test_each_attempt_is_told_its_own_limit() -> None:
    """An attempt that is given up earlier says so."""
    retry = Retry(base=1e-9, attempt_timeout=0.75, attempts=4)
    cluster = Virtual(3, Policy(timeout=2, deadline_header=HEADER, retry=retry, breaker=None))
    cluster.all_reply(after=inf)
    cluster.fail()
    assert told(cluster) == pytest.approx([750, 750, 500], abs=1)


def test_hedges_are_told_what_is_left() -> None:
    """A later attempt has less time, whether the first one failed or not."""
    policy = Policy(timeout=2, deadline_header=HEADER, hedge=Hedge(after=0.5))
    cluster = Virtual(3, policy)
    cluster.all_reply(after=1)
    cluster.call()
    assert told(cluster) == pytest.approx([2000, 1500], abs=1)


def test_an_outer_deadline_is_what_is_told() -> None:
    """It goes on to the next host, which can go by it in turn."""
    cluster = Virtual(3, Policy(timeout=4, deadline_header=HEADER))
    with deadline(1.5, clock=cluster.world.clock):
        cluster.world.advance(0.5)
        cluster.call()
    assert told(cluster) == [1000]


def test_a_deadline_that_is_not_there_is_not_told() -> None:
    """Without any there is no header; a caller's own header of that name is replaced."""
    cluster = Virtual(3, Policy(timeout=None, deadline_header=HEADER))
    cluster.call(timeout=Timeout(None))
    (asked,) = [one for host in cluster.hosts for one in host.asked]
    assert HEADER.lower() not in asked.headers
    cluster.call(timeout=3, headers={HEADER: "99999", "Other": "x"})
    (again,) = [one for host in cluster.hosts for one in host.asked if one is not asked]
    assert again.head.lower().count(HEADER.lower()) == 1
    assert again.headers[HEADER.lower()] == "3000"
    assert again.headers["other"] == "x"


def test_less_than_a_millisecond_is_one() -> None:
    """Zero would mean no limit to some."""
    cluster = Virtual(1, Policy(deadline_header=HEADER))
    cluster.call(timeout=0.0004)
    assert told(cluster) == [1]


def test_the_header_leaves_the_request_alone() -> None:
    """A request may be sent again, by another call with another deadline."""
    cluster = Virtual(1, Policy(deadline_header=HEADER))
    one = request(cluster.core, timeout=2, headers={"A": "b"})
    cluster.world.run(cluster.core.call(one))
    assert list(one.headers) == [("A", "b")]


def function_of(world: Any, policy: Policy) -> FunctionCore:
    """Return a function's state in virtual time."""
    return FunctionCore(policy, "work", clock=world.clock, random=world.random)


@given(
    limits=st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, None]), min_size=1, max_size=4),
    own=st.sampled_from([0.25, 1.0, 3.0]),
)
def test_nested_calls_never_exceed_the_outer_one(limits: list[float | None], own: float) -> None:
    """However deep functions and calls are nested, the nearest deadline of all holds."""
    cluster = Virtual(2, Policy(retry=Retry(attempts=9, base=0.01), breaker=None))
    cluster.all_reply(after=inf)
    world = cluster.world
    seen: list[float] = []

    def innermost() -> Any:
        seen.append(inherited(world.clock) - world.now)
        return cluster.program(timeout=own)

    work: Any = innermost
    for limit in limits:
        core = function_of(world, Policy(timeout=limit, retry=Retry(attempts=3, base=0.01)))

        def outer(core: FunctionCore = core, inner: Any = work) -> Any:
            # A function that makes its call where the driver can run it.
            program = core.call(inner, (), {})
            operation = program.send(None)
            assert type(operation).__name__ == "Invoke"
            program_of_call = operation.function(*operation.arguments)  # type: ignore[attr-defined]
            program.close()
            return program_of_call

        work = outer
    with pytest.raises(errors.DeadlineExceeded):
        world.run(work())
    nearest = min([own, *(limit for limit in limits if limit is not None)])
    assert cluster.elapsed == pytest.approx(nearest)
    assert OUTER.get() is None
    assert cluster.idle()


def test_calls_in_a_function_have_what_is_left_of_it() -> None:
    """A plain function's deadline is that of all calls that it makes."""
    left: list[float] = []

    @Policy(timeout=0.5)
    def inner() -> None:
        left.append(remaining())

    @Policy(timeout=0.25)
    def middle() -> None:
        left.append(remaining())
        inner()

    @Policy(timeout=30)
    def outer() -> None:
        left.append(remaining())
        middle()
        left.append(remaining())

    outer()
    assert 0.25 < left[3] <= left[0] <= 30
    assert left[2] <= left[1] <= 0.25
    assert inherited() == inf


def test_a_function_without_a_limit_passes_the_outer_one_on() -> None:
    """To have none of its own does not end the outer one."""
    left: list[float] = []

    @Policy(timeout=None)
    def inner() -> None:
        left.append(remaining())

    with deadline(3):
        inner()
    assert 0 < left[0] <= 3
    inner()
    assert left[1] == inf


@pytest.mark.parametrize("limit", [None, 60.0])
@pytest.mark.parametrize("special", [{}, {"fallback": Fallback("late", on=(LookupError,))}])
def test_an_outer_deadline_cancels_an_asynchronous_function(
    limit: float | None, special: dict[str, Any]
) -> None:
    """Whether or not the function has a limit of its own."""
    ended: list[str] = []

    @Policy(timeout=limit, **special)
    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> None:
        with deadline(0.01), pytest.raises(errors.DeadlineExceeded):
            async with asyncio.timeout(2):
                await work()

    asyncio.run(main())
    assert ended == ["cancelled"]


def test_tasks_of_a_function_have_its_deadline() -> None:
    """Context variables go into what it starts."""

    async def child() -> float:
        return remaining()

    @Policy(timeout=2)
    async def work() -> list[float]:
        return list(await asyncio.gather(child(), asyncio.to_thread(remaining)))

    for left in asyncio.run(work()):
        assert 0 < left <= 2


def test_clusters_on_every_face_inherit_it() -> None:
    """The blocking one and the asynchronous one."""
    world = scripted({"a:80": lambda asked: Reply(after=inf)})
    with Cluster(world.addresses, driver=world) as cluster:
        with deadline(1, clock=world.clock), pytest.raises(errors.DeadlineExceeded):
            cluster.get("/")
        assert world.now == 1
        with deadline(1, clock=world.clock):
            (failed,) = cluster.broadcast("GET", "/", return_exceptions=True)
        assert isinstance(failed, errors.DeadlineExceeded)
        assert world.now == 2

    async def main() -> None:
        async with AsyncCluster(world.addresses, driver=world) as cluster:
            with deadline(1, clock=world.clock), pytest.raises(errors.DeadlineExceeded):
                await cluster.get("/")

    asyncio.run(main())
    assert world.now == 3


def test_a_deadline_of_real_time_does_not_hold_in_virtual_time() -> None:
    """Two clocks have nothing to say to each other."""
    cluster = Virtual()
    cluster.all_reply(after=3)
    with deadline(0.001):
        assert cluster.call().status_code == 200

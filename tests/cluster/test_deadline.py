"""A call is over at its deadline, whatever happens."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import Breaker, Ejection, Limit, Policy, Retry, errors, ops
from holdfast.http.limits import Timeout
from tests.cluster.calls import Asked, Reply, Virtual

seconds = st.sampled_from([0.0, 0.001, 0.3, 0.7, 1.0, 2.5, inf])
replies = st.builds(
    Reply,
    status=st.sampled_from([200, 200, 429, 500, 503]),
    after=seconds,
    headers=st.sampled_from([{}, {"Retry-After": "1"}, {"Retry-After": "60"}]),
    pieces=st.lists(st.tuples(st.sampled_from([0.0, 0.4, inf]), st.just(b"x")), max_size=2),
    fate=st.sampled_from(["answer", "answer", "reset", "close", "cut"]),
)


@pytest.mark.slow
@settings(max_examples=150)
@given(data=st.data())
def test_no_call_outlasts_its_deadline(data: st.DataObject) -> None:
    """With retries, queues, slow and dead hosts, every call ends by its deadline, to the turn."""
    limit = st.sampled_from([None, Limit(1, queue=2), Limit(2, queue=20)])
    policy = Policy(
        timeout=2.0,
        retry=Retry(
            attempts=data.draw(st.integers(1, 5)),
            base=data.draw(st.sampled_from([0.001, 0.5, 3.0])),
            attempt_timeout=data.draw(st.sampled_from([None, 0.5, 1.0, 5.0])),
        ),
        breaker=data.draw(st.sampled_from([None, Breaker(failures=2, open_for=0.5)])),
        limit=data.draw(limit),
        cluster_limit=data.draw(limit),
    )
    cluster = Virtual(data.draw(st.integers(1, 3)), policy, ejection=Ejection(failures=2, base=1))
    for host in cluster.hosts:
        host.accepts = data.draw(st.booleans())
        host.connect_after = data.draw(seconds)
        reply = data.draw(replies)
        host.behaviour = reply
    world = cluster.world
    limits = data.draw(st.sampled_from([2.0, Timeout(2.0, connect=0.6), Timeout(2.0, read=0.3)]))
    lasted: list[float] = []

    def timed(program: ops.Program[Any]) -> ops.Program[Any]:
        began = world.now
        try:
            return (yield from program)
        finally:
            lasted.append(world.now - began)

    tasks = []
    for pause in data.draw(st.lists(st.sampled_from([0.0, 0.1, 1.0]), min_size=1, max_size=8)):
        world.advance(pause)
        method = data.draw(st.sampled_from(["GET", "POST"]))
        tasks.append(world.start(timed(cluster.program(method, timeout=limits))))
    world.advance(60)
    assert len(lasted) == len(tasks)
    assert max(lasted) <= 2.0 + 1e-9
    for task in tasks:
        assert task.error is None or isinstance(task.error, errors.HoldfastError)
    assert cluster.idle()


def test_silence_ends_at_the_deadline() -> None:
    """A host that says nothing costs the whole time of the call and no more."""
    cluster = Virtual()
    cluster.all_reply(after=inf)
    error = cluster.fail()
    assert isinstance(error, errors.DeadlineExceeded)
    assert isinstance(error, TimeoutError)
    assert isinstance(error, OSError)
    assert cluster.elapsed == 5
    assert len(error.attempts) == 1
    assert cluster.idle()


def test_a_body_that_trickles_in_ends_at_the_deadline() -> None:
    """Progress does not extend the time of the call."""
    cluster = Virtual()
    cluster.all_reply(pieces=[(0.5, b"x")] * 100)
    assert isinstance(cluster.fail(timeout=3), errors.DeadlineExceeded)
    assert cluster.elapsed == 3
    assert cluster.idle()


def test_the_time_in_the_queue_counts() -> None:
    """Who waits for a slot until the deadline never gets to ask."""
    cluster = Virtual(1, Policy(limit=Limit(1, queue=5), breaker=None))
    cluster.all_reply(after=4)
    world = cluster.world
    first = world.start(cluster.program())
    world.advance(1)
    second = world.start(cluster.program(timeout=2))
    third = world.start(cluster.program(timeout=7))
    world.advance(2)
    with pytest.raises(errors.DeadlineExceeded, match="no free slot in time"):
        second.result()
    world.advance(1)
    assert first.result().status_code == 200
    world.advance(4)
    assert third.result().status_code == 200
    assert third.result().seconds == 7
    assert len(cluster.hosts[0].asked) == 2
    assert cluster.core.endpoints.all[0].health.failures == 0
    assert cluster.idle()


def test_no_retry_starts_that_could_not_end() -> None:
    """When the pause would reach the deadline the call ends at once, with what it has."""
    retry = Retry(attempts=10, base=10.0, cap=10.0)
    for seed in range(20):
        cluster = Virtual(2, Policy(timeout=1.0, retry=retry, breaker=None), seed=seed)
        cluster.all_reply(fate="reset")
        error = cluster.fail()
        assert cluster.elapsed < 1
        assert "the deadline is too near for another attempt" in str(error)


def test_without_a_time_limit_a_call_waits() -> None:
    """None is no limit at all."""
    cluster = Virtual(1, Policy(timeout=None))
    cluster.all_reply(after=100_000)
    assert cluster.call(timeout=Timeout(total=None, connect=None)).status_code == 200
    assert cluster.elapsed == 100_000


@pytest.mark.parametrize("start", [0.0, 1e9])
def test_any_clock_will_do(start: float) -> None:
    """The laws hold from the first second of a clock on."""
    cluster = Virtual(1, Policy(retry=None), start=start)
    cluster.all_reply(after=inf)
    endpoint = cluster.core.endpoints.all[0]
    error = cluster.fail(timeout=1)
    assert isinstance(error, errors.DeadlineExceeded)
    assert "no complete answer" in str(error)
    assert endpoint.breaker is not None
    assert endpoint.breaker._failures == 1
    (attempt,) = error.attempts
    assert attempt.elapsed == 1


def test_a_call_that_is_cancelled_gives_everything_back() -> None:
    """Closed at any point of its way, a call leaves no slot, probe or connection behind."""

    def behave(asked: Asked) -> Reply:
        return Reply(status=503 if int(asked.time * 10) % 3 else 200, after=0.1, body=b"x" * 100)

    for point in range(30):
        policy = Policy(limit=Limit(1, queue=1), cluster_limit=Limit(1, queue=3))
        cluster = Virtual(2, policy, ejection=Ejection())
        for host in cluster.hosts:
            host.behaviour = behave
            host.connect_after = 0.05
        world = cluster.world
        tasks = [world.start(cluster.program()) for _ in range(3)]
        for _ in range(point):
            if world.next < inf:
                world.happen()
        for task in tasks:
            task.cancel(KeyboardInterrupt() if point % 2 else None)
        world.advance(10)
        assert cluster.idle(), f"after {point} turns"
        limiter: Any = cluster.core.limiter
        assert (limiter.in_flight, limiter.waiting) == (0, 0)
        assert cluster.call(timeout=5).status_code in (200, 503)

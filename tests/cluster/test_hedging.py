"""A second attempt when the first is late: when, where, who wins, and what becomes of the other."""

from __future__ import annotations

import asyncio
import io
from math import inf
from typing import Any

import pytest

from holdfast import AsyncCluster, Budget, Cluster, Limit, Policy, Retry, errors
from holdfast.policy import Breaker, Event, Hedge, RateLimit
from tests.cluster.calls import Asked, Reply, Virtual, attempts, request, tried
from tests.conformance.drivers import LOOPS
from tests.conformance.peers import left_open, sockets_open
from tests.servers import EchoServer

SOON = Hedge(after=0.1)


def policy(hedge: Hedge = SOON, **parts: Any) -> Policy:
    """Return a policy with hedges and eager retries; other parts are off unless given."""
    parts = {
        "retry": Retry(attempts=3, base=1e-9),
        "budget": None,
        "breaker": None,
        "limit": None,
        **parts,
    }
    return Policy(hedge=hedge, **parts)


def script(cluster: Virtual, *replies: Reply, then: Reply | None = None) -> None:
    """Have the requests to all hosts together answered in this order, then all alike."""
    left = iter(replies)

    def behave(asked: Asked) -> Reply:
        return next(left, then or Reply())

    for host in cluster.hosts:
        host.behaviour = behave


def asked(cluster: Virtual) -> list[float]:
    """Return when the hosts were asked, in seconds from the beginning."""
    times = [one.time - cluster.world.began for host in cluster.hosts for one in host.asked]
    return sorted(times)


def kinds(events: list[Event]) -> list[str]:
    """Return what happened, in order."""
    return [event.kind for event in events]


def test_who_is_late_is_overtaken() -> None:
    """After the wait another host is asked; its answer is the call's, and the first is given up."""
    cluster = Virtual(3, policy(limit=Limit(1), cluster_limit=Limit(3)))
    script(cluster, Reply(body=b"late", after=3), Reply(body=b"soon", after=0.05))
    response = cluster.call()
    assert response.content == b"soon"
    assert cluster.elapsed == pytest.approx(0.15)
    assert asked(cluster) == pytest.approx([0, 0.1])
    first, second = attempts(response)  # the last one is the response
    assert first.endpoint != second.endpoint
    assert (first.number, second.number) == (1, 2)
    assert (first.status, second.status) == (None, 200)
    assert "cancelled" in str(first)
    assert cluster.idle()
    assert cluster.core.limiter is not None
    assert cluster.core.limiter.in_flight == 0
    assert sum(host.open for host in cluster.hosts) == 1  # the loser's connection was closed


def test_the_first_may_still_win() -> None:
    """A hedge does not end the first attempt; the answer that is there first counts."""
    cluster = Virtual(3, policy())
    script(cluster, Reply(body=b"first", after=0.2), Reply(body=b"second", after=3))
    response = cluster.call()
    assert response.content == b"first"
    assert cluster.elapsed == pytest.approx(0.2)
    assert len(asked(cluster)) == 2
    assert attempts(response)[-1].status == 200  # the last attempt is the response
    assert cluster.idle()


def test_who_answers_in_time_is_not_hedged() -> None:
    """An answer at the very end of the wait is in time."""
    events: list[Event] = []
    cluster = Virtual(3, policy(), listeners=[events.append])
    cluster.all_reply(after=0.1)
    cluster.call()
    assert "hedged" not in kinds(events)
    assert len(asked(cluster)) == 1


def test_the_wait_is_a_quantile_of_recent_latency() -> None:
    """Once enough answers are known, the hedge comes after so large a share of them."""
    cluster = Virtual(3, policy(Hedge(quantile=0.9, calls=20)))
    script(cluster, *[Reply(after=0.01)] * 18, *[Reply(after=0.2)] * 2)
    for _ in range(20):
        assert len(cluster.call().attempts) == 1
    began = cluster.elapsed
    script(cluster, Reply(after=3))
    response = cluster.call()
    assert len(response.attempts) == 2
    assert cluster.elapsed - began == pytest.approx(0.01, rel=0.06)


def test_with_too_few_answers_there_is_no_hedge() -> None:
    """Who knows nothing of the usual latency does not ask twice."""
    cluster = Virtual(3, policy(Hedge(calls=20)))
    cluster.all_reply(after=1)
    for _ in range(19):
        cluster.call()
    assert len(asked(cluster)) == 19


def test_hedges_are_paid_from_the_budget_of_retries() -> None:
    """Hedges and retries together are no more than the budget has."""
    budget = Budget(share=0, per_second=0.2, window=10)
    cluster = Virtual(3, policy(budget=budget))
    script(cluster, Reply(after=1), Reply(status=503), Reply(after=0.5), Reply(after=1))
    first = cluster.call()  # one hedge, whose answer is no good; the first wins
    assert (len(first.attempts), cluster.elapsed) == (2, 1)
    second = cluster.call()  # another hedge
    assert len(second.attempts) == 2
    cluster.all_reply(after=1)
    assert len(cluster.call().attempts) == 1
    cluster.all_reply(status=503)
    assert len(cluster.call().attempts) == 1


def test_a_hedge_that_finds_no_endpoint_costs_nothing() -> None:
    """What was taken from the budget for it goes back."""
    cluster = Virtual(2, policy(breaker=Breaker(), budget=Budget(window=100)))
    script(cluster, Reply(after=1))
    preferred = cluster.core.call(request(cluster.core), prefer=lambda: cluster.core.endpoints.all)
    task = cluster.world.start(preferred)
    cluster.world.advance(0.05)
    budget = cluster.core.budget
    assert budget is not None
    before = budget.balance(cluster.world.now)
    for endpoint in cluster.core.endpoints.all:
        assert endpoint.breaker is not None
        endpoint.breaker.force("open", cluster.world.now)
    cluster.world.advance(5)
    assert task.result().status_code == 200
    assert len(task.result().attempts) == 1
    assert budget.balance(cluster.world.now) == before
    assert cluster.idle()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("POST", {}),
        ("PATCH", {}),
        ("GET", {"idempotent": False}),
        ("GET", {"into": bytearray(10)}),
        ("PUT", {"content": iter([b"a", b"b"])}),
        ("PUT", {"content": io.BytesIO(b"of one position")}),
    ],
    ids=["post", "patch", "not-idempotent", "into", "iterator", "file"],
)
def test_what_must_not_be_done_twice_is_not_hedged(method: str, options: Any) -> None:
    """Nor is what can be sent, or received, only once at a time."""
    cluster = Virtual(3, policy())
    script(cluster, Reply(after=1))
    assert cluster.call(method, **options).status_code == 200
    assert cluster.elapsed == 1
    assert len(asked(cluster)) == 1


@pytest.mark.parametrize(
    ("method", "options"),
    [("POST", {"idempotent": True}), ("PUT", {"content": b"x"}), ("DELETE", {}), ("HEAD", {})],
)
def test_what_may_be_done_twice_is_hedged(method: str, options: Any) -> None:
    """By its method, or when the caller says so."""
    cluster = Virtual(3, policy())
    script(cluster, Reply(after=1))
    assert cluster.call(method, **options).status_code == 200
    assert cluster.elapsed == pytest.approx(0.1)
    bodies = {one.body for host in cluster.hosts for one in host.asked}
    assert bodies == {options.get("content", b"")}


def test_when_both_fail_there_is_a_retry() -> None:
    """A round of the retry loop is an attempt with its hedges; failures of all lead to the next."""
    events: list[Event] = []
    cluster = Virtual(4, policy(), listeners=[events.append])
    script(cluster, Reply(after=0.5, fate="reset"), Reply(after=0.2, status=503))
    response = cluster.call()
    assert response.status_code == 200
    assert asked(cluster) == pytest.approx([0, 0.1, 0.5])
    assert len(set(tried(response))) == 3
    assert kinds(events).count("retried") == 1
    assert kinds(events).count("hedged") == 1
    assert cluster.idle()


def test_when_everything_fails_the_attempts_are_told() -> None:
    """The error lists hedges as well, and rounds are as many as the policy has attempts."""
    cluster = Virtual(6, policy(retry=Retry(attempts=2, base=1e-9)))
    cluster.all_reply(after=0.15, fate="reset")
    error = cluster.fail()
    assert isinstance(error, errors.NetworkError)
    assert "no attempt is left" in str(error)
    assert sorted(attempt.number for attempt in attempts(error)) == [1, 2, 3, 4]
    assert cluster.idle()


def test_a_first_attempt_that_fails_early_needs_no_hedge() -> None:
    """The retry comes at once, not after the wait for a hedge."""
    events: list[Event] = []
    cluster = Virtual(3, policy(Hedge(after=1)), listeners=[events.append])
    script(cluster, Reply(after=0.01, fate="reset"))
    response = cluster.call()
    assert response.status_code == 200
    assert cluster.elapsed == pytest.approx(0.01)
    assert "hedged" not in kinds(events)
    assert "retried" in kinds(events)


def test_two_good_answers_in_one_instant_are_one_answer() -> None:
    """One wins, the other is dropped, and both connections are accounted for."""
    for stream in (False, True):
        cluster = Virtual(2, policy(limit=Limit(1)))
        script(cluster, Reply(after=0.3, body=b"x"), Reply(after=0.2, body=b"x"))
        response = cluster.call(stream=stream)
        assert cluster.elapsed == pytest.approx(0.3)
        assert len(asked(cluster)) == 2
        if stream:
            assert sum(e.in_flight for e in cluster.core.endpoints.all) == 1
            assert cluster.world.run(response.reader.read_all()) == b"x"
        assert cluster.idle()


def test_two_good_answers_are_one_answer_on_every_instant_around_it() -> None:
    """However close the answers are, nothing stays open."""
    for seed in range(20):
        cluster = Virtual(2, policy(limit=Limit(1)), seed=seed)
        script(
            cluster,
            Reply(after=0.3, pieces=[(seed % 3 * 1e-9, b"x")]),
            Reply(after=0.2, pieces=[(seed % 2 * 1e-9, b"x")]),
        )
        assert cluster.call().content == b"x"
        assert cluster.idle()


def test_a_streamed_answer_wins_with_its_head() -> None:
    """The winner's body is read by the caller, its slot held until then; the loser is closed."""
    cluster = Virtual(2, policy(limit=Limit(1)))
    script(cluster, Reply(after=2), Reply(pieces=[(1, b"one"), (1, b"two")]))
    response = cluster.call(stream=True)
    assert cluster.elapsed == pytest.approx(0.1)
    assert sorted(e.in_flight for e in cluster.core.endpoints.all) == [0, 1]
    assert cluster.world.run(response.reader.read_all()) == b"onetwo"
    assert cluster.idle()


def test_a_streamed_answer_that_was_no_good_is_closed_when_another_wins() -> None:
    """It was kept for the case that nothing better comes."""
    cluster = Virtual(2, policy(limit=Limit(1)))
    script(cluster, Reply(after=0.2, status=503, body=b"busy"), Reply(after=0.3))
    response = cluster.call(stream=True)
    assert response.status_code == 200
    response.reader.close()
    assert cluster.idle()


def test_streamed_answers_that_were_no_good_are_closed_before_a_retry() -> None:
    """All but the last one, which is the call's answer."""
    cluster = Virtual(3, policy(limit=Limit(1), retry=Retry(attempts=2, base=1e-9)))
    cluster.all_reply(after=0.2, status=503, body=b"busy")
    response = cluster.call(stream=True)
    assert response.status_code == 503
    assert sum(e.in_flight for e in cluster.core.endpoints.all) == 1
    assert cluster.world.run(response.reader.read_all()) == b"busy"
    assert cluster.idle()


def test_with_one_endpoint_there_is_no_hedge() -> None:
    """To ask the same host twice helps nobody."""
    events: list[Event] = []
    cluster = Virtual(1, policy(), listeners=[events.append])
    cluster.all_reply(after=1)
    assert len(cluster.call().attempts) == 1
    assert "hedged" not in kinds(events)


def test_with_all_endpoints_tried_there_is_no_hedge() -> None:
    """Neither in a later round."""
    cluster = Virtual(2, policy())
    script(cluster, Reply(fate="reset"), Reply(after=1))
    assert len(cluster.call().attempts) == 2
    assert cluster.elapsed == pytest.approx(1)


def test_several_hedges_follow_each_other() -> None:
    """Each after the same wait, each elsewhere, as many as the policy says."""
    cluster = Virtual(5, policy(Hedge(after=0.1, extra=3)))
    cluster.all_reply(after=1)
    response = cluster.call()
    assert asked(cluster) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert len({attempt.endpoint for attempt in attempts(response)}) == 4
    assert cluster.elapsed == 1
    assert cluster.idle()


def test_a_hedge_after_one_that_failed_comes_all_the_same() -> None:
    """While the first attempt lasts, the next hedge is still of use."""
    cluster = Virtual(5, policy(Hedge(after=0.1, extra=2)))
    script(cluster, Reply(after=1), Reply(fate="reset"), Reply(body=b"third"))
    assert cluster.call().content == b"third"
    assert cluster.elapsed == pytest.approx(0.2)
    assert cluster.idle()


def test_a_hedge_ends_with_the_deadline() -> None:
    """None begins at or after it, and all that run end at it."""
    for after, count in ((0.5, 1), (0.3, 2)):
        cluster = Virtual(3, policy(Hedge(after=after), timeout=0.5))
        cluster.all_reply(after=inf)
        error = cluster.fail()
        assert isinstance(error, errors.DeadlineExceeded)
        assert cluster.elapsed == 0.5
        assert len(asked(cluster)) == count
        assert cluster.idle()


def test_a_hedge_has_the_limits_of_an_attempt() -> None:
    """It takes its slot and its token, or waits for them, as the first one does."""
    cluster = Virtual(2, policy(limit=Limit(1), rate=RateLimit(10, burst=1)))
    cluster.all_reply(after=1)
    cluster.call()
    assert asked(cluster) == pytest.approx([0, 0.1])
    other = Virtual(2, policy(rate=RateLimit(2, burst=1)))
    other.all_reply(after=1)
    other.call()
    assert asked(other) == pytest.approx([0, 0.5])


def test_a_broadcast_is_not_hedged() -> None:
    """Each host was named: no other one can answer for it."""
    cluster = Virtual(3, policy())
    cluster.all_reply(after=1)
    requests = [(endpoint, request(cluster.core)) for endpoint in cluster.core.endpoints.all]
    answers = cluster.world.run(cluster.core.broadcast(requests))
    assert len(answers) == 3
    assert [len(host.asked) for host in cluster.hosts] == [1, 1, 1]


def test_hedges_on_threads_win_and_leak_nothing() -> None:
    """The blocking driver asks the second host while the first is silent."""
    before = sockets_open()
    with EchoServer() as silent, EchoServer() as ready:
        ready.gate.set()
        hosts = [silent.address, ready.address]
        with Cluster(hosts, policy=policy(Hedge(after=0.01)), balancer="round-robin") as cluster:
            for _ in range(4):
                assert cluster.get("/slow").status_code == 200
            assert all(endpoint.in_flight == 0 for endpoint in cluster.endpoints)
        silent.gate.set()
    assert not left_open(before)


@pytest.mark.parametrize("loop", LOOPS)
def test_hedges_on_event_loops_win_and_leak_nothing(loop: str) -> None:
    """The losers' tasks and connections end with the call."""
    before = sockets_open()

    async def main(hosts: list[str]) -> None:
        hedged = policy(Hedge(after=0.01))
        async with AsyncCluster(hosts, policy=hedged, balancer="round-robin") as cluster:
            for _ in range(4):
                assert (await cluster.get("/slow")).status_code == 200
            assert all(endpoint.in_flight == 0 for endpoint in cluster.endpoints)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    with EchoServer() as silent, EchoServer() as ready:
        ready.gate.set()
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(main([silent.address, ready.address]))
        silent.gate.set()
    assert not left_open(before)

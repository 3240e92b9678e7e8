"""Retries never multiply an outage; overload and open circuits end calls early."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import Breaker, Budget, Ejection, Limit, Policy, Retry, errors
from tests.cluster.calls import Asked, Reply, Virtual, attempts, tried


@settings(max_examples=40)
@given(
    share=st.sampled_from([0, 0.2, 0.5]),
    per_second=st.sampled_from([0, 1, 3]),
    calls=st.integers(1, 60),
    fate=st.sampled_from(["reset", "503", "refuse"]),
    attempts=st.integers(2, 6),
)
def test_an_outage_costs_the_budget_and_no_more(
    share: float, per_second: float, calls: int, fate: str, attempts: int
) -> None:
    """With every host failing there are never more attempts than calls · (1 + share) + reserve."""
    policy = Policy(
        retry=Retry(attempts=attempts, base=1e-6),
        budget=Budget(share, per_second, window=10),
        breaker=None,
        limit=None,
    )
    cluster = Virtual(3, policy)
    if fate == "refuse":
        for host in cluster.hosts:
            host.accepts = False
    cluster.all_reply(**({"status": 503} if fate == "503" else {"fate": "reset"}))
    world = cluster.world
    tasks = []
    for _ in range(calls):
        tasks.append(world.start(cluster.program()))
        world.advance(9.0 / calls)
    made = 0
    for task in tasks:
        assert task.done
        outcome: Any = task.error or task.value
        made += len(outcome.attempts)
    bound = calls * (1 + share) + per_second * 10
    assert made <= bound
    assert made >= min(calls * attempts, int(bound)) - calls * share - 1
    if fate != "refuse":
        # A kept connection that was reset is replaced within the attempt, once.
        assert sum(len(host.asked) for host in cluster.hosts) >= made


def test_a_budget_that_is_used_up_is_named() -> None:
    """The error says that the budget was the reason."""
    cluster = Virtual(3, Policy(budget=Budget(share=0, per_second=0.1), breaker=None))
    cluster.all_reply(fate="reset")
    error = cluster.fail()
    assert len(error.attempts) == 2
    assert "the retry budget is used up" in str(error)
    assert len(cluster.fail().attempts) == 1


def test_without_a_budget_all_retries_are_made() -> None:
    """None turns the budget off."""
    cluster = Virtual(3, Policy(budget=None, breaker=None, retry=Retry(attempts=4, base=1e-9)))
    cluster.all_reply(fate="reset")
    for _ in range(200):
        assert len(cluster.fail().attempts) == 4


def test_when_all_circuits_are_open_nothing_is_sent() -> None:
    """The error is at once, names the hosts, and says when the first is tried again."""
    policy = Policy(retry=None, breaker=Breaker(failures=2, open_for=10))
    cluster = Virtual(2, policy, balancer="round-robin")
    cluster.all_reply(fate="reset")
    for _ in range(4):
        cluster.fail()
        cluster.world.advance(1)
    asked = sum(len(host.asked) for host in cluster.hosts)
    error = cluster.fail("POST", "/things?secret=1")
    assert isinstance(error, errors.CircuitOpenError)
    assert isinstance(error, OSError)
    assert error.attempts == ()
    text = str(error)
    assert text.startswith("POST /things: the circuit of every endpoint is open")
    assert "(10.0.0.1:80, 10.0.0.2:80)" in text
    assert text.endswith("tried again in 8 s")
    assert sum(len(host.asked) for host in cluster.hosts) == asked
    cluster.world.advance(8)
    cluster.all_reply()
    response = cluster.call()
    assert tried(response) == ["10.0.0.1:80"]


def test_a_call_whose_hosts_are_all_used_up_says_so() -> None:
    """When circuits open during a call, its error is the last failure, and why it ended."""
    policy = Policy(retry=Retry(attempts=9, base=1e-9), breaker=Breaker(failures=1))
    cluster = Virtual(3, policy)
    cluster.all_reply(fate="reset")
    error = cluster.fail()
    assert isinstance(error, errors.NetworkError)
    assert sorted(tried(error)) == cluster.names
    assert "no other endpoint may be called" in str(error)


def test_while_a_probe_is_out_there_is_no_second() -> None:
    """When half-open circuits are all that is left, others are told that one is being tried."""
    policy = Policy(retry=None, breaker=Breaker(failures=1, open_for=10))
    cluster = Virtual(1, policy)
    cluster.all_reply(fate="reset")
    cluster.fail()
    cluster.all_reply(after=3)
    cluster.world.advance(10)
    probe = cluster.world.start(cluster.program())
    cluster.world.advance(1)
    error = cluster.fail()
    assert isinstance(error, errors.CircuitOpenError)
    assert "probed" in str(error)
    cluster.world.advance(2)
    assert probe.result().status_code == 200
    assert cluster.call().status_code == 200


def test_a_probe_that_is_cancelled_frees_its_place() -> None:
    """The next call probes."""
    policy = Policy(retry=None, breaker=Breaker(failures=1, open_for=10))
    cluster = Virtual(1, policy)
    cluster.all_reply(fate="reset")
    cluster.fail()
    cluster.all_reply(after=3)
    cluster.world.advance(10)
    probe = cluster.world.start(cluster.program())
    cluster.world.advance(1)
    probe.cancel()
    assert cluster.call().status_code == 200


def test_an_ejected_host_is_better_than_none() -> None:
    """When nobody else is left, ejection is ignored, also for several calls at once."""
    policy = Policy(retry=None, breaker=None)
    cluster = Virtual(1, policy, ejection=Ejection(failures=1, panic=0))
    cluster.all_reply(fate="reset")
    cluster.fail()
    assert cluster.core.endpoints.ready == ()
    cluster.all_reply(after=1)
    world = cluster.world
    tasks = [world.start(cluster.program()) for _ in range(3)]
    world.advance(2)
    assert [task.result().status_code for task in tasks] == [200] * 3


def test_a_failing_host_is_left_out_and_comes_back() -> None:
    """Calls survive, the host gets hardly any of them, and all of its share once it is well."""
    cluster = Virtual(4, Policy(), ejection=Ejection(), seed=5)
    bad = cluster.hosts[0]
    bad.behaviour = lambda asked: Reply(status=500)
    world = cluster.world
    for _ in range(400):
        cluster.call()
        world.advance(0.01)
    assert len(bad.asked) <= 10
    bad.behaviour = lambda asked: Reply()
    world.advance(30)
    before = len(bad.asked)
    for _ in range(400):
        assert cluster.call().status_code == 200
        world.advance(0.01)
    assert len(bad.asked) - before > 60


def test_a_full_host_is_passed_over() -> None:
    """A limit that is reached leads to another host; only when all are full it is an error."""
    policy = Policy(limit=Limit(1, queue=0), breaker=None, retry=Retry(attempts=4, base=1e-9))
    cluster = Virtual(3, policy)
    cluster.all_reply(after=1)
    world = cluster.world
    tasks = []
    for _ in range(3):
        tasks.append(world.start(cluster.program("POST")))
        world.advance(0)
    world.advance(0.5)
    error = cluster.fail("POST")
    assert isinstance(error, errors.LimitExceeded)
    assert {type(attempt.error) for attempt in attempts(error)} == {errors.LimitExceeded}
    assert "1 calls are in flight and 0 wait" in str(error)
    world.advance(0.5)
    assert sorted(name for task in tasks for name in tried(task.result())[-1:]) == cluster.names
    assert all(endpoint.health.failures == 0 for endpoint in cluster.core.endpoints.all)
    assert cluster.idle()


def test_a_limit_holds_for_all_hosts_together() -> None:
    """Over the whole cluster there are never more calls than its own limit."""
    policy = Policy(cluster_limit=Limit(2, queue=100), timeout=60)
    cluster = Virtual(3, policy)
    flying: list[float] = []

    def behave(asked: Asked) -> Reply:
        flying[:] = [end for end in flying if end > asked.time]
        flying.append(asked.time + 1)
        assert len(flying) <= 2
        return Reply(after=1)

    for host in cluster.hosts:
        host.behaviour = behave
    world = cluster.world
    tasks = [world.start(cluster.program()) for _ in range(10)]
    world.advance(5)
    assert all(task.result().status_code == 200 for task in tasks)
    assert cluster.elapsed == 5
    assert cluster.idle()


def test_waiting_for_the_cluster_is_nobodys_fault() -> None:
    """A call that found no slot of the whole cluster in time counts against no host."""
    policy = Policy(cluster_limit=Limit(1, queue=10), retry=None, breaker=Breaker(failures=1))
    cluster = Virtual(2, policy, ejection=Ejection(failures=1))
    cluster.all_reply(after=4)
    world = cluster.world
    first = world.start(cluster.program())
    world.advance(0)
    error = cluster.fail(timeout=1)
    assert isinstance(error, errors.DeadlineExceeded)
    assert "no free slot" in str(error)
    world.advance(4)
    assert first.result().status_code == 200
    assert len(cluster.core.endpoints.ready) == 2
    states: list[Any] = [endpoint.breaker for endpoint in cluster.core.endpoints.all]
    assert [breaker.state for breaker in states] == ["closed", "closed"]
    assert cluster.idle()


@pytest.mark.parametrize("fault", ["reset", "500", "truncated", "silence"])
def test_what_a_host_does_wrong_counts_against_it(fault: str) -> None:
    """Broken connections, server errors and silence are the host's fault."""
    policy = Policy(retry=None, breaker=Breaker(failures=1), timeout=1)
    cluster = Virtual(1, policy)
    reply: dict[str, Reply] = {
        "reset": Reply(fate="reset"),
        "500": Reply(status=500),
        "truncated": Reply(fate="cut", body=b"x"),
        "silence": Reply(after=60),
    }
    cluster.hosts[0].behaviour = lambda asked: reply[fault]
    if fault == "500":
        assert cluster.call().status_code == 500
    else:
        cluster.fail()
    breaker = cluster.core.endpoints.all[0].breaker
    assert breaker is not None
    assert breaker.state == "open"


@pytest.mark.parametrize("status", [400, 404, 409, 429])
def test_what_the_caller_does_wrong_does_not(status: int) -> None:
    """Client errors say that the host is well."""
    cluster = Virtual(1, Policy(retry=None, breaker=Breaker(failures=1)))
    cluster.all_reply(status=status)
    for _ in range(5):
        assert cluster.call().status_code == status


def test_only_failures_in_a_row_count_as_such() -> None:
    """A success in between starts the counts again, however the calls went before."""
    policy = Policy(retry=None, breaker=Breaker(failures=3, rate=None))
    cluster = Virtual(1, policy, ejection=Ejection(failures=3, panic=0))
    for _ in range(20):
        for status in (500, 500, 200, 200):
            cluster.all_reply(status=status)
            assert cluster.call().status_code == status
            assert len(cluster.core.endpoints.ready) == 1
        cluster.world.advance(0.1)
    cluster.all_reply(status=500)
    for _ in range(3):
        cluster.call()
    assert cluster.core.endpoints.ready == ()


@pytest.mark.parametrize("pause", [0.0, 0.3, 100.0])
def test_a_rate_knows_the_latest_successes(pause: float) -> None:
    """Successes count for the rate from the first one on, also after a long silence."""
    policy = Policy(retry=None, breaker=Breaker(failures=None, rate=0.5, calls=4, window=10))
    cluster = Virtual(1, policy)
    endpoint = cluster.core.endpoints.all[0]
    for _ in range(3):
        cluster.world.advance(pause)
        for status in [200] * 8 + [500] * 7:
            cluster.all_reply(status=status)
            assert cluster.call().status_code == status
    assert endpoint.breaker is not None
    assert endpoint.breaker.state == "closed"
    for _ in range(20):
        with contextlib.suppress(errors.CircuitOpenError):
            cluster.call()
    assert cluster.core.endpoints.ready == ()

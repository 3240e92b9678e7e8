"""Every decision is told to those who listen."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, get_args

import pytest

from holdfast import Breaker, Budget, Cluster, Ejection, Limit, Policy, Retry, errors
from holdfast.cluster.functions import FunctionCore
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
from holdfast.policy.events import Kind
from holdfast.testing import scripted
from tests.cluster.calls import Reply, Virtual

OFF: dict[str, Any] = {
    "retry": Retry(attempts=2, base=1e-9),
    "budget": None,
    "breaker": None,
    "limit": None,
}


class Heard(Virtual):
    """A cluster whose events are kept."""

    def __init__(self, count: int = 2, *, ejection: Any = None, **parts: Any) -> None:
        self.events: list[Event] = []
        super().__init__(
            count,
            Policy(**{**OFF, **parts}),
            ejection=ejection,
            balancer="round-robin",
            listeners=[self.events.append],
        )

    def of(self, kind: Kind) -> list[Event]:
        """Return the events of one kind."""
        return [event for event in self.events if event.kind == kind]

    def kinds(self) -> list[str]:
        """Return what happened, in order."""
        return [event.kind for event in self.events]


def test_a_call_that_goes_well() -> None:
    """It and its attempt start and succeed."""
    cluster = Heard()
    cluster.all_reply(after=0.25)
    response = cluster.call()
    assert cluster.kinds() == [
        "call started",
        "attempt started",
        "attempt succeeded",
        "call succeeded",
    ]
    call, started, succeeded, whole = cluster.events
    assert call.cause is response.request
    assert (call.time, call.attempt) == (1000.0, 0)
    assert started.endpoint == succeeded.endpoint in cluster.names
    assert started.attempt == succeeded.attempt == 1
    assert succeeded.cause is whole.cause is response
    assert succeeded.seconds == whole.seconds == 0.25
    assert (started.time, succeeded.time) == (1000.0, 1000.25)
    assert whole.attempt == 1


def test_a_retry() -> None:
    """Which attempt failed where, why there is another, after what wait."""
    cluster = Heard()
    cluster.hosts[0].behaviour = Reply(after=0.5, fate="reset")
    cluster.hosts[1].behaviour = Reply(status=503)
    cluster.call()
    assert cluster.kinds() == [
        "call started",
        "attempt started",
        "attempt failed",
        "retried",
        "attempt started",
        "attempt failed",
        "call succeeded",
    ]
    failed = next(e for e in cluster.events if isinstance(e.cause, errors.NetworkError))
    assert failed.kind == "attempt failed"
    assert failed.seconds == 0.5
    busy = next(e for e in cluster.of("attempt failed") if isinstance(e.cause, Response))
    assert busy.cause.status_code == 503
    (retried,) = cluster.of("retried")
    assert retried.policy == "retry"
    assert retried.attempt == 1
    assert retried.endpoint == cluster.of("attempt failed")[0].endpoint
    assert retried.cause is cluster.of("attempt failed")[0].cause
    assert 0 < retried.seconds <= 1e-9


def test_a_call_that_fails() -> None:
    """With the error that the caller gets, and the number of its attempts."""
    cluster = Heard()
    cluster.all_reply(fate="reset")
    error = cluster.fail()
    assert cluster.events[-1].kind == "call failed"
    assert cluster.events[-1].cause is error
    assert cluster.events[-1].attempt == 2


def test_a_hedge() -> None:
    """Which attempt was late where; the loser's attempt failed, as cancelled."""
    cluster = Heard(hedge=Hedge(after=0.1))
    cluster.hosts[0].behaviour = cluster.hosts[1].behaviour = Reply(after=0.15)
    cluster.call()
    (hedged,) = cluster.of("hedged")
    assert (hedged.policy, hedged.attempt, hedged.time) == ("hedge", 1, 1000.1)
    assert hedged.endpoint == cluster.of("attempt started")[0].endpoint
    assert [event.attempt for event in cluster.of("attempt started")] == [1, 2]
    assert [event.attempt for event in cluster.of("attempt succeeded")] == [1]
    (lost,) = cluster.of("attempt failed")
    assert lost.attempt == 2
    assert isinstance(lost.cause, errors.HoldfastError)
    assert "cancelled" in str(lost.cause)
    assert lost.seconds == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("parts", "policy", "kind"),
    [
        ({"limit": Limit(1, queue=0)}, "limit", errors.LimitExceeded),
        ({"cluster_limit": Limit(1, queue=0)}, "limit", errors.LimitExceeded),
        ({"rate": RateLimit(0.01, burst=1)}, "rate", errors.RateLimited),
        ({"breaker": Breaker()}, "breaker", errors.CircuitOpenError),
    ],
    ids=["limit", "cluster-limit", "rate", "breaker"],
)
def test_a_rejection(parts: dict[str, Any], policy: str, kind: type[Exception]) -> None:
    """By which policy, and with which error."""
    cluster = Heard(1, **parts, retry=None)
    cluster.all_reply(after=1)
    if policy == "breaker":
        breaker = cluster.core.endpoints.all[0].breaker
        assert breaker is not None
        breaker.force("open", cluster.world.now)
    cluster.world.start(cluster.program())
    cluster.world.advance(0)
    cluster.events.clear()
    assert type(cluster.fail()) is kind
    (rejected,) = cluster.of("rejected")
    assert rejected.policy == policy
    assert type(rejected.cause) is kind
    assert rejected.attempt == 1
    assert "attempt started" not in cluster.kinds()


def test_a_rejection_by_admission() -> None:
    """With the share of calls that are rejected."""
    cluster = Heard(1, retry=None, admission=Admission())
    cluster.all_reply(fate="reset")
    for _ in range(50):
        cluster.fail()
    rejected = cluster.of("rejected")
    assert {event.policy for event in rejected} == {"admission"}
    assert all(0 < event.cause < 1 for event in rejected)


def test_a_rejection_because_there_is_nobody() -> None:
    """Without hosts no policy is to blame."""
    cluster = Heard(1)
    cluster.core.endpoints.update([], cluster.world.now)
    assert isinstance(cluster.fail(), errors.NoEndpointError)
    (rejected,) = cluster.of("rejected")
    assert rejected.policy == ""
    assert isinstance(rejected.cause, errors.NoEndpointError)


def test_a_circuit() -> None:
    """Its changes of state, with the state before."""
    cluster = Heard(1, breaker=Breaker(failures=2, open_for=10), retry=None)
    cluster.all_reply(fate="reset")
    cluster.fail()
    cluster.fail()
    cluster.world.advance(11)
    cluster.fail()  # the probe
    cluster.world.advance(21)
    cluster.all_reply()
    cluster.call()
    told = [
        (event.kind, event.cause)
        for event in cluster.events
        if event.policy == "breaker" and event.kind != "rejected"
    ]
    assert told == [
        ("circuit opened", "closed"),
        ("circuit half-opened", "open"),
        ("circuit opened", "half-open"),
        ("circuit half-opened", "open"),
        ("circuit closed", "half-open"),
    ]
    assert {e.endpoint for e in cluster.of("circuit opened")} == {cluster.names[0]}


def test_an_ejection() -> None:
    """Who went and why, and that it came back."""
    cluster = Heard(2, ejection=Ejection(failures=1, base=30))
    cluster.hosts[0].behaviour = Reply(fate="reset")
    cluster.call()
    cluster.call()
    (ejected,) = cluster.of("ejected")
    assert ejected.endpoint == cluster.names[0]
    assert "failures in a row" in ejected.cause
    assert ejected.policy == "ejection"
    cluster.hosts[0].behaviour = Reply()
    cluster.world.advance(31)
    for _ in range(3):
        cluster.call()
    (returned,) = cluster.of("returned")
    assert returned.endpoint == cluster.names[0]


def test_a_change_of_members() -> None:
    """Who was added and who removed; the first hosts are no news."""
    cluster = Heard(2)
    assert cluster.events == []
    cluster.core.endpoints.update([cluster.names[1], "10.0.0.9:80"], cluster.world.now)
    assert [(event.kind, event.endpoint) for event in cluster.events] == [
        ("removed", cluster.names[0]),
        ("added", "10.0.0.9:80"),
    ]


def test_an_adaptive_limit() -> None:
    """Its new value, for an endpoint and for the cluster."""
    adaptive = AdaptiveLimit(algorithm="aimd", initial=20)
    cluster = Heard(1, limit=adaptive, cluster_limit=adaptive, retry=None)
    cluster.all_reply(status=503)
    cluster.call()
    changed = cluster.of("limit changed")
    assert {(event.endpoint, event.policy) for event in changed} == {
        (cluster.names[0], "limit"),
        ("", "limit"),
    }
    assert all(event.cause < 20 for event in changed)


def test_the_rest() -> None:
    """Fallbacks, shared calls, injected faults."""
    fault = Fault(1, error=ConnectionError)
    cluster = Heard(1, coalesce=Coalesce(), faults=(fault,), fallback=Fallback(7))
    assert cluster.world.run(cluster.program()) == 7  # type: ignore[comparison-overlap]
    assert [event.cause for event in cluster.of("fault injected")] == [fault, fault]
    (fell,) = cluster.of("fell back")
    assert (fell.policy, type(fell.cause)) == ("fallback", errors.NetworkError)
    shared = Heard(1, coalesce=Coalesce())
    shared.all_reply(after=1)
    for _ in range(3):
        shared.world.start(shared.program())
    shared.world.advance(2)
    assert [event.policy for event in shared.of("coalesced")] == ["coalesce"] * 2
    assert len(shared.of("call succeeded")) == 3
    assert len(shared.of("attempt started")) == 1


#: What the tests above have seen: they and this list are to be kept complete.
SEEN: set[str] = {
    "call started",
    "attempt started",
    "attempt succeeded",
    "attempt failed",
    "retried",
    "hedged",
    "rejected",
    "fell back",
    "coalesced",
    "fault injected",
    "ejected",
    "returned",
    "added",
    "removed",
    "circuit opened",
    "circuit half-opened",
    "circuit closed",
    "limit changed",
    "call succeeded",
    "call failed",
}


def test_every_kind_has_its_test() -> None:
    """A kind that nobody has seen is a promise that nobody keeps."""
    assert set(get_args(Kind)) == SEEN


def test_events_tell_their_call() -> None:
    """By a number of its own; what is no call's has none."""
    cluster = Heard(
        2,
        ejection=Ejection(failures=1),
        breaker=Breaker(failures=1),
        hedge=Hedge(after=0.1),
        fallback=Fallback(7),
    )
    cluster.all_reply(after=0.15, fate="reset")
    for _ in range(3):
        cluster.world.start(cluster.program())
    cluster.world.advance(10)
    starts = cluster.of("call started")
    assert len({event.call for event in starts}) == 3
    own = {"ejected", "returned", "added", "removed", "limit changed"}
    for event in cluster.events:
        outside = event.kind in own or event.kind.startswith("circuit ")
        assert (event.call == 0) == outside, event
    for call in {event.call for event in starts}:
        kinds = [event.kind for event in cluster.events if event.call == call]
        assert kinds[0] == "call started"
        assert kinds[-1] in ("call succeeded", "call failed")


def test_attempts_begin_before_they_end() -> None:
    """Of each number there is one end, and at most one start before it."""
    cluster = Heard(3, hedge=Hedge(after=0.01), retry=Retry(attempts=4, base=0.01))
    for number, host in enumerate(cluster.hosts):
        host.behaviour = Reply(status=503 if number else 200, after=0.02 * number)
    for _ in range(10):
        cluster.events.clear()
        cluster.call()
        started = [event.attempt for event in cluster.of("attempt started")]
        ended = [
            event.attempt
            for event in cluster.events
            if event.kind.startswith("attempt ") and event.kind != "attempt started"
        ]
        assert sorted(started) == sorted(ended) == list(range(1, len(started) + 1))
        assert cluster.events[-1].kind == "call succeeded"


@pytest.mark.parametrize("error", [ValueError("x"), errors.NetworkError("x"), StopIteration()])
def test_a_listener_that_fails_harms_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the call, not its state, not other listeners; it is logged."""
    policy: dict[str, Any] = {
        "breaker": Breaker(failures=1, open_for=1),
        "hedge": Hedge(after=0.1),
        "limit": Limit(1),
        "cluster_limit": Limit(3),
        "budget": Budget(),
        "fallback": Fallback(7),
    }
    cluster = Heard(2, ejection=Ejection(failures=1, base=1), **policy)

    def bad(event: Event) -> None:
        raise error

    cluster.core.listen(bad)
    heard: list[Event] = []
    cluster.core.listen(heard.append)
    with caplog.at_level(logging.ERROR, "holdfast"):
        for fate in ("reset", "answer", "answer", "answer"):
            cluster.all_reply(fate=fate, after=0.15)
            cluster.world.run(cluster.program())
            cluster.world.advance(2)
    assert heard == cluster.events
    assert "hedged" in cluster.kinds()
    assert cluster.idle()
    assert cluster.core.limiter is not None
    assert cluster.core.limiter.in_flight == 0
    assert len(cluster.core.endpoints.ready) == 2
    assert "a listener failed at" in caplog.text


def test_unlisten() -> None:
    """Who has left is told no more; who was not there may leave, too."""
    cluster = Heard()
    cluster.call()
    count = len(cluster.events)
    other: list[Event] = []
    cluster.core.listen(other.append)
    cluster.core.unlisten(cluster.events.append)
    cluster.core.unlisten(cluster.events.append)
    cluster.call()
    assert len(cluster.events) == count
    assert len(other) == count
    cluster.core.unlisten(other.append)
    assert cluster.core.plain
    cluster.call()
    assert len(other) == count


def test_a_listener_may_leave_while_it_is_told() -> None:
    """And others are told all the same."""
    cluster = Heard()
    once: list[Event] = []

    def leave(event: Event) -> None:
        once.append(event)
        cluster.core.unlisten(leave)

    cluster.core.listen(leave)
    after: list[Event] = []
    cluster.core.listen(after.append)
    cluster.call()
    assert len(once) == 1
    assert after == cluster.events


def test_a_listener_may_look_and_act() -> None:
    """No lock is held while it is told: it may read the state, force a circuit, call again."""
    cluster = Heard(2, breaker=Breaker(failures=1), ejection=Ejection(failures=1))
    looked: list[Any] = []

    def act(event: Event) -> None:
        looked.append(repr(cluster.core.endpoints))
        if event.kind == "circuit opened":
            for endpoint in cluster.core.endpoints.all:
                assert endpoint.breaker is not None
                endpoint.breaker.force(None, cluster.world.now)
                endpoint.breaker.force("closed", cluster.world.now)
            cluster.core.endpoints.update(cluster.names, cluster.world.now)

    cluster.core.listen(act)
    cluster.all_reply(fate="reset")
    cluster.fail()
    assert len(looked) == len(cluster.events)


def test_clusters_and_functions_have_listeners() -> None:
    """By `listen` and `unlisten` of the one, and of the other's ``core``."""
    world = scripted({"a:80": [200, 200, 200]})
    heard: list[Event] = []
    with Cluster(world.addresses, driver=world, listeners=[heard.append]) as cluster:
        cluster.get("/")
        cluster.unlisten(heard.append)
        cluster.get("/")
        assert len(heard) == 4
        cluster.listen(heard.append)
        cluster.get("/")
        assert len(heard) == 8

    @Policy()
    async def work() -> int:
        return 3

    core: FunctionCore = work.core  # type: ignore[attr-defined]
    heard.clear()
    core.listen(heard.append)
    assert asyncio.run(work()) == 3
    assert [event.kind for event in heard] == [
        "call started",
        "attempt started",
        "attempt succeeded",
        "call succeeded",
    ]
    assert {event.endpoint for event in heard[1:3]} == {core.name}
    assert (heard[0].cause, heard[-1].cause) == (core.name, 3)
    core.unlisten(heard.append)
    asyncio.run(work())
    assert len(heard) == 4

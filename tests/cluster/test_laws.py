"""What holds for every policy, whatever the hosts do: laws, tried on random scripts."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import Breaker, Budget, Ejection, Limit, Policy, Retry, errors, ops
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
from holdfast.simulation import Host, Service
from tests.cluster.calls import Asked, Reply, Virtual, request

EXAMPLES = settings(max_examples=60, deadline=None)

short = st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0])
seconds = short | st.just(inf)
replies = st.builds(
    Reply,
    status=st.sampled_from([200, 200, 200, 429, 500, 503]),
    after=seconds,
    headers=st.sampled_from([{}, {"Retry-After": "1"}, {"Retry-After": "60"}]),
    pieces=st.lists(st.tuples(st.sampled_from([0.0, 0.2, inf]), st.just(b"x")), max_size=2),
    fate=st.sampled_from(["answer", "answer", "answer", "reset", "close", "cut"]),
)
scripts = st.lists(replies, min_size=1, max_size=8)
pauses = st.lists(st.sampled_from([0.0, 0.0, 0.01, 0.2]), min_size=5, max_size=40)
budgets = st.builds(
    Budget,
    share=st.sampled_from([0.0, 0.1, 0.5]),
    per_second=st.sampled_from([0.0, 0.3, 1.0]),
    window=st.sampled_from([1.0, 10.0]),
)
limits = st.sampled_from([None, Limit(1, queue=2), Limit(2, queue=20), Limit(3, queue=0)])
hedges = st.builds(
    Hedge,
    after=st.sampled_from([None, 1e-6, 0.02, 0.3]),
    extra=st.integers(1, 3),
    calls=st.just(3),
    quantile=st.sampled_from([0.5, 0.9]),
)
breakers = st.builds(
    Breaker,
    failures=st.integers(1, 3),
    open_for=st.sampled_from([0.05, 0.5]),
    probes=st.integers(1, 3),
    cap=st.just(1.0),
)
faults = st.lists(
    st.sampled_from(
        [
            Fault(0.3, delay=0.2),
            Fault(0.3, delay=60),
            Fault(0.3, status=503),
            Fault(0.3, error=ConnectionError),
            Fault(0.3, cut=True),
        ]
    ),
    max_size=2,
).map(tuple)
policies = st.builds(
    Policy,
    timeout=st.sampled_from([0.25, 2.0]),
    retry=st.none()
    | st.builds(
        Retry,
        attempts=st.integers(1, 5),
        base=st.sampled_from([0.001, 0.5]),
        attempt_timeout=st.sampled_from([None, 0.1, 1.0]),
    ),
    budget=st.none() | budgets,
    hedge=st.none() | hedges,
    breaker=st.none() | breakers,
    limit=limits | st.just(AdaptiveLimit(initial=2, least=1, most=5, queue=3)),
    cluster_limit=limits,
    rate=st.sampled_from([None, RateLimit(5, burst=1), RateLimit(5, burst=3, wait=False)]),
    admission=st.none() | st.just(Admission(window=1)),
    fallback=st.none() | st.just(Fallback("instead", stale=1)),
    coalesce=st.none() | st.just(Coalesce()),
    faults=faults,
    deadline_header=st.sampled_from([None, "timeout-ms"]),
)


def _play(script: list[Reply], host: Host, asked: Asked) -> Reply:
    return script[host.requests % len(script)]


class Trial:
    """A cluster under load whose hosts follow random scripts."""

    def __init__(self, data: st.DataObject, policy: Policy, count: int = 3, **options: Any) -> None:
        self.data = data
        self.cluster = Virtual(count, policy, seed=data.draw(st.integers(0, 99)), **options)
        self.world = self.cluster.world
        self.events: list[Event] = []
        self.cluster.core.listen(self.events.append)
        self.began: list[float] = []
        self.lasted: list[float] = []
        self.tasks: list[Any] = []

    def script(self) -> None:
        """Have the hosts follow scripts, again and again, and some of them be hard to reach."""
        for host in self.cluster.hosts:
            script = self.data.draw(scripts)
            host.accepts = self.data.draw(st.sampled_from([True, True, True, False]))
            host.connect_after = self.data.draw(st.sampled_from([0.0, 0.0, 0.1, inf]))

            host.behaviour = partial(_play, script, host)

    def load(self, *, cancel: bool = True) -> None:
        """Make calls, some of which are cancelled, and wait for the end of all."""
        for number, pause in enumerate(self.data.draw(pauses)):
            self.world.advance(pause)
            self.began.append(self.world.now)
            path = f"/{number % 2}"
            method = self.data.draw(st.sampled_from(["GET", "GET", "GET", "POST"]))
            self.tasks.append(self.world.start(self._timed(method, path)))
            if cancel and self.data.draw(st.integers(0, 5)) == 0:
                task = self.data.draw(st.sampled_from(self.tasks))
                task.cancel()
        self.world.advance(100)

    def _timed(self, method: str, path: str) -> ops.Program[Any]:
        began = self.world.now
        try:
            return (yield from self.cluster.program(method, path))
        except errors.HoldfastError as error:
            return error
        finally:
            self.lasted.append(self.world.now - began)

    def times(self, *kinds: str) -> list[float]:
        """Return when something happened."""
        return [event.time for event in self.events if event.kind in kinds]


@pytest.mark.slow
@EXAMPLES
@given(data=st.data(), policy=policies)
def test_every_call_ends_in_time_and_gives_everything_back(
    data: st.DataObject, policy: Policy
) -> None:
    """Under any policy, with any hosts, cancelled or not: by its deadline, with nothing held."""
    ejection = data.draw(st.sampled_from([None, Ejection(failures=1, base=0.2)]))
    trial = Trial(data, policy, data.draw(st.integers(1, 4)), ejection=ejection)
    trial.script()
    trial.load()
    assert policy.timeout is not None
    assert all(task.done and task.error is None for task in trial.tasks)
    assert max(trial.lasted) <= policy.timeout + 1e-9
    core = trial.cluster.core
    assert trial.cluster.idle()
    assert core.limiter is None or core.limiter.in_flight == core.limiter.waiting == 0
    assert core.rate is None or core.rate.waiting == 0
    assert core.flights is None or len(core.flights) == 0
    for endpoint in core.endpoints.all:
        assert not endpoint.health.probing
        assert endpoint.breaker is None or endpoint.breaker._probing == 0


@pytest.mark.slow
@EXAMPLES
@given(data=st.data(), budget=budgets, hedge=st.none() | hedges)
def test_retries_and_hedges_never_exceed_the_budget(
    data: st.DataObject, budget: Budget, hedge: Hedge | None
) -> None:
    """In each window they are at most a share of its calls, and so many a second besides."""
    retry = Retry(attempts=5, base=0.001, attempt_timeout=0.3)
    policy = Policy(timeout=2, retry=retry, budget=budget, hedge=hedge, breaker=None)
    trial = Trial(data, policy, 4)
    trial.script()
    trial.load(cancel=False)
    further = trial.times("retried", "hedged")
    # Windows end a bucket, a tenth of them, too late: so many calls more may be in them.
    for now in further:
        paid = sum(now - budget.window < time <= now for time in further)
        calls = sum(now - 1.1 * budget.window - 1e-9 <= time <= now for time in trial.began)
        assert paid <= budget.share * calls + budget.per_second * budget.window + 1e-9
    assert len(trial.times("attempt started")) <= len(trial.began) + len(further)


@EXAMPLES
@given(data=st.data(), hedge=st.none() | hedges, limit=limits, whole=limits)
def test_hosts_never_see_more_than_the_limit(
    data: st.DataObject, hedge: Hedge | None, limit: Limit | None, whole: Limit | None
) -> None:
    """At no time is more in flight at a host, or at all of them, than the limits say."""
    policy = Policy(
        timeout=1,
        retry=Retry(base=0.001, attempt_timeout=data.draw(st.sampled_from([None, 0.1]))),
        hedge=hedge,
        breaker=None,
        limit=limit,
        cluster_limit=whole,
    )
    trial = Trial(data, policy, 3)
    most, most_of_all = 0, 0
    hosts = trial.cluster.hosts

    def look(host: Host, begin: Any, job: Any) -> None:
        nonlocal most, most_of_all
        begin(job)
        most = max(most, host.busy)
        most_of_all = max(most_of_all, sum(host.busy for host in hosts))

    for host in hosts:
        # As many workers as anybody could want: what is in flight is at work.
        host.behaviour = Service(
            time=data.draw(st.sampled_from([0.01, 0.2, 2.0])),
            workers=1000,
            errors=data.draw(st.sampled_from([0.0, 0.3])),
            status=503,
            abandoned="drop",
        )
        begin = host.begin
        host.begin = lambda job, host=host, begin=begin: look(host, begin, job)  # type: ignore[method-assign,misc]
    trial.load()
    assert most >= 1
    if limit is not None:
        assert most <= limit.calls
    if whole is not None:
        assert most_of_all <= whole.calls
    assert trial.cluster.idle()


@EXAMPLES
@given(data=st.data(), breaker=breakers, hedge=st.none() | hedges)
def test_a_half_open_circuit_lets_only_its_probes_through(
    data: st.DataObject, breaker: Breaker, hedge: Hedge | None
) -> None:
    """And an open one nothing at all."""
    policy = Policy(
        timeout=1, retry=Retry(base=0.001), budget=None, hedge=hedge, breaker=breaker, limit=None
    )
    trial = Trial(data, policy, 2)
    trial.script()
    states = dict.fromkeys(trial.cluster.names, "closed")
    probes = dict.fromkeys(trial.cluster.names, 0)
    out: dict[str, int] = dict.fromkeys(trial.cluster.names, 0)

    def follow(event: Event) -> None:
        name = event.endpoint
        if event.kind.startswith("circuit "):
            states[name] = event.kind.removeprefix("circuit ").removesuffix("ed")
            probes[name] = out[name] = 0
        elif event.kind == "attempt started":
            assert states[name] != "open"
            if states[name] == "half-open":
                probes[name] += 1
                out[name] += 1
                # Together: those under way, and those that have succeeded already.
                assert out[name] <= breaker.probes
        elif event.kind == "attempt failed" and states[name] == "half-open":
            out[name] = max(out[name] - 1, 0)

    failed: list[BaseException] = []

    def careful(event: Event) -> None:
        try:
            follow(event)
        except AssertionError as error:  # a listener's failure is no call's
            failed.append(error)

    trial.cluster.core.listen(careful)
    trial.load()
    assert failed == []
    assert trial.cluster.idle()


@EXAMPLES
@given(data=st.data(), rate=st.builds(RateLimit, st.sampled_from([1, 7.5, 40]), st.integers(1, 4)))
def test_hosts_never_see_more_than_the_rate(data: st.DataObject, rate: RateLimit) -> None:
    """Between any two moments at most a burst and what has come since, retries included."""
    assert rate.burst is not None
    policy = Policy(
        timeout=3,
        retry=Retry(base=0.001),
        budget=None,
        breaker=None,
        hedge=data.draw(st.none() | hedges),
        rate=rate,
        limit=data.draw(limits),
        cluster_limit=data.draw(limits),
    )
    trial = Trial(data, policy, 3)
    for host in trial.cluster.hosts:
        # Without those whose kept connections are replaced, and asked again, for the same token.
        script = [reply for reply in data.draw(scripts) if reply.fate in ("answer", "cut")]
        host.behaviour = partial(_play, script or [Reply()], host)
    trial.load()
    times = sorted(asked.time for host in trial.cluster.hosts for asked in host.asked)
    for first, since in enumerate(times):
        for last in range(first, len(times)):
            most = rate.burst + (times[last] - since) * rate.per_second
            assert last - first + 1 <= most + 1e-3
    assert trial.cluster.idle()


def test_a_call_that_queued_takes_its_token_when_it_is_sent() -> None:
    """Not one of the time when it began to wait for a slot: that would be one too many."""
    policy = Policy(
        timeout=60,
        retry=None,
        breaker=None,
        rate=RateLimit(1, burst=2),
        limit=Limit(1),
    )
    cluster = Virtual(2, policy, balancer="round-robin")
    cluster.hosts[0].behaviour = Reply(after=10)
    world = cluster.world
    first, second = cluster.core.endpoints.all
    for _ in range(2):  # at the slow one, where the second call queues
        world.start(cluster.core.call(request(cluster.core, timeout=60), prefer=lambda: [first]))
    world.advance(10.001)
    for _ in range(4):
        world.start(cluster.core.call(request(cluster.core, timeout=60), prefer=lambda: [second]))
    world.advance(40)
    times = sorted(asked.time for host in cluster.hosts for asked in host.asked)
    assert len(times) == 6
    for index, since in enumerate(times):
        for last in range(index, len(times)):
            assert last - index + 1 <= 2 + (times[last] - since) + 1e-3


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), policy=policies)
def test_the_same_seed_gives_the_same_calls(seed: int, policy: Policy) -> None:
    """Nothing in the loop of a call depends on anything but the clock and the randomness."""

    def history() -> list[str]:
        cluster = Virtual(3, policy, seed=seed, ejection=Ejection(failures=2, base=0.3))
        told: list[str] = []
        cluster.core.listen(
            lambda event: told.append(
                f"{event.time} {event.kind} {event.endpoint} {event.attempt} {event.seconds}"
            )
        )
        for number, host in enumerate(cluster.hosts):
            host.behaviour = Service(time=0.05 * (number + 1), workers=2, errors=0.2, status=503)
        for number in range(40):
            cluster.world.advance(0.02)
            cluster.world.start(cluster.program(path=f"/{number % 5}"), lambda task: None)
        cluster.world.advance(30)
        return told

    assert history() == history()

"""Which endpoints may be called: ejection, probation, panic, and circuit breakers with them."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast import Breaker, Ejection, Policy
from holdfast.cluster import ClusterCore
from holdfast.cluster.endpoints import Endpoint, EndpointSet
from holdfast.policy import AdaptiveLimit
from tests.policy.hammering import hammer


def endpoints(
    count: int, ejection: Ejection | None = None, breaker: Breaker | None = None
) -> EndpointSet:
    """Return a set of endpoints that nobody connects to."""
    hosts = [f"10.0.0.{number}:80" for number in range(1, count + 1)]
    policy = Policy(breaker=breaker, limit=None)
    ejection = ejection or Ejection(deviations=None)
    return EndpointSet(lambda host: Endpoint(host.address, policy), hosts, ejection)


def call(among: EndpointSet, endpoint: Endpoint, ok: bool | None, now: float) -> bool:
    """Make a call that ends at once; tell whether it was let through."""
    among.bring_back(now)
    permit = among.admit(endpoint, now)
    if permit:
        among.record(endpoint, permit, ok, now)
    return bool(permit)


def eject(among: EndpointSet, endpoint: Endpoint, now: float) -> None:
    """Fail until the endpoint is out."""
    for _ in range(50):
        if endpoint not in among.ready:
            return
        call(among, endpoint, False, now)
    raise AssertionError("it stayed in")


def is_ready(among: EndpointSet, endpoint: Endpoint, now: float) -> bool:
    """Tell whether the endpoint may be chosen."""
    if now >= among.next_return:
        among.bring_back(now)
    return endpoint in among.ready


def test_failures_in_a_row_eject() -> None:
    """The fifth failure in a row takes an endpoint out; a success starts the count again."""
    among = endpoints(4)
    bad = among.all[0]
    for ok in (False, False, False, False, True, None, False, False, False, False, None):
        call(among, bad, ok, 0)
    assert repr(among) == "<EndpointSet 4 of 4 ready>"
    call(among, bad, False, 0)
    assert repr(among) == "<EndpointSet 3 of 4 ready>"
    assert bad not in among.ready
    assert among.next_return == 30


def test_the_time_out_grows_with_each_ejection() -> None:
    """Out for base × times ejected, up to the cap, when its probes fail."""
    among = endpoints(4, Ejection(base=30, cap=100))
    bad = among.all[0]
    now = 1000.0
    eject(among, bad, now)
    for expected in (30, 60, 90, 100, 100):
        assert not is_ready(among, bad, now + expected - 0.001)
        now += expected
        assert is_ready(among, bad, now)
        assert call(among, bad, False, now)  # one failed probe is enough
        assert not is_ready(among, bad, now)


def test_ejections_soon_after_a_return_count_on() -> None:
    """Who is ejected again soon is out for longer; who was well for longer than the cap is not."""
    among = endpoints(4, Ejection(base=30, cap=100))
    bad = among.all[0]
    now = 0.0
    for pause, expected in ((0, 30), (99, 60), (101, 30), (99, 60), (5, 90)):
        now += pause
        eject(among, bad, now)
        assert not is_ready(among, bad, now + expected - 0.001)
        now += expected
        assert is_ready(among, bad, now)
        assert call(among, bad, True, now)
        assert is_ready(among, bad, now)


def test_one_probe_decides() -> None:
    """After its time one call goes to the endpoint; only what comes of it lets others follow."""
    among = endpoints(4)
    bad = among.all[0]
    eject(among, bad, 0)
    assert is_ready(among, bad, 30)
    probe = among.admit(bad, 30)
    assert probe
    assert bad not in among.ready
    assert not among.admit(bad, 31)
    among.record(bad, probe, True, 32)
    assert bad in among.ready
    assert among.admit(bad, 32)
    assert among.admit(bad, 32)


def test_a_probe_without_verdict_is_followed_by_another() -> None:
    """A probe that was cancelled leaves the decision to the next one."""
    among = endpoints(4)
    bad = among.all[0]
    eject(among, bad, 0)
    assert is_ready(among, bad, 30)
    probe = among.admit(bad, 30)
    among.record(bad, probe, None, 31)
    assert bad in among.ready
    again = among.admit(bad, 31)
    assert again
    assert not among.admit(bad, 31)
    among.record(bad, again, True, 31)
    assert bad in among.ready


@pytest.mark.parametrize("late", [True, False, None])
@pytest.mark.parametrize("verdict", [True, False])
def test_calls_from_before_the_ejection_decide_nothing(late: bool | None, verdict: bool) -> None:
    """While the probe is under way, what older calls have to say changes nothing."""
    among = endpoints(4)
    bad = among.all[0]
    old = [among.admit(bad, 0) for _ in range(9)]
    eject(among, bad, 0)
    among.record(bad, old[0], late, 10)
    assert not is_ready(among, bad, 29)
    assert is_ready(among, bad, 30)
    probe = among.admit(bad, 30)
    for permit in old[1:]:
        among.record(bad, permit, late, 31)
    assert bad not in among.ready
    assert not among.admit(bad, 31)
    among.record(bad, probe, verdict, 32)
    assert is_ready(among, bad, 32) == verdict
    assert is_ready(among, bad, 91.9) == verdict
    assert is_ready(among, bad, 92)


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 1), (10, 0.5, 5), (10, 0, 1)]
)
def test_only_a_share_may_be_out(count: int, most: float, expected: int) -> None:
    """However many fail, at most the share is ejected, though always one may be."""
    among = endpoints(count, Ejection(most=most, panic=0))
    for _ in range(50):
        for endpoint in among.all:
            call(among, endpoint, False, 0)
    assert count - len(among.ready) == expected


def test_panic_ignores_ejection() -> None:
    """With fewer than the share in, all are called; with enough of them back, no more."""
    among = endpoints(4, Ejection(most=1, panic=0.5))
    for endpoint in among.all[:2]:
        eject(among, endpoint, 0)
    assert len(among.ready) == 2
    for _ in range(5):
        call(among, among.all[2], False, 1)
    assert set(among.ready) == set(among.all)
    # In a panic a success brings an endpoint back, and two of four are no reason for panic.
    assert call(among, among.all[0], True, 2)
    assert set(among.ready) == {among.all[0], among.all[3]}
    among.bring_back(31)
    assert set(among.ready) > {among.all[0], among.all[3]}


@pytest.mark.parametrize("percent", [7, 14, 28, 55, 57])
def test_the_share_that_must_be_well_is_enough(percent: int) -> None:
    """Exactly so many are no panic, whatever the rounding."""
    among = endpoints(100, Ejection(most=1.0, panic=percent / 100, deviations=None))
    for endpoint in among.all[percent:]:
        eject(among, endpoint, 0)
    assert len(among.ready) == percent
    call(among, among.all[0], False, 0)
    for _ in range(4):
        call(among, among.all[0], False, 0)
    assert len(among.ready) == 100


def test_panic_does_not_pile_anything_up() -> None:
    """However many calls fail while ejection is ignored, there is nothing more to remember."""
    among = endpoints(2, Ejection(most=1, panic=1))
    for number in range(3000):
        for endpoint in among.all:
            call(among, endpoint, False, number / 1000)
    assert len(among._returns) < 20


def test_without_ejection_only_circuits_count() -> None:
    """Ejection None leaves all in, whatever fails."""
    hosts = ["10.0.0.1:80", "10.0.0.2:80"]
    among = ClusterCore(hosts, policy=Policy(breaker=None), ejection=None).endpoints
    for _ in range(100):
        call(among, among.all[0], False, 0)
    assert len(among.ready) == 2


def test_an_open_circuit_takes_an_endpoint_out() -> None:
    """While it is open, and while its probes are under way, an endpoint is not ready."""
    among = endpoints(
        2, Ejection(failures=100, deviations=None), Breaker(failures=3, open_for=10, probes=2)
    )
    bad = among.all[0]
    for _ in range(3):
        call(among, bad, False, 0)
    assert among.ready == (among.all[1],)
    assert among.next_return == 10
    assert is_ready(among, bad, 10)
    probes = [among.admit(bad, 10) for _ in range(2)]
    assert all(probes)
    assert bad not in among.ready
    among.record(bad, probes[0], None, 11)
    assert bad in among.ready
    probes.append(among.admit(bad, 11))
    among.record(bad, probes[1], True, 12)
    among.record(bad, probes[2], True, 12)
    assert bad in among.ready
    assert among.admit(bad, 12)
    assert among.admit(bad, 12)


def test_an_endpoint_may_be_out_for_both_reasons() -> None:
    """It comes back when circuit and ejection both allow it."""
    among = endpoints(4, Ejection(failures=3, base=30), Breaker(failures=3, open_for=50))
    bad = among.all[0]
    for _ in range(3):
        call(among, bad, False, 0)
    assert not is_ready(among, bad, 30)
    assert not is_ready(among, bad, 49)
    assert is_ready(among, bad, 50)
    assert call(among, bad, True, 50)
    assert is_ready(among, bad, 50)


def fill(among: EndpointSet, failed: list[int], calls: int = 100) -> None:
    """Have so many of the calls of each endpoint fail, never twice in a row."""
    for endpoint, count in zip(among.all, failed, strict=True):
        for number in range(calls):
            if number < 2 * count and number % 2:
                among.record(endpoint, endpoint.permit, False, 1)
            else:
                among.record(endpoint, endpoint.permit, True, 1)


def test_a_success_rate_far_below_the_mean_ejects() -> None:
    """At a sweep, whoever succeeds far less often than the others is out, as after failures."""
    among = endpoints(10, Ejection())
    among.bring_back(0)
    assert among.next_return == 10
    fill(among, [0, 1, 0, 40, 0, 0, 2, 0, 0, 1])
    assert not any(is_ready(among, e, 9.9) is False for e in among.all)
    bad = among.all[3]
    assert not is_ready(among, bad, 10)
    assert len(among.ready) == 9
    assert not is_ready(among, bad, 39.9)
    assert is_ready(among, bad, 40)
    assert call(among, bad, True, 40)
    assert call(among, bad, True, 40)


@pytest.mark.parametrize(
    ("failed", "calls"),
    [
        ([0, 0, 0, 40], 100),  # too few endpoints
        ([0] * 9 + [40], 99),  # too few calls
        ([0] * 99 + [1], 100),  # one failure, which chance explains
        ([50] * 10, 100),  # all the same
    ],
)
def test_who_is_not_far_off_stays(failed: list[int], calls: int) -> None:
    """Few endpoints, few calls or a single failure prove nothing, nor does what all have."""
    among = endpoints(len(failed), Ejection())
    among.bring_back(0)
    fill(among, failed, calls)
    among.bring_back(10)
    assert among.ready == among.all
    assert among.next_return == 20


def test_a_sweep_counts_anew() -> None:
    """What was before a sweep has no part in the next one."""
    among = endpoints(10, Ejection())
    among.bring_back(0)
    fill(among, [0] * 9 + [30], 99)
    among.bring_back(10)
    fill(among, [0] * 9 + [10], 99)
    among.bring_back(20)
    assert among.ready == among.all


def test_latency_far_above_the_median_ejects() -> None:
    """With a factor for latency, whoever is slower by more than it is out; by default nobody is."""
    for latency, expected in ((None, 6), (3.0, 5)):
        among = endpoints(6, Ejection(latency=latency))
        among.bring_back(0)
        for endpoint in among.all:
            seconds = 0.5 if endpoint is among.all[2] else 0.1
            for _ in range(10):
                assert endpoint.try_acquire()
                if not endpoint.leave(endpoint.permit, 1):
                    endpoint.release()
                    among.record(endpoint, endpoint.permit, True, 1, seconds)
        among.bring_back(10)
        assert len(among.ready) == expected


def test_sweeps_eject_the_worst_first_and_no_more_than_the_share() -> None:
    """When more are far off than may be out, the worst are."""
    among = endpoints(20, Ejection(most=0.05, deviations=1.0))
    among.bring_back(0)
    fill(among, [0] * 17 + [30, 45, 40])
    among.bring_back(10)
    assert set(among.all) - set(among.ready) == {among.all[18]}


def test_the_ordinary_success_is_counted_for_the_sweep() -> None:
    """Slots that are given back the short way count as successes."""
    among = endpoints(10, Ejection(), Breaker())
    for endpoint in among.all:
        assert call(among, endpoint, True, 0)
        for _ in range(150):
            assert endpoint.try_acquire()
            assert endpoint.leave(endpoint.permit, 0.5)
        endpoint.count()
        assert endpoint.successes == endpoint.window.hits == 151
        assert endpoint.in_flight == 0
    for number in range(120):
        call(among, among.all[0], number % 4 == 0 or number % 2 == 0, 1)
    assert not is_ready(among, among.all[0], 10)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(breaker=Breaker(last=20)),
        Policy(breaker=Breaker(slow_after=1.0)),
        Policy(breaker=None, limit=AdaptiveLimit()),
    ],
)
def test_the_short_way_is_not_for_those_who_need_more(policy: Policy) -> None:
    """A breaker that judges by more than time, and an adaptive limit, see every call."""
    among = EndpointSet(lambda host: Endpoint(host.address, policy), ["a"])
    (endpoint,) = among.all
    assert call(among, endpoint, True, 0)
    assert endpoint.try_acquire()
    assert not endpoint.leave(endpoint.permit, 0)
    assert endpoint.in_flight == 1


def test_listeners_are_told() -> None:
    """Whoever listens is told of each ejection and return, with the time and the cause."""
    told: list[tuple[str, str, float, str]] = []

    def listen(kind: str, endpoint: Endpoint, now: float, cause: str) -> None:
        assert among.ready  # no lock is held
        among.bring_back(now)
        told.append((kind, endpoint.name, now, cause))

    among = EndpointSet(
        lambda host: Endpoint(host.address, Policy(breaker=None)),
        ["a", "b", "c"],
        Ejection(),
        listen,
    )
    assert told == []
    eject(among, among.all[0], 1)
    assert is_ready(among, among.all[0], 31)
    call(among, among.all[0], False, 31)
    assert is_ready(among, among.all[0], 91)
    call(among, among.all[0], True, 91)
    among.judge(among.all[1], False, 92, "3 checks failed")
    among.judge(among.all[1], True, 93, "2 checks passed")
    assert told == [
        ("ejected", "a", 1, "5 failures in a row"),
        ("ejected", "a", 31, "its probe failed"),
        ("returned", "a", 91, "its probe succeeded"),
        ("ejected", "b", 92, "3 checks failed"),
        ("returned", "b", 93, "2 checks passed"),
    ]
    assert [endpoint.since for endpoint in among.all] == [91, 93, -inf]


def test_who_fails_active_checks_is_out_until_it_passes() -> None:
    """Neither time nor successful calls bring it back, and no share keeps it in; a panic does."""
    among = endpoints(5, Ejection(most=0, panic=0.5, deviations=None))
    for endpoint in among.all[:2]:
        among.judge(endpoint, False, 0, "")
    assert among.ready == among.all[2:]
    permit = among.admit(among.all[0], 1, anyway=True)
    among.record(among.all[0], permit, True, 1)
    among.bring_back(1e6)
    assert among.ready == among.all[2:]
    among.judge(among.all[2], False, 1e6, "")
    assert among.ready == among.all
    among.judge(among.all[0], True, 1e6, "")
    assert among.ready == (among.all[0], *among.all[3:])


def test_a_forced_circuit_takes_an_endpoint_out_at_once() -> None:
    """Nobody has to fail first, and nobody has to call for it to come back."""
    among = endpoints(3, breaker=Breaker())
    breaker = among.all[0].breaker
    assert breaker is not None
    breaker.force("open", 0)
    assert among.ready == among.all[1:]
    assert not among.admit(among.all[0], 1000)
    breaker.force(None, 1000)
    assert among.ready == among.all


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"failures": 0}, "failures"),
        ({"base": -1}, "base"),
        ({"most": 1.5}, "most"),
        ({"deviations": 0}, "deviations"),
        ({"least_endpoints": 1}, "least_endpoints"),
        ({"least_calls": 0}, "least_calls"),
        ({"latency": 1}, "latency"),
        ({"sweep": inf}, "sweep"),
    ],
)
def test_wrong_values_are_refused(fields: dict[str, Any], message: str) -> None:
    """An error names the class, the field and the value."""
    with pytest.raises(ValueError, match=f"^Ejection: {message} .*{fields[message]}"):
        Ejection(**fields)


@pytest.mark.parametrize("wrong", [5, True, Breaker()])
def test_what_is_no_ejection_is_refused(wrong: Any) -> None:
    """The error names the argument and the value."""
    with pytest.raises(ValueError, match="ejection must be an Ejection or None, not "):
        EndpointSet(lambda host: Endpoint("", Policy()), [], wrong)


def test_threads_never_lose_an_endpoint() -> None:
    """Whatever threads record, in the end every endpoint can be had again."""
    among = endpoints(4, Ejection(failures=2, base=3), Breaker(failures=3, open_for=2, cap=4))

    def work(number: int) -> None:
        for now in range(1500):
            endpoint = among.all[(now * 7 + number) % 4]
            if now >= among.next_return:
                among.bring_back(now)
            permit = among.admit(endpoint, now)
            if permit:
                ok = None if now % 11 == 0 else (now * 31 + number) % 5 > 1
                among.record(endpoint, permit, ok, now)

    hammer(work)
    heal(among, 1e6)


def heal(among: EndpointSet, now: float) -> None:
    """Give all endpoints time and successes, and find them all ready."""
    for endpoint in among.all:
        among.judge(endpoint, True, now, "")
    for _ in range(6):
        now += 1000
        among.bring_back(now)
        for endpoint in among.ready:
            assert call(among, endpoint, True, now)
    assert sorted(e.name for e in among.ready) == sorted(e.name for e in among.all)
    for endpoint in among.all:
        assert [among.admit(endpoint, now) > 0 for _ in range(3)] == [True] * 3


class Calls(RuleBasedStateMachine):
    """Calls of endpoints that begin, end and are abandoned in any order while time goes on.

    Meanwhile hosts come and go, sweeps compare them, and active checks pass and fail.
    """

    @initialize(
        count=st.integers(1, 6),
        most=st.sampled_from([0, 0.3, 0.5, 1]),
        panic=st.sampled_from([0, 0.5, 1]),
        breaker=st.sampled_from([None, Breaker(failures=3, open_for=10, cap=25, probes=2)]),
    )
    def start(self, count: int, most: float, panic: float, breaker: Breaker | None) -> None:
        self.ejection = Ejection(
            failures=2,
            base=10,
            cap=25,
            most=most,
            panic=panic,
            deviations=0.1,
            least_endpoints=2,
            least_calls=2,
            latency=1.5,
            sweep=7,
        )
        self.among = endpoints(count, self.ejection, breaker)
        self.now = 100.0
        self.calls: list[tuple[Endpoint, int]] = []

    @rule(seconds=st.sampled_from([0.0, 1.0, 9.0, 10.0, 26.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data(), count=st.integers(1, 3))
    def begin(self, data: st.DataObject, count: int) -> None:
        if self.now >= self.among.next_return:
            self.among.bring_back(self.now)
        for _ in range(count):
            if not self.among.ready:
                return
            endpoint = data.draw(st.sampled_from(self.among.ready))
            permit = self.among.admit(endpoint, self.now)
            if permit:
                self.calls.append((endpoint, permit))

    @rule(index=st.integers(0, 5))
    def begin_one_that_may_be_out(self, index: int) -> None:
        endpoint = self.among.all[index % len(self.among.all)]
        permit = self.among.admit(endpoint, self.now)
        if permit:
            self.calls.append((endpoint, permit))

    @rule(numbers=st.lists(st.integers(1, 8), min_size=1, max_size=8, unique=True))
    def change_hosts(self, numbers: list[int]) -> None:
        version, before = self.among.version, self.among.all
        self.among.update([f"10.0.0.{number}:80" for number in numbers], self.now)
        assert [e.name for e in self.among.all] == [f"10.0.0.{number}:80" for number in numbers]
        assert (self.among.version > version) == (self.among.all != before)

    @rule(data=st.data())
    def pass_or_fail_checks(self, data: st.DataObject) -> None:
        endpoint = data.draw(st.sampled_from(self.among.all))
        self.among.judge(endpoint, data.draw(st.booleans()), self.now, "")

    @rule(data=st.data())
    def many_calls(self, data: st.DataObject) -> None:
        """Let calls of all come to verdicts that count for the next sweep."""
        for endpoint in self.among.all:
            endpoint.successes += data.draw(st.integers(0, 30))
            endpoint.health.failed += data.draw(st.sampled_from([0, 0, 100]))
            endpoint.health.seconds += data.draw(st.sampled_from([0.0, 1.0, 1000.0]))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), ok=st.sampled_from([True, False, False, False, None]))
    def end(self, data: st.DataObject, ok: bool | None) -> None:
        endpoint, permit = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.among.record(endpoint, permit, ok, self.now)

    def out(self) -> list[Endpoint]:
        """Return the ejected endpoints."""
        return [e for e in self.among.all if e.health.out_until > -inf]

    @invariant()
    def ready_are_some_of_all_once(self) -> None:
        ready = self.among.ready
        assert len(set(ready)) == len(ready)
        assert set(ready) <= set(self.among.all)

    @invariant()
    def few_are_ejected(self) -> None:
        most = max(1, int(self.ejection.most * len(self.among.all)))
        assert len(self.out()) <= most
        assert self.among._out == len(self.out())

    @invariant()
    def every_endpoint_is_ready_or_comes_back(self) -> None:
        """Who is out has a reason: a time that is remembered, or a call that is under way."""
        unwell = [
            endpoint
            for endpoint in self.among.all
            if endpoint.health.probation
            or endpoint.health.failing
            or (endpoint.breaker is not None and endpoint.breaker.state != "closed")
        ]
        panic = len(self.among.all) - len(unwell) < self.ejection.panic * len(self.among.all)
        for endpoint in self.among.all:
            at = endpoint.ready_at(self.now, panic)
            if at <= self.now:
                # It may be that only the next call brings it back.
                assert endpoint in self.among.ready or self.among.next_return <= self.now
            elif at < inf:
                assert endpoint not in self.among.ready or at == inf
                assert self.among.next_return <= at
            else:
                assert endpoint not in self.among.ready
                assert endpoint.health.failing or any(other is endpoint for other, _ in self.calls)

    @invariant()
    def little_is_remembered(self) -> None:
        assert len(self.among._returns) <= 4 * 8 + 4
        assert set(self.among._unwell) <= set(self.among.all)

    def teardown(self) -> None:
        if hasattr(self, "among"):
            for endpoint, permit in self.calls:
                self.among.record(endpoint, permit, None, self.now)
            heal(self.among, self.now)


TestCalls: Any = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)

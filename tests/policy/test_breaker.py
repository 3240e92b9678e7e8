"""The circuit breaker, as scripts and as laws."""

from __future__ import annotations

import random
import threading
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.policy import Breaker, CircuitBreaker
from holdfast.policy.window import Window
from tests.policy.hammering import hammer


def call(breaker: CircuitBreaker, ok: bool, now: float) -> bool:
    """Make a call that ends at once; tell whether it was let through."""
    permit = breaker.acquire(now)
    if permit:
        breaker.record(permit, ok, now)
    return bool(permit)


def state(breaker: CircuitBreaker) -> str:
    """Return the state, which a type checker takes for unchanged otherwise."""
    return breaker.state


def opened(spec: Breaker | None = None, now: float = 0.0) -> CircuitBreaker:
    """Return a breaker that has just opened."""
    breaker = CircuitBreaker(spec or Breaker())
    while state(breaker) == "closed":
        call(breaker, False, now)
    return breaker


def test_it_opens_on_failures_in_a_row() -> None:
    """The fifth failure in a row opens it; a success in between starts the count again."""
    breaker = CircuitBreaker(Breaker(failures=5, rate=None))
    for ok in (False, False, False, False, True, False, False, False, False):
        assert call(breaker, ok, 0)
    assert state(breaker) == "closed"
    assert call(breaker, False, 0)
    assert state(breaker) == "open"
    assert not call(breaker, True, 0)


def test_it_opens_on_a_rate_of_failures() -> None:
    """Half of at least twenty calls in ten seconds open it, and not fewer."""
    breaker = CircuitBreaker(Breaker(failures=None, rate=0.5, calls=20, window=10))
    for _ in range(10):
        call(breaker, True, 0)
    for _ in range(9):
        call(breaker, False, 1)
    assert state(breaker) == "closed"
    call(breaker, False, 2)
    assert state(breaker) == "open"


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_rate_that_is_met_exactly_opens_it(percent: int) -> None:
    """Of a hundred calls so many failed: rounding of the share decides nothing."""
    breaker = CircuitBreaker(Breaker(failures=None, rate=percent / 100, calls=100))
    for _ in range(100 - percent):
        call(breaker, True, 0)
    for _ in range(percent - 1):
        call(breaker, False, 0)
    assert state(breaker) == "closed"
    call(breaker, False, 0)
    assert state(breaker) == "open"


def test_a_rate_counts_calls_of_the_window_only() -> None:
    """Failures of before are forgotten with the window."""
    breaker = CircuitBreaker(Breaker(failures=None, rate=0.5, calls=10, window=10))
    for _ in range(9):
        call(breaker, False, 0)
    call(breaker, False, 20)
    assert state(breaker) == "closed"
    for _ in range(9):
        call(breaker, False, 21)
    assert state(breaker) == "open"


def test_a_rate_below_the_bound_never_opens() -> None:
    """Every third one failing for ever is below one half."""
    breaker = CircuitBreaker(Breaker(failures=3, rate=0.5, calls=5))
    for number in range(1000):
        call(breaker, number % 3 > 0, number / 100)
        assert state(breaker) == "closed"


def test_conditions_can_be_turned_off() -> None:
    """Without both conditions it never opens."""
    breaker = CircuitBreaker(Breaker(failures=None, rate=None))
    for _ in range(1000):
        assert call(breaker, False, 0)


def test_it_lets_a_probe_through_when_the_time_is_over() -> None:
    """Open for ten seconds, then half-open with one probe, which closes it."""
    breaker = opened(Breaker(open_for=10))
    assert breaker.ready_at(3) == 10
    assert not breaker.acquire(9.999)
    probe = breaker.acquire(10)
    assert probe
    assert repr(breaker) == "<CircuitBreaker half-open>"
    assert not breaker.acquire(10)
    assert breaker.ready_at(10) == inf
    assert breaker.record(probe, True, 11)
    assert state(breaker) == "closed"
    assert breaker.ready_at(11) == 11


def test_the_open_time_doubles_up_to_its_cap() -> None:
    """Each failed probe doubles the time, until the cap; a success starts over."""
    breaker = opened(Breaker(open_for=10, factor=2, cap=60), 0)
    now = 0.0
    for expected in (10, 20, 40, 60, 60):
        assert breaker.ready_at(now) == now + expected
        now += expected
        assert call(breaker, False, now)
        assert state(breaker) == "open"
    now = breaker.ready_at(now)
    assert call(breaker, True, now)
    while state(breaker) == "closed":
        call(breaker, False, now)
    assert breaker.ready_at(now) == now + 10


@pytest.mark.parametrize("factor", [1e9, 10**6, 0.001])
def test_any_factor_may_go_on_for_ever(factor: float) -> None:
    """No number of openings overflows."""
    breaker = opened(Breaker(factor=factor))
    now = 0.0
    for _ in range(200):
        now = breaker.ready_at(now)
        call(breaker, False, now)
    assert now <= breaker.ready_at(now) <= now + 300


def test_every_probe_must_succeed() -> None:
    """With three probes, three successes close it, and one failure opens it again."""
    breaker = opened(Breaker(probes=3, open_for=10))
    permits = [breaker.acquire(10) for _ in range(4)]
    assert permits[3] == 0
    for permit in permits[:2]:
        assert breaker.record(permit, True, 10)
        assert not breaker.acquire(10)  # three were let through in all
    assert state(breaker) == "half-open"
    breaker.record(permits[2], True, 10)
    assert state(breaker) == "closed"

    breaker = opened(Breaker(probes=3, open_for=10))
    permits = [breaker.acquire(10) for _ in range(3)]
    breaker.record(permits[0], True, 10)
    breaker.record(permits[1], False, 11)
    assert state(breaker) == "open"
    assert not breaker.record(permits[2], True, 12)
    assert breaker.ready_at(12) == 31


def test_an_abandoned_probe_gives_its_permit_back() -> None:
    """A probe that came to no verdict lets another one through."""
    breaker = opened(Breaker(open_for=10))
    probe = breaker.acquire(10)
    assert not breaker.acquire(10)
    assert breaker.release(probe)
    assert breaker.ready_at(10) == 10
    again = breaker.acquire(10)
    assert again
    breaker.record(again, True, 10)
    assert state(breaker) == "closed"
    assert not breaker.release(again)


def test_late_verdicts_decide_nothing() -> None:
    """What a call of an earlier state has to say is of no interest any more."""
    breaker = CircuitBreaker(Breaker(failures=1, open_for=10))
    early = [breaker.acquire(0) for _ in range(5)]
    call(breaker, False, 1)
    assert state(breaker) == "open"
    assert not breaker.record(early[0], True, 2)
    assert not breaker.record(early[1], False, 2)
    assert breaker.ready_at(2) == 11
    probe = breaker.acquire(11)
    assert not breaker.record(early[2], True, 12)
    assert not breaker.record(early[3], False, 12)
    assert not breaker.release(early[4])
    assert state(breaker) == "half-open"
    assert not breaker.acquire(12)
    breaker.record(probe, True, 12)
    assert state(breaker) == "closed"


def test_successes_while_closed_are_forgotten_when_it_closes_again() -> None:
    """The window begins anew with each state."""
    breaker = CircuitBreaker(Breaker(failures=None, rate=1.0, calls=2, window=100, open_for=1))
    call(breaker, False, 0)
    call(breaker, False, 0)
    assert call(breaker, True, 1)
    call(breaker, False, 1)
    assert state(breaker) == "closed"
    call(breaker, False, 1)
    assert state(breaker) == "open"


class Script(RuleBasedStateMachine):
    """Calls that begin, end, and are abandoned in any order while time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = Breaker(failures=3, rate=0.5, calls=4, open_for=10, cap=35, probes=2)
        self.breaker = CircuitBreaker(self.spec)
        self.now = 50.0
        self.calls: list[tuple[int, int]] = []  # permit, and the state's number by our count
        self.states = 0
        self.succeeded = 0
        self.times_open = 0

    def entered(self, before: str) -> None:
        """Keep count of the states."""
        if state(self.breaker) != before:
            self.states += 1
            self.succeeded = 0

    @rule(seconds=st.sampled_from([0.0, 0.1, 5.0, 10.0, 35.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        ready = self.breaker.ready_at(self.now) <= self.now
        before = state(self.breaker)
        permit = self.breaker.acquire(self.now)
        assert bool(permit) == ready
        self.entered(before)
        assert state(self.breaker) in ("closed", "half-open") or not permit
        if permit:
            self.calls.append((permit, self.states))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), ok=st.booleans())
    def end(self, data: st.DataObject, ok: bool) -> None:
        permit, number = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        before = state(self.breaker)
        late = number != self.states
        changed = self.breaker.record(permit, ok, self.now)
        if late:
            assert not changed
            assert state(self.breaker) == before
            return
        if before == "half-open":
            assert changed
            self.succeeded += ok
            expected = "half-open" if ok and self.succeeded < self.spec.probes else "closed"
            assert state(self.breaker) == (expected if ok else "open")
        if before == "closed" and ok:
            assert state(self.breaker) == "closed"
        if state(self.breaker) == "open":
            self.times_open += 1
            time = min(10 * 2 ** (self.times_open - 1), 35)
            assert self.breaker.ready_at(self.now) == self.now + time
        elif state(self.breaker) == "closed":
            self.times_open = 0
        self.entered(before)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        permit, number = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        freed = self.breaker.release(permit)
        assert freed == (number == self.states and state(self.breaker) == "half-open")

    @invariant()
    def few_probes(self) -> None:
        if state(self.breaker) == "half-open":
            out = sum(number == self.states for _, number in self.calls)
            assert out + self.succeeded <= self.spec.probes

    @invariant()
    def never_stuck(self) -> None:
        """It is always a call or a time that will let the next call through."""
        if self.breaker.ready_at(self.now) == inf:
            assert any(number == self.states for _, number in self.calls)
        else:
            assert self.breaker.ready_at(self.now) <= self.now + 35


TestScript = Script.TestCase
TestScript.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_threads_never_get_more_probes_than_allowed() -> None:
    """Of threads that hammer a half-open breaker, never more than its probes are let through."""
    breaker = opened(Breaker(open_for=1, probes=2))
    lock = threading.Lock()
    probing: list[int] = []
    seen: set[int] = set()

    def work(thread: int) -> None:
        for _ in range(2000):
            permit = breaker.acquire(1)
            if permit:
                with lock:
                    probing.append(thread)
                    seen.add(len(probing))
                with lock:
                    probing.remove(thread)  # before it is given back: never counted too long
                assert breaker.release(permit)

    hammer(work)
    assert 1 <= max(seen) <= 2
    assert breaker.ready_at(1) == 1


def test_buckets_change_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads at once would put one bucket into the window twice."""
    breaker = CircuitBreaker(Breaker())
    turn, locked = Window.turn, []

    def turned(window: Window, now: float) -> None:
        locked.append(breaker._lock.locked())
        turn(window, now)

    monkeypatch.setattr(Window, "turn", turned)
    for now in range(20):
        call(breaker, True, now)
    assert len(locked) == 20
    assert all(locked)


def test_threads_never_leave_it_stuck() -> None:
    """Whatever threads do to it, later a probe may pass and close it."""
    breaker = CircuitBreaker(Breaker(failures=2, open_for=2, cap=4, probes=2))

    def work(thread: int) -> None:
        chance = random.Random(thread).random
        for now in range(2000):
            permit = breaker.acquire(now)
            if permit and chance() < 0.2:
                breaker.release(permit)
            elif permit:
                breaker.record(permit, chance() < 0.5, now)

    hammer(work)
    while state(breaker) != "closed":
        assert breaker.ready_at(1e6) <= 1e6
        assert call(breaker, True, 1e6)

"""The breaker's other forms: the last calls, slow calls, listeners, and forced states."""

from __future__ import annotations

import logging
from collections import deque
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.policy import Breaker, CircuitBreaker
from tests.policy.hammering import hammer


def call(breaker: CircuitBreaker, ok: bool, now: float = 0.0, seconds: float = 0.0) -> bool:
    """Make a call, which ends now; tell whether it was let through."""
    permit = breaker.acquire(now)
    if permit:
        breaker.record(permit, ok, now, seconds)
    return bool(permit)


def state(breaker: CircuitBreaker) -> str:
    """Return the state, which a type checker takes for unchanged otherwise."""
    return breaker.state


# The last calls.


def test_of_the_last_calls_time_makes_no_difference() -> None:
    """Half of the last ten calls open it, however long ago they were."""
    breaker = CircuitBreaker(Breaker(failures=None, last=10, calls=10))
    for hour in range(9):
        call(breaker, hour % 2 == 0, hour * 3600)
    assert state(breaker) == "closed"
    call(breaker, False, 10 * 3600)
    assert state(breaker) == "open"


def test_older_calls_are_forgotten() -> None:
    """A failure counts until so many calls came after it."""
    breaker = CircuitBreaker(Breaker(failures=None, rate=0.5, last=4, calls=4))
    for ok in (False, True, True, True, False, True, True, True, False):
        call(breaker, ok)
    assert state(breaker) == "closed"
    call(breaker, False)
    assert state(breaker) == "open"


def test_a_small_window_needs_no_more_calls_than_it_holds() -> None:
    """The least number of calls is never more than the window's."""
    breaker = CircuitBreaker(Breaker(failures=None, last=3))
    for _ in range(2):
        call(breaker, False)
        assert state(breaker) == "closed"
    call(breaker, False)
    assert state(breaker) == "open"


def test_only_a_window_of_seconds_without_slow_calls_is_simple() -> None:
    """What is not simple lets nobody count past it: its public window is always over."""
    assert CircuitBreaker(Breaker()).simple
    for spec in (Breaker(last=5), Breaker(slow_after=1.0)):
        breaker = CircuitBreaker(spec)
        for _ in range(10):
            call(breaker, True)
        assert not breaker.simple
        assert breaker.window.until == -inf
        assert breaker.window.hits == 0


# Slow calls.


def test_slow_calls_open_it() -> None:
    """Half of the calls taking a second or more open it, although all succeeded."""
    breaker = CircuitBreaker(Breaker(slow_after=1.0, slow_rate=0.5, calls=10))
    for number in range(9):
        call(breaker, True, number / 10, seconds=1.0 if number < 5 else 0.999)
    assert state(breaker) == "closed"
    call(breaker, True, 1.0, seconds=0.5)
    assert state(breaker) == "closed"  # a good call opens nothing
    call(breaker, True, 1.0, seconds=2.0)
    assert state(breaker) == "open"


def test_slow_calls_are_forgotten_with_the_window() -> None:
    """Slow calls of before do not count."""
    breaker = CircuitBreaker(Breaker(slow_after=1.0, calls=5, window=10))
    for _ in range(4):
        call(breaker, True, 0, seconds=3)
    call(breaker, True, 20, seconds=3)
    assert state(breaker) == "closed"


def test_a_slow_probe_opens_it_again() -> None:
    """What was opened because it is slow does not close because it is still slow."""
    breaker = CircuitBreaker(Breaker(slow_after=1.0, calls=2, open_for=10))
    for _ in range(2):
        call(breaker, True, 0, seconds=3)
    assert call(breaker, True, 10, seconds=1.0)
    assert state(breaker) == "open"
    assert breaker.ready_at(10) == 30
    assert call(breaker, True, 30, seconds=0.9)
    assert state(breaker) == "closed"


@given(
    rate=st.one_of(st.none(), st.sampled_from([0.1, 0.5, 1.0])),
    slow_rate=st.sampled_from([0.25, 0.5, 1.0]),
    failures=st.one_of(st.none(), st.integers(1, 4)),
    last=st.integers(1, 8),
    calls=st.integers(1, 10),
    script=st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.9, 1.0, 5.0])), max_size=40),
)
def test_it_opens_exactly_when_the_last_calls_say_so(
    rate: float | None,
    slow_rate: float,
    failures: int | None,
    last: int,
    calls: int,
    script: list[tuple[bool, float]],
) -> None:
    """A failed or slow call opens it if then a bound is reached, and nothing else does."""
    breaker = CircuitBreaker(
        Breaker(failures, rate, calls, last=last, slow_after=1.0, slow_rate=slow_rate)
    )
    recent: deque[tuple[bool, bool]] = deque(maxlen=last)
    row = 0
    for ok, seconds in script:
        assert call(breaker, ok, 0, seconds)
        slow = seconds >= 1
        recent.append((ok, slow))
        row = 0 if ok else row + 1
        bad = failures is not None and row >= failures
        if len(recent) >= min(calls, last) and (not ok or slow):
            failed = sum(not good for good, _ in recent)
            bad = bad or (rate is not None and failed >= rate * len(recent))
            bad = bad or sum(late for _, late in recent) >= slow_rate * len(recent)
        assert (state(breaker) == "open") == bad
        if bad:
            return


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("last", 0),
        ("last", 1.5),
        ("last", True),
        ("slow_after", 0),
        ("slow_after", -1.0),
        ("slow_after", "1"),
        ("slow_rate", 0),
        ("slow_rate", 1.01),
        ("slow_rate", None),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: Any) -> None:
    """The error names the class, the field and the value."""
    with pytest.raises(ValueError, match=rf"^Breaker: {name} .*{value!r}"):
        Breaker(**{name: value})


# Listeners.


def test_listeners_are_told_of_every_change() -> None:
    """Each change is told once, with both states and its time."""
    told: list[tuple[str, str, float]] = []
    breaker = CircuitBreaker(
        Breaker(failures=1, open_for=10), lambda old, new, now: told.append((old, new, now))
    )
    call(breaker, True, 1)
    call(breaker, False, 2)
    call(breaker, True, 3)
    call(breaker, False, 12)
    call(breaker, True, 32)
    assert told == [
        ("closed", "open", 2),
        ("open", "half-open", 12),
        ("half-open", "open", 12),
        ("open", "half-open", 32),
        ("half-open", "closed", 32),
    ]


def test_a_listener_may_ask_the_breaker() -> None:
    """It is called without the lock, when the breaker is in its new state already."""
    seen: list[tuple[str, float]] = []

    def listen(old: str, new: str, now: float) -> None:
        seen.append((state(breaker), breaker.ready_at(now)))
        breaker.remove_listener(listen)

    breaker = CircuitBreaker(Breaker(failures=1))
    breaker.add_listener(listen)
    call(breaker, False, 5)
    breaker.force("closed", 6)
    assert seen == [("open", 15)]


class Listening:
    """A listener whose bound method is a new object each time it is named."""

    def __init__(self) -> None:
        self.calls = 0

    def told(self, old: str, new: str, now: float) -> None:
        self.calls += 1


def test_listeners_can_be_added_and_removed() -> None:
    """A removed listener, a bound method too, is told no more; removing it again is no error."""
    breaker = CircuitBreaker(Breaker(failures=1))
    one, other = Listening(), Listening()
    breaker.add_listener(one.told)
    breaker.add_listener(other.told)
    call(breaker, False)
    breaker.remove_listener(one.told)
    breaker.remove_listener(one.told)
    breaker.force("closed", 0)
    assert (one.calls, other.calls) == (1, 2)


def test_a_listener_that_fails_harms_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is logged; the probe keeps its permit, and the others are told."""
    listening = Listening()

    def fail(old: str, new: str, now: float) -> None:
        raise RuntimeError("listener")

    breaker = CircuitBreaker(Breaker(failures=1, open_for=10), fail)
    breaker.add_listener(listening.told)
    with caplog.at_level(logging.ERROR, logger="holdfast"):
        call(breaker, False, 0)
        probe = breaker.acquire(10)
        assert breaker.record(probe, True, 10)
    assert state(breaker) == "closed"
    assert listening.calls == 3
    assert len(caplog.records) == 3


# Forced states.


def test_forced_open_nothing_passes_ever() -> None:
    """It lets nobody through, at whatever time, until it is let go."""
    breaker = CircuitBreaker(Breaker())
    late = breaker.acquire(0)
    breaker.force("open", 0)
    assert repr(breaker) == "<CircuitBreaker open, forced>"
    assert breaker.forced
    assert breaker.ready_at(0) == inf
    assert not breaker.acquire(1e12)
    assert not breaker.record(late, True, 1)
    breaker.force(None, 5)
    assert repr(breaker) == "<CircuitBreaker closed>"
    assert call(breaker, True, 5)


def test_forced_closed_it_never_opens() -> None:
    """Whatever fails, it lets calls through; when it is let go, what failed is forgotten."""
    breaker = CircuitBreaker(Breaker(failures=3))
    breaker.force("closed", 0)
    for _ in range(100):
        assert call(breaker, False, 1)
    assert repr(breaker) == "<CircuitBreaker closed, forced>"
    breaker.force(None, 2)
    for expected in ("closed", "closed", "open"):
        call(breaker, False, 2)
        assert state(breaker) == expected


def test_permits_of_a_closed_breaker_outlive_forcing_it_closed() -> None:
    """Who keeps a permit at hand may go on using it: the state is the same one."""
    breaker = CircuitBreaker(Breaker(failures=1))
    permit = breaker.acquire(0)
    breaker.force("closed", 0)
    assert breaker.acquire(0) == permit
    breaker.force(None, 0)
    assert breaker.acquire(0) == permit
    assert breaker.record(permit, False, 0)
    assert state(breaker) == "open"


def test_an_open_breaker_can_be_held_open_or_closed() -> None:
    """Forcing holds from any state, and the open times start over after it."""
    breaker = CircuitBreaker(Breaker(failures=1, open_for=10))
    call(breaker, False, 0)
    call(breaker, False, 10)
    breaker.force("open", 11)
    assert breaker.ready_at(11) == inf
    breaker.force("closed", 12)
    assert state(breaker) == "closed"
    breaker.force(None, 13)
    call(breaker, False, 13)
    assert breaker.ready_at(13) == 23


@pytest.mark.parametrize("wrong", ["half-open", "Open", "", 1, True])
def test_other_states_cannot_be_forced(wrong: Any) -> None:
    """There is no holding it half-open."""
    breaker = CircuitBreaker(Breaker())
    with pytest.raises(ValueError, match="'open', 'closed' or None, not"):
        breaker.force(wrong, 0)
    assert repr(breaker) == "<CircuitBreaker closed>"


def test_letting_go_what_is_not_forced_changes_nothing() -> None:
    """None leaves an open circuit open."""
    breaker = CircuitBreaker(Breaker(failures=1))
    call(breaker, False, 0)
    breaker.force(None, 1)
    assert breaker.ready_at(1) == 10


class Forced(RuleBasedStateMachine):
    """Calls, verdicts and forced states in any order, in each form of breaker."""

    spec = Breaker(failures=3, calls=4, open_for=10, cap=35, probes=2)

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.told = ["closed"]
        self.breaker = CircuitBreaker(self.spec, self.listen)
        self.calls: list[int] = []
        self.held: str | None = None
        self.probes = 0  # let through since it is half-open, less those given back

    def listen(self, old: str, new: str, now: float) -> None:
        assert old == self.told[-1] != new
        assert now == self.now
        self.told.append(new)
        self.probes = 0

    @rule(seconds=st.sampled_from([0.1, 5.0, 10.0, 35.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        permit = self.breaker.acquire(self.now)
        if self.held is not None:
            assert bool(permit) == (self.held == "closed")
        if permit:
            self.calls.append(permit)
            self.probes += state(self.breaker) == "half-open"
            assert self.probes <= self.spec.probes

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), ok=st.booleans(), seconds=st.sampled_from([0.0, 2.0]))
    def end(self, data: st.DataObject, ok: bool, seconds: float) -> None:
        permit = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.breaker.record(permit, ok, self.now, seconds)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        permit = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.probes -= self.breaker.release(permit)

    @rule(to=st.sampled_from(["open", "closed", None]))
    def force(self, to: Any) -> None:
        was = self.held
        before = state(self.breaker)
        self.breaker.force(to, self.now)
        self.held = to
        assert state(self.breaker) == (to or ("closed" if was else before))

    @invariant()
    def what_is_told_is_so(self) -> None:
        assert self.told[-1] == state(self.breaker)

    @invariant()
    def forced_states_hold(self) -> None:
        assert self.breaker.forced == (self.held is not None)
        if self.held is not None:
            assert state(self.breaker) == self.held
        assert (self.breaker.ready_at(self.now) == inf) <= (
            self.held == "open" or state(self.breaker) == "half-open"
        )


class ForcedByCount(Forced):
    """The same with the last calls, and slow ones."""

    spec = Breaker(failures=None, rate=0.5, last=4, slow_after=1.0, open_for=10, probes=2)


TestForced = Forced.TestCase
TestForced.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestForcedByCount = ForcedByCount.TestCase
TestForcedByCount.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize("spec", [Breaker(), Breaker(last=20), Breaker(slow_after=1.0)])
def test_threads_lose_no_verdict_worth_a_lock(spec: Breaker) -> None:
    """Failures of threads are all counted, in each form: they open it, and then none passes."""
    breaker = CircuitBreaker(spec)

    def work(thread: int) -> None:
        for number in range(500):
            call(breaker, number % 2 == 0, 0, 0.5)

    hammer(work)
    assert state(breaker) == "open"
    assert not breaker.acquire(0)

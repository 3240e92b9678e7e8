"""Admission: the probability of the SRE book, over a window."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy import Admission, AdmissionControl
from tests.policy.hammering import hammer


def never() -> float:
    """Be the chance at which what may be rejected is."""
    return 0.0


def test_hosts_that_accept_all_get_all() -> None:
    """While every call is accepted, none is rejected here, whatever the chance."""
    control = AdmissionControl(Admission(k=1.5, calls=1))
    for second in range(1000):
        # The first may be out before the host has said that it accepts.
        assert control.admit(second, never)
        control.accepted(second)
        assert control.probability(second) == 0


def test_half_may_be_rejected_by_the_hosts() -> None:
    """With k of 2, a host that accepts every second call is still sent all."""
    control = AdmissionControl(Admission(k=2.0, calls=1))
    for number in range(1000):
        if number % 2 == 0:
            control.accepted(number / 100)
        assert control.admit(number / 100, never)


def test_without_accepts_nearly_all_are_rejected() -> None:
    """The first goes out; the more are not accepted, the surer is the next one rejected here."""
    control = AdmissionControl(Admission(calls=1))
    assert control.admit(0, never)
    assert control.probability(0) == 1 / 2
    for _ in range(98):
        control.admit(0, never)
    assert control.probability(0) == 99 / 100
    assert not control.admit(0, lambda: 0.98)
    assert control.admit(0, lambda: 0.999)
    assert repr(control) == "<AdmissionControl 0 of 101 accepted>"


def test_bad_times_are_forgotten_with_the_window() -> None:
    """What was two minutes ago has no influence."""
    control = AdmissionControl(Admission(window=120, calls=1))
    for second in range(60):
        control.admit(second, never)
    assert control.probability(60) > 0.9
    assert control.probability(200) == 0
    assert control.admit(200, never)


def test_an_overloaded_host_is_sent_k_times_what_it_accepts() -> None:
    """Of a thousand calls a second a host that accepts a hundred gets about two hundred."""
    chance = random.Random(1).random
    control = AdmissionControl(Admission(k=2.0, window=10, calls=1))
    sent = 0
    for second in range(100):
        room = 100
        for number in range(1000):
            now = second + number / 1000
            if not control.admit(now, chance):
                continue
            sent += second >= 50
            if room:
                room -= 1
                control.accepted(now)
    assert 180 < sent / 50 < 220


def test_a_host_that_is_well_again_gets_all_soon() -> None:
    """Some calls go out in the worst times; once they are accepted, all do."""
    chance = random.Random(2).random
    control = AdmissionControl(Admission(window=10, calls=1))
    recovered = 0.0
    for tick in range(60_000):
        now = tick / 100
        if control.admit(now, chance) and now >= 300:
            control.accepted(now)
        if now >= 300 and not recovered and control.probability(now) == 0:
            recovered = now - 300
    assert 0 < recovered < 60


@given(
    k=st.sampled_from([1.0, 1.1, 2.0]),
    steps=st.lists(
        st.tuples(st.sampled_from([0.0, 0.3, 1.0, 2.5, 9.0, 30.0]), st.booleans(), st.floats(0, 1)),
        max_size=80,
    ),
)
def test_the_probability_is_the_formulas(k: float, steps: list[tuple[float, bool, float]]) -> None:
    """It is that of the calls of the window, or of up to two tenths more; chance decides."""
    control = AdmissionControl(Admission(k=k, window=10, calls=1))
    now = 100.0
    made: list[tuple[float, bool]] = []  # True: a request, otherwise an accept
    for pause, request, chance in steps:
        now += pause
        possible = set()
        for since in [*[time for time, _ in made], now]:
            if now - 12.0 - 1e-9 <= since:
                recent = [kind for time, kind in made if time >= since]
                requests = sum(recent)
                accepts = len(recent) - requests
                possible.add(max(0.0, (requests - k * accepts) / (requests + 1)))
        probability = control.probability(now)
        assert probability in possible
        if request:
            assert control.admit(now, lambda: chance) == (chance >= probability)  # noqa: B023
        else:
            control.accepted(now)
        made.append((now, request))


def test_threads_lose_no_count() -> None:
    """Calls of threads at the same time are all counted."""
    control = AdmissionControl(Admission(k=1.0, window=1000, calls=1))

    def work(thread: int) -> None:
        for now in range(500):
            control.admit(now, never)
            if now % 5 == 0:
                control.accepted(now)

    hammer(work)
    assert control.probability(500) == (2000 - 400) / 2001


@pytest.mark.parametrize(
    ("name", "value"),
    [("k", 0.5), ("k", -1), ("k", "2"), ("window", 0), ("window", float("inf")), ("window", None)],
)
def test_what_makes_no_sense_is_refused(name: str, value: Any) -> None:
    """The error names the class, the field and the value."""
    with pytest.raises(ValueError, match=rf"^Admission: {name} .*{value!r}"):
        Admission(**{name: value})


def test_the_first_calls_are_sent() -> None:
    """Calls that have no answer yet say nothing of what is accepted."""
    control = AdmissionControl(Admission(calls=20))
    assert all(control.admit(0.0, lambda: 0.0) for _ in range(20))
    assert not control.admit(0.0, lambda: 0.0)

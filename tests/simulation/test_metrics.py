from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.simulation.metrics import Histogram, Meter, Period

DURATIONS = st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=50)


def histogram(durations: list[float]) -> Histogram:
    """Return a histogram of durations."""
    filled = Histogram()
    for seconds in durations:
        filled.add(seconds)
    return filled


@given(DURATIONS, st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_quantiles(durations: list[float], share: float) -> None:
    """A quantile is right within a hundredth."""
    exact = sorted(durations)[max(ceil(share * len(durations)), 1) - 1]
    assert histogram(durations).quantile(share) == pytest.approx(exact, rel=0.01)


@given(DURATIONS, DURATIONS)
def test_histograms_add_up(one: list[float], other: list[float]) -> None:
    """Two histograms together are that of all durations."""
    both = histogram(one)
    both.update(histogram(other))
    whole = histogram([*one, *other])
    assert (both.count, both.counts) == (whole.count, whole.counts)


def test_nothing_has_no_quantile() -> None:
    """Where nothing was measured, there is no latency, rather than none."""
    assert Histogram().quantile(0.5) is None


def test_a_call_belongs_to_the_period_in_which_it_arrived() -> None:
    """Each arrival is counted in its period, the last one too when it is shorter."""
    meter = Meter(duration=2.5, interval=1.0)
    assert [(period.start, period.end) for period in meter.periods] == [(0, 1), (1, 2), (2, 2.5)]
    for time in (0.0, 0.99, 1.0, 2.49, 2.5):
        meter.arrived(time)
    assert [period.offered for period in meter.periods] == [2, 1, 2]


@pytest.mark.parametrize("interval", [0.1, 0.3, 0.7])
def test_periods_are_as_many_as_fit(interval: float) -> None:
    """Rounding makes no period that is empty."""
    assert len(Meter(interval * 10, interval).periods) == 10


def test_periods_together() -> None:
    """Periods together have the counts of all, and the most that were out at one time."""
    one, other = Meter(2.0, 1.0).periods
    for period, out in ((one, 3.0), (other, 1.0)):
        period.offered, period.attempts = 2, 3
        period.succeed(0.1)
        period.fail("ReadTimeout")
        period.ejected = period.open = out
    whole = Period.of([one, other])
    assert whole.as_json() == {
        "start": 0.0,
        "end": 2.0,
        "offered": 4,
        "good": 2,
        "failed": 2,
        "attempts": 6,
        "offered_per_second": 2.0,
        "goodput_per_second": 1.0,
        "attempts_per_call": 1.5,
        "p50_ms": pytest.approx(100, rel=0.01),
        "p99_ms": pytest.approx(100, rel=0.01),
        "p99.9_ms": pytest.approx(100, rel=0.01),
        "ejected": 3.0,
        "circuits_open": 3.0,
        "errors": {"ReadTimeout": 2},
    }
    assert (one.offered, one.errors) == (2, {"ReadTimeout": 1})

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy import Hedge, LatencyQuantile


def test_too_few_calls_tell_nothing() -> None:
    """Without enough recent calls there is no time after which to hedge."""
    latencies = LatencyQuantile(Hedge(calls=20))
    for _ in range(19):
        latencies.record(0.01, 0.0)
    assert latencies.delay(0.0) is None
    latencies.record(0.01, 0.0)
    assert latencies.delay(0.0) == pytest.approx(0.01, rel=0.06)


def test_a_fixed_wait_needs_no_calls() -> None:
    """A fixed wait holds from the first call on."""
    assert LatencyQuantile(Hedge(after=0.2)).delay(0.0) == 0.2


def test_old_latencies_are_forgotten() -> None:
    """What is older than the window counts no more."""
    latencies = LatencyQuantile(Hedge(window=10.0))
    for _ in range(100):
        latencies.record(1.0, 0.0)
    for now in (6.0, 12.0):
        for _ in range(30):
            latencies.record(0.01, now)
    assert latencies.delay(12.0) == pytest.approx(0.01, rel=0.06)
    assert latencies.delay(100.0) is None


@given(
    st.lists(st.floats(1e-5, 1e3), min_size=20, max_size=200),
    st.floats(0.05, 0.99),
)
def test_the_quantile_is_exact_to_a_twentieth(seconds: list[float], quantile: float) -> None:
    """At least the share of latencies is not above the quantile, and it is one of them."""
    latencies = LatencyQuantile(Hedge(quantile=quantile))
    for second in seconds:
        latencies.record(second, 0.0)
    delay = latencies.delay(0.0)
    assert delay is not None
    assert sum(second <= delay * 1.0001 for second in seconds) >= quantile * len(seconds) - 1e-6
    assert min(abs(delay / second - 1) for second in seconds) <= 0.051

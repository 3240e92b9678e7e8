"""The law of the delays between attempts."""

from __future__ import annotations

import random

from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.policy import Retry

seconds = st.floats(1e-6, 1e6)


@given(
    base=seconds,
    cap=seconds,
    factor=st.floats(1e-3, 1e9),
    retry=st.integers(1, 10_000),
    chance=st.floats(0, 1),
)
@example(base=1.0, cap=1.0, factor=1e9, retry=10_000, chance=1.0)
@example(base=1.0, cap=1.0, factor=1e-3, retry=10_000, chance=1.0)
def test_a_delay_is_between_nothing_and_its_bound(
    base: float, cap: float, factor: float, retry: int, chance: float
) -> None:
    """However many retries, a delay is in [0, min(cap, base · factor^(n-1))]."""
    delay = Retry(base=base, factor=factor, cap=cap).delay(retry, lambda: chance)
    assert 0 <= delay <= cap
    if retry <= 10:
        assert delay <= base * factor ** (retry - 1) * (1 + 1e-9)


def test_the_whole_of_the_bound_is_used() -> None:
    """The jitter is full: chance alone decides, from nothing up to the bound."""
    retry = Retry(base=0.1, factor=2, cap=1)
    assert [retry.delay(n, lambda: 1.0) for n in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1, 1]
    assert [retry.delay(n, lambda: 0.5) for n in range(1, 7)] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    assert retry.delay(3, lambda: 0.0) == 0


def test_delays_are_spread_evenly() -> None:
    """Clients that failed together do not come back together."""
    chance = random.Random(1).random
    retry = Retry(base=1, cap=1)
    delays = sorted(retry.delay(1, chance) for _ in range(1000))
    for tenth in range(10):
        assert abs(delays[tenth * 100] - tenth / 10) < 0.05


def test_factors_may_be_whole_numbers() -> None:
    """A large whole factor does not overflow either."""
    assert Retry(base=1, factor=10**6, cap=7).delay(500, lambda: 1.0) == 7

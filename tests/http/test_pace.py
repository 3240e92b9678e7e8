"""The least bandwidth over any interval."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Cluster, Policy, Timeout
from holdfast.errors import AttemptTimeout, CallTimeout, TooSlow
from holdfast.http.pace import Pace
from holdfast.testing import Reply, scripted

DATA = bytes(6000)


def test_nothing_moves() -> None:
    """The first interval begins at 0."""
    assert Pace(100, 10).until == 10


def test_what_moves_gives_more_time() -> None:
    """As long as an interval's worth has moved, another interval may begin there."""
    pace = Pace(100, 10)
    pace.moved(999, 2.0)
    assert pace.until == 10
    pace.moved(1, 4.0)
    assert pace.until == pytest.approx(12, abs=0.2)
    pace.moved(5000, 5.0)
    assert pace.until == pytest.approx(15, abs=0.2)


@given(st.lists(st.tuples(st.floats(0, 8), st.integers(0, 3000)), max_size=50))
def test_the_definition(steps: list[tuple[float, int]]) -> None:
    """It is over when less than the rate has moved in the last interval, to a part of it."""
    pace = Pace(100, 10)
    now = 0.0
    moves: list[tuple[float, int]] = []
    for wait, size in steps:
        now += wait
        pace.moved(size, now)
        moves.append((now, size))
    until = pace.until

    def moved(end: float) -> int:
        return sum(size for time, size in moves if end - 10 < time <= end)

    assert moved(until + 0.001) < 1000
    earlier = until - 10 / 64 - 0.001
    assert earlier < 10 or earlier < now or moved(earlier) >= 1000


def slow(pieces: list[tuple[float, bytes]], **limits: Any) -> tuple[Any, float]:
    """Receive a body in pieces; returns it and how long that took."""
    world = scripted({"a:80": lambda asked: Reply(pieces=pieces)})
    with Cluster(
        ["a:80"], driver=world, policy=Policy(retry=None, timeout=None), timeout=Timeout(**limits)
    ) as cluster:
        try:
            return cluster.get("/").content, world.now
        except CallTimeout as error:
            return error, world.now


def test_a_body_that_is_fast_enough() -> None:
    """A body may pause, as long as each interval has its share."""
    pieces = [(9.0, DATA[:2000])] * 3
    assert slow(pieces, min_bandwidth=100, interval=10) == (DATA, 27.0)


def test_a_body_that_becomes_slow() -> None:
    """A body that was fast at first is given up as soon as an interval is too slow."""
    pieces = [(0.0, DATA), (100.0, b"x")]
    error, now = slow(pieces, min_bandwidth=100, interval=10)
    assert type(error) is TooSlow
    assert "slower than 100 bytes/s" in str(error)
    assert now == pytest.approx(10, abs=0.2)
    assert slow(pieces, min_bandwidth=10) == (DATA + b"x", 100.0)  # on average of all


def test_silence_and_bandwidth() -> None:
    """The limit of silence holds besides."""
    error, now = slow([(0.0, DATA), (50.0, b"x")], min_bandwidth=100, interval=10, read=3)
    assert not isinstance(error, TooSlow | AttemptTimeout)
    assert now == pytest.approx(3)

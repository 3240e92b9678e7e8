import random
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.simulation.load import Curve, Load

RATES = st.just(0.0) | st.floats(0.01, 1000)
POINTS = st.lists(st.tuples(st.floats(0.1, 10), RATES), min_size=1, max_size=5)


def growing(gaps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points at times that grow by the gaps."""
    time, points = 0.0, []
    for gap, rate in gaps:
        points.append((time, rate))
        time += gap
    return points


def expected(curve: Curve, until: float) -> float:
    """Return how many calls a curve brings until a time, by adding up."""
    starts = [piece[0] for piece in curve.pieces if piece[0] < until]
    spans = pairwise([*starts, until])
    # The rate is straight within a piece, so its middle is its mean.
    return sum(curve.rate((one + other) / 2) * (other - one) for one, other in spans)


def test_even_arrivals_of_a_constant_rate() -> None:
    """Even arrivals come in equal distances."""
    times = Load(rate=4.0, arrivals="even").times(random.random)
    assert list(islice(times, 4)) == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_steps() -> None:
    """A rate holds from its time to the next one's."""
    load = Load(steps=((0.0, 1.0), (2.0, 0.0), (10.0, 2.0)), arrivals="even")
    times = load.times(random.random)
    assert list(islice(times, 4)) == pytest.approx([1.0, 2.0, 10.5, 11.0])
    assert [load.curve.rate(time) for time in (0.0, 1.9, 2.0, 9.9, 10.0, 99.0)] == [
        1,
        1,
        0,
        0,
        2,
        2,
    ]


def test_ramp() -> None:
    """Between two points the rate is on a straight line."""
    curve = Load(ramp=((1.0, 10.0), (3.0, 30.0))).curve
    assert [curve.rate(time) for time in (0.5, 1.0, 2.0, 3.0, 4.0)] == [0, 10, 20, 30, 30]


def test_a_rate_that_ends_ends_the_arrivals() -> None:
    """When the rate is 0 for ever, no call comes any more."""
    assert list(Load(rate=0.0).times(random.random)) == []
    ramp = Load(ramp=((0.0, 10.0), (2.0, 0.0)), arrivals="even")
    assert len(list(ramp.times(random.random))) in (9, 10)  # the tenth would come with the end


@given(POINTS, st.booleans())
def test_even_arrivals_follow_any_curve(gaps: list[tuple[float, float]], steps: bool) -> None:
    """Until the n-th arrival, n arrivals were to be expected, whatever the curve."""
    points = growing(gaps)
    curve = Curve.steps(points) if steps else Curve.ramp(points)
    for number, time in enumerate(islice(curve.times(lambda: 1.0), 50), start=1):
        assert expected(curve, time) == pytest.approx(number, rel=1e-6)


def test_poisson_arrivals() -> None:
    """Poisson arrivals have the rate on average, and vary as they should."""
    load = Load(steps=((0.0, 100.0), (50.0, 300.0)))
    counts = [0] * 100
    for time in load.times(random.Random(1).random):
        if time >= 100.0:
            break
        counts[int(time)] += 1
    for mean, part in ((100, counts[:50]), (300, counts[50:])):
        average = sum(part) / 50
        variance = sum((count - average) ** 2 for count in part) / 49
        assert average == pytest.approx(mean, rel=0.05)
        assert variance == pytest.approx(mean, rel=0.5)


def test_the_same_randomness_gives_the_same_arrivals() -> None:
    """Arrivals depend on the generator alone."""
    one, other = (list(islice(Load(rate=9.0).times(random.Random(5).random), 99)) for _ in "ab")
    assert one == other


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one of rate, steps and ramp is to be given, not none of them"),
        ({"rate": 1.0, "ramp": ((0.0, 1.0),)}, "not rate and ramp"),
        ({"rate": -1.0}, "rate must be at least 0 and finite, not -1.0"),
        ({"steps": ()}, r"steps must have a point at least, not \(\)"),
        ({"steps": ((0.0, -1.0),)}, r"steps must have times and rates from 0, not \[0.0, -1.0\]"),
        ({"ramp": ((5.0, 1.0), (5.0, 2.0))}, "ramp must go forward in time, not from 5 to 5"),
        ({"rate": 1.0, "arrivals": "odd"}, "arrivals must be 'poisson' or 'even', not 'odd'"),
    ],
)
def test_wrong_loads(options: dict[str, object], said: str) -> None:
    """What makes no load is refused, with the field and the value."""
    with pytest.raises(ValueError, match=f"^Load: .*{said}"):
        Load(**options)  # type: ignore[arg-type]

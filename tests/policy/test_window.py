"""Windows of the last calls are exact, those of the last seconds to a tenth."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.window import LastCalls, Window

verdicts = st.tuples(st.booleans(), st.booleans())


@given(
    size=st.integers(1, 7),
    calls=st.lists(st.one_of(verdicts, st.none()), max_size=60),
)
def test_the_last_calls_are_counted_exactly(
    size: int, calls: list[tuple[bool, bool] | None]
) -> None:
    """The counts are those of the last calls, neither more nor fewer; None clears them."""
    window = LastCalls(size)
    model: list[tuple[bool, bool]] = []
    for call in calls:
        if call is None:
            window.clear()
            model = []
        else:
            window.add(*call, 0.0)
            model = [*model, call][-size:]
        failed, slow = (sum(verdict[kind] for verdict in model) for kind in (0, 1))
        assert window.counts(0.0) == (len(model), failed, slow)


@given(
    seconds=st.sampled_from([1.0, 10.0]),
    steps=st.lists(
        st.tuples(st.sampled_from([0.0, 0.05, 0.3, 1.0, 4.0, 25.0]), verdicts), max_size=60
    ),
)
def test_the_last_seconds_are_counted_to_a_tenth(
    seconds: float, steps: list[tuple[float, tuple[bool, bool]]]
) -> None:
    """All calls of the window count, and none that is a tenth of it older."""
    window = Window(seconds)
    now = 5.0
    made: list[tuple[float, tuple[bool, bool]]] = []
    for pause, verdict in steps:
        now += pause
        window.add(*verdict, now)
        made.append((now, verdict))
        least = [verdict for time, verdict in made if time > now - seconds]
        most = [verdict for time, verdict in made if time > now - seconds * 1.1 - 1e-9]
        calls, failed, slow = window.counts(now)
        assert len(least) <= calls <= len(most)
        assert sum(one for one, _ in least) <= failed <= sum(one for one, _ in most)
        assert sum(two for _, two in least) <= slow <= sum(two for _, two in most)
        assert window.totals(now) == (calls, failed)

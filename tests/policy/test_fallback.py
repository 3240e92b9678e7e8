import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy import Fallback, StaleAnswers
from holdfast.policy.fallback import MISSING


def test_a_fallback_of_nothing_is_refused() -> None:
    """A fallback says what it falls back to."""
    with pytest.raises(ValueError, match="value, a function or stale"):
        Fallback()


def test_one_kind_of_errors_is_a_tuple_of_one() -> None:
    """It is the same fallback, however that was written."""
    assert Fallback(value=1, on=KeyError) == Fallback(value=1, on=(KeyError,))  # type: ignore[arg-type]


def test_what_is_no_function_is_refused() -> None:
    """The error names the class, the field and the value."""
    with pytest.raises(ValueError, match=r"^Fallback: function must be a function or None, not 3$"):
        Fallback(function=3)  # type: ignore[arg-type]


def test_none_is_a_value() -> None:
    """None can be what is answered."""
    assert Fallback(value=None).value is None


def test_answers_become_too_old() -> None:
    """An answer is given until it is as old as allowed, and then forgotten."""
    stale = StaleAnswers(Fallback(stale=10.0))
    stale.put("a", 1, 0.0)
    assert stale.get("a", 10.0) == 1
    assert stale.get("a", 10.1) is MISSING
    assert len(stale) == 0
    assert stale.get("b", 0.0) is MISSING


@given(st.lists(st.integers(0, 30), max_size=100), st.integers(1, 10))
def test_the_latest_answers_are_remembered(keys: list[int], entries: int) -> None:
    """No more answers are kept than allowed, and those that were put last."""
    stale = StaleAnswers(Fallback(stale=1e9, entries=entries))
    for now, key in enumerate(keys):
        stale.put(key, now, now)
    latest = list(dict.fromkeys(reversed(keys)))[:entries]
    assert len(stale) == len(latest)
    for key in latest:
        assert stale.get(key, len(keys)) == len(keys) - 1 - keys[::-1].index(key)

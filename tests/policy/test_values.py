"""Specifications: immutable, comparable, and refusing what makes no sense."""

from __future__ import annotations

import dataclasses
from math import inf, nan
from typing import Any

import pytest

from holdfast import Breaker, Budget, Ejection, Limit, Policy, Retry

SPECS: list[Any] = [Retry, Budget, Breaker, Limit, Ejection, Policy]

NUMBERS: dict[Any, list[str]] = {
    Retry: ["base", "factor", "cap", "attempt_timeout"],
    Budget: ["share", "per_second", "window"],
    Breaker: ["rate", "window", "open_for", "factor", "cap"],
    Limit: [],
    Ejection: ["base", "cap", "most", "panic"],
    Policy: ["timeout"],
}
COUNTS: dict[Any, list[str]] = {
    Retry: ["attempts"],
    Budget: [],
    Breaker: ["failures", "calls", "probes"],
    Limit: ["calls", "queue"],
    Ejection: ["failures"],
    Policy: [],
}
OFF = {"attempt_timeout", "rate", "timeout"} | {"failures"}  # None turns these off, in some


def fields(table: dict[Any, list[str]]) -> list[Any]:
    """Return each field of a table as parameters of a test."""
    return [
        pytest.param(spec, name, id=f"{spec.__name__}.{name}")
        for spec, names in table.items()
        for name in names
    ]


def refused(spec: Any, name: str, value: object) -> None:
    """Check that a value is a ValueError that names class and field."""
    with pytest.raises(ValueError, match=rf"^{spec.__name__}: {name} ") as caught:
        spec(**{name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("spec", SPECS)
def test_equal_values_make_equal_specifications(spec: Any) -> None:
    """Two specifications of the same values are equal and hash alike."""
    assert spec() == spec()
    assert hash(spec()) == hash(spec())
    assert repr(spec()).startswith(f"{spec.__name__}(")


@pytest.mark.parametrize("spec", SPECS)
def test_a_specification_cannot_be_changed(spec: Any) -> None:
    """Assigning to a field is refused, and so is a field that does not exist."""
    made = spec()
    for field in dataclasses.fields(spec):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, 1)
    with pytest.raises(TypeError):
        spec(no_such_field=1)


def test_different_values_differ() -> None:
    """One different value makes policies unequal."""
    assert Policy(retry=Retry(attempts=2)) != Policy()
    assert Policy(retry=Retry(attempts=3)) == Policy()
    assert Retry(statuses={503}) == Retry(statuses=frozenset([503]))  # type: ignore[arg-type]


@pytest.mark.parametrize(("spec", "name"), fields(NUMBERS))
@pytest.mark.parametrize("value", [-1, -0.001, nan, "1", True, (1,), 1j])
def test_numbers_are_numbers_and_not_negative(spec: Any, name: str, value: object) -> None:
    """A negative number, no number at all, or a flag in its place is refused."""
    refused(spec, name, value)


@pytest.mark.parametrize(("spec", "name"), fields(COUNTS))
@pytest.mark.parametrize("value", [-1, 1.5, nan, inf, "3", True])
def test_counts_are_whole_numbers(spec: Any, name: str, value: object) -> None:
    """A fraction, infinity, a negative number, or no number is no count."""
    refused(spec, name, value)


@pytest.mark.parametrize(("spec", "name"), fields(NUMBERS) + fields(COUNTS))
def test_none_is_refused_where_it_means_nothing(spec: Any, name: str) -> None:
    """None is only taken by fields that it turns off."""
    if name in OFF and spec is not Ejection:
        assert getattr(spec(**{name: None}), name) is None
    else:
        refused(spec, name, None)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        *[(Retry, name) for name in ("attempts", "base", "factor", "cap", "attempt_timeout")],
        *[(Breaker, name) for name in ("failures", "rate", "calls", "window", "open_for")],
        *[(Breaker, name) for name in ("factor", "cap", "probes")],
        *[(Ejection, name) for name in ("failures", "base", "cap")],
        (Budget, "window"),
        (Limit, "calls"),
        (Policy, "timeout"),
    ],
)
def test_zero_is_refused_where_it_means_nothing(spec: Any, name: str) -> None:
    """No attempts, no time and no window at all cannot be."""
    refused(spec, name, 0)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (Budget, "share"),
        (Budget, "per_second"),
        (Limit, "queue"),
        (Ejection, "most"),
        (Ejection, "panic"),
    ],
)
def test_zero_is_taken_where_it_means_none(spec: Any, name: str) -> None:
    """No share, no reserve and no queue are choices."""
    assert getattr(spec(**{name: 0}), name) == 0


@pytest.mark.parametrize(
    ("spec", "name"),
    [(Budget, "share"), (Breaker, "rate"), (Ejection, "most"), (Ejection, "panic")],
)
def test_a_share_is_at_most_one(spec: Any, name: str) -> None:
    """More than all is refused."""
    assert getattr(spec(**{name: 1}), name) == 1
    refused(spec, name, 1.01)


@pytest.mark.parametrize(
    ("spec", "name"),
    [(Budget, "window"), (Budget, "per_second"), (Breaker, "window"), (Retry, "base")],
)
def test_what_is_reckoned_with_is_finite(spec: Any, name: str) -> None:
    """Infinity is refused where it would make nonsense of the sums."""
    refused(spec, name, inf)


@pytest.mark.parametrize("value", ["503", 503, [99], [600], ["503"], [True], None])
def test_statuses_are_status_codes(value: object) -> None:
    """What holds anything else than codes from 100 to 599 is refused."""
    refused(Retry, "statuses", value)


@pytest.mark.parametrize("name", ["retry", "budget", "breaker", "limit", "cluster_limit"])
@pytest.mark.parametrize("value", [3, True, "on", Retry, Ejection()])
def test_a_policy_is_made_of_its_parts(name: str, value: object) -> None:
    """A part is a specification of its own kind, or None."""
    refused(Policy, name, value)
    off: Any = {name: None}
    assert getattr(Policy(**off), name) is None

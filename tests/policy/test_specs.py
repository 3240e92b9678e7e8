"""Specifications print themselves, and none of them takes a value that makes no sense."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from math import inf, nan
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from holdfast import Breaker, Budget, Ejection, Limit, Policy, Retry
from holdfast.policy import checks
from holdfast.policy.specs import Spec
from tests.policy.all_specs import SPECS, made

#: Words that a float's name holds when its values end at 1.
SHARES = ("share", "rate", "quantile", "most", "panic")


class Sort(Enum):
    """What a field holds, as far as bad values go."""

    NUMBER = float
    COUNT = int
    FLAG = bool
    LIST = Collection
    PART = Spec


def fields(sort: Sort) -> list[Any]:
    """Return the fields of all specifications that hold such values, as parameters of a test."""
    found = []
    for kind in SPECS:
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            hint = hints[field.name]
            union = isinstance(hint, UnionType)
            options = set(get_args(hint)) - {NoneType} if union else {hint}
            if sort is Sort.PART:
                fits = all(isinstance(one, type) and issubclass(one, Spec) for one in options)
            elif sort is Sort.LIST:
                fits = all(get_origin(one) in (Collection, frozenset, tuple) for one in options)
            else:
                fits = options == {sort.value}
            if fits:
                found.append(pytest.param(kind, field.name, id=f"{kind.__name__}.{field.name}"))
    return found


def refused(kind: Any, name: str, value: object) -> None:
    """Check that a value is a ValueError that names class, field and value."""
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: {name} ") as caught:
        made(kind, **{name: value})
    assert repr(value) in str(caught.value)


def test_all_specifications_are_found() -> None:
    """The sweep below covers at least those that everybody uses."""
    assert {Retry, Budget, Breaker, Limit, Policy, Ejection} <= set(SPECS)


@pytest.mark.parametrize("kind", SPECS)
def test_a_specification_is_a_value(kind: Any) -> None:
    """Specifications are frozen, comparable, hashable and small, and can be copied and pickled."""
    spec = made(kind)
    assert spec == made(kind)
    assert hash(spec) == hash(made(kind))
    assert not hasattr(spec, "__dict__")
    assert copy.deepcopy(spec) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(spec, field.name, getattr(spec, field.name))


@pytest.mark.parametrize("kind", SPECS)
def test_what_is_printed_makes_an_equal_specification(kind: Any) -> None:
    """Python reads what `repr` writes."""
    names = {one.__name__: one for one in SPECS}
    spec = made(kind)
    assert eval(repr(spec), names) == spec


@pytest.mark.parametrize(("kind", "name"), fields(Sort.NUMBER))
@pytest.mark.parametrize("value", [-1, -0.001, -inf, nan, "1", True, (1,), 1j], ids=repr)
def test_a_number_is_a_number_and_not_negative(kind: Any, name: str, value: object) -> None:
    """A negative number, none at all, or a flag in its place is refused."""
    refused(kind, name, value)


@pytest.mark.parametrize(("kind", "name"), fields(Sort.NUMBER) + fields(Sort.COUNT))
def test_a_number_is_one_that_can_be_reckoned_with(kind: Any, name: str) -> None:
    """A whole number that is larger than any float would fail in the first call."""
    refused(kind, name, 10**400)


@pytest.mark.parametrize(("kind", "name"), fields(Sort.COUNT))
@pytest.mark.parametrize("value", [-1, 1.5, 3.0, -inf, inf, nan, "3", True, [3]], ids=repr)
def test_a_count_is_a_whole_number_and_not_negative(kind: Any, name: str, value: object) -> None:
    """A fraction, infinity, a negative number, or no number is no count."""
    refused(kind, name, value)


@pytest.mark.parametrize(("kind", "name"), fields(Sort.COUNT))
def test_no_count_is_zero_unless_it_may_be_none(kind: Any, name: str) -> None:
    """Zero attempts, probes or calls are refused; a queue may have no place."""
    if name in ("queue", "priority", "client"):
        assert getattr(made(kind, **{name: 0}), name) == 0
    else:
        refused(kind, name, 0)


@pytest.mark.parametrize(("kind", "name"), fields(Sort.NUMBER))
def test_a_share_is_at_most_one(kind: Any, name: str) -> None:
    """More than all is refused, of shares, rates and quantiles."""
    if any(word in name.split("_") for word in SHARES):
        refused(kind, name, 1.01)
        refused(kind, name, inf)


@pytest.mark.parametrize(("kind", "name"), fields(Sort.FLAG))
@pytest.mark.parametrize("value", [0, 1, "yes", None, nan], ids=repr)
def test_a_flag_is_true_or_false(kind: Any, name: str, value: object) -> None:
    """Nothing else is a flag, not even what Python takes for one."""
    refused(kind, name, value)


@pytest.mark.parametrize(("kind", "name"), fields(Sort.LIST))
@pytest.mark.parametrize("value", [3, nan, "no", True, None, (None,), [3], (nan,)], ids=repr)
def test_a_list_holds_what_it_should(kind: Any, name: str, value: object) -> None:
    """What is no list, or holds anything else than the field's own kind of things, is refused."""
    refused(kind, name, value)


@pytest.mark.parametrize(("kind", "name"), fields(Sort.PART))
@pytest.mark.parametrize("value", [0, 3, True, False, "on", Retry, {}, Ejection()], ids=repr)
def test_a_part_is_a_specification_of_its_kind(kind: Any, name: str, value: object) -> None:
    """A part is nothing but a specification of its own kind, or None."""
    refused(kind, name, value)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (Retry(), "Retry()"),
        (Retry(attempts=5), "Retry(attempts=5)"),
        (Retry(statuses=frozenset({503, 500})), "Retry(statuses=frozenset({500, 503}))"),
        (Retry(statuses=frozenset()), "Retry(statuses=frozenset())"),
        (Retry(exceptions=(KeyError,)), "Retry(exceptions=(KeyError,))"),
        (Breaker(failures=None), "Breaker(failures=None)"),
        (
            Policy(timeout=2.0, retry=Retry(attempts=2), budget=None, breaker=None),
            "Policy(timeout=2.0, retry=Retry(attempts=2), budget=None, breaker=None, "
            "limit=Limit())",
        ),
    ],
)
def test_a_specification_prints_what_differs(spec: Spec, text: str) -> None:
    """`repr` shows what differs from the defaults, and the parts that are on."""
    assert repr(spec) == text


@dataclass(frozen=True, slots=True, repr=False)
class Checked(Spec):
    """A specification of the checks that others may not use."""

    low: float = 1.0
    high: float = 2.0
    word: str = "one"
    function: Any = None


def test_fields_that_have_an_order() -> None:
    """A field below the one that bounds it is named together with the bound."""
    checks.ordered(Checked(), "low", "high")
    with pytest.raises(ValueError, match=r"^Checked: high must be at least low, .* 1.0, not 0.5$"):
        checks.ordered(Checked(high=0.5), "low", "high")


def test_a_choice_is_one_of_the_options() -> None:
    """What is not among the options is refused together with them."""
    checks.choice(Checked(), ("one", "two"), "word")
    with pytest.raises(ValueError, match=r"^Checked: word must be 'one' or 'two', not 'three'$"):
        checks.choice(Checked(word="three"), ("one", "two"), "word")
    with pytest.raises(ValueError, match=r"not True$"):
        checks.choice(Checked(word=True), (1, 2), "word")  # type: ignore[arg-type]


def test_what_is_called_is_callable() -> None:
    """A function may be absent, and nothing else may stand for it."""
    checks.callables(Checked(), "function")
    checks.callables(Checked(function=print), "function")
    with pytest.raises(ValueError, match=r"^Checked: function must be a function or None, not 3$"):
        checks.callables(Checked(function=3), "function")


def test_a_number_above_a_bound() -> None:
    """The bound itself is refused, and named."""
    checks.above(Checked(), 0.5, "low", "high")
    with pytest.raises(ValueError, match=r"^Checked: low must be above 1 and finite, not 1.0$"):
        checks.above(Checked(), 1, "low")


def test_status_codes_come_in_any_collection() -> None:
    """Lists, sets and ranges of codes are taken; what is no code is refused."""
    for codes in ([500, 503], {500, 503}, range(500, 504, 3)):
        assert checks.status_codes(Checked(function=codes), "function") == {500, 503}
    for bad in (503, "503", [99], [600], [True], [[500]]):
        with pytest.raises(ValueError, match=r"^Checked: function must be codes from 100 to 599"):
            checks.status_codes(Checked(function=bad), "function")

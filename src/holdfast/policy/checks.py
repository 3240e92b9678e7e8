"""Checks of the values of a specification, with errors that name the class, field and value.

Every message begins with ``Class: field``; `holdfast.policy.config` puts the dotted key of a file
in that place.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import Any

__all__ = [
    "above",
    "at_least",
    "callables",
    "choice",
    "exceptions",
    "flag",
    "limit",
    "not_negative",
    "ordered",
    "part",
    "positive",
    "quantile",
    "share",
    "status_codes",
    "wrong",
]


def wrong(spec: object, name: str, rule: str, value: object) -> ValueError:
    """Return the error that says which rule a field's value breaks."""
    return ValueError(f"{type(spec).__name__}: {name} {rule}, not {value!r}")


def positive(spec: object, *names: str) -> None:
    """Raise ValueError unless each field is a finite number above 0."""
    above(spec, 0, *names)


def above(spec: object, bound: float, *names: str) -> None:
    """Raise ValueError unless each field is a finite number above the bound."""
    for name in names:
        value = _number(spec, name)
        if not bound < value < inf:
            raise wrong(spec, name, f"must be above {bound} and finite", value)


def not_negative(spec: object, *names: str) -> None:
    """Raise ValueError unless each field is a finite number of at least 0."""
    for name in names:
        value = _number(spec, name)
        if not 0 <= value < inf:
            raise wrong(spec, name, "must be at least 0 and finite", value)


def exceptions(spec: object, name: str) -> tuple[type[Exception], ...]:
    """Return a field's exception classes, also of a single one; raise ValueError for others."""
    value = getattr(spec, name)
    kinds = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise wrong(spec, name, "must be exception classes", value)
    return kinds


def limit(spec: object, *names: str) -> None:
    """Raise ValueError unless each field is a number above 0, or None; infinity is none, too."""
    for name in names:
        value = getattr(spec, name)
        if value is not None and not _number(spec, name) > 0:
            raise wrong(spec, name, "must be above 0", value)


def at_least(spec: object, least: int, *names: str) -> None:
    """Raise ValueError unless each field is a whole number of at least ``least``."""
    for name in names:
        value = _number(spec, name)
        if not isinstance(value, int) or value < least:
            raise wrong(spec, name, f"must be a whole number from {least}", value)


def share(spec: object, *names: str) -> None:
    """Raise ValueError unless each field is between 0 and 1."""
    for name in names:
        value = _number(spec, name)
        if not 0 <= value <= 1:
            raise wrong(spec, name, "is a share, 0 to 1", value)


def quantile(spec: object, *names: str) -> None:
    """Raise ValueError unless each field is above 0 and below 1."""
    for name in names:
        value = _number(spec, name)
        if not 0 < value < 1:
            raise wrong(spec, name, "is a quantile, above 0 and below 1", value)


def ordered(spec: object, *names: str) -> None:
    """Raise ValueError unless no field is below the one named before it."""
    for lower, upper in pairwise(names):
        value = getattr(spec, upper)
        if value < getattr(spec, lower):
            least = getattr(spec, lower)
            raise wrong(spec, upper, f"must be at least {lower}, which is {least!r}", value)


def flag(spec: object, *names: str) -> None:
    """Raise ValueError unless each field is True or False."""
    for name in names:
        value = getattr(spec, name)
        if not isinstance(value, bool):
            raise wrong(spec, name, "must be True or False", value)


def choice(spec: object, options: tuple[object, ...], *names: str) -> None:
    """Raise ValueError unless each field is one of the options."""
    for name in names:
        value = getattr(spec, name)
        # An unhashable or strange value is compared, too; 1 is not taken for True.
        if not any(type(value) is type(one) and value == one for one in options):
            among = " or ".join(map(repr, options))
            raise wrong(spec, name, f"must be {among}", value)


def part(spec: object, kind: type | tuple[type, ...], *names: str) -> None:
    """Raise ValueError unless each field is an object of its kind, or None."""
    for name in names:
        value = getattr(spec, name)
        if value is not None and not isinstance(value, kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            *others, last = (_one_of_kind(one.__name__) for one in kinds)
            either = f"{', '.join(others)}, {last}" if others else last
            raise wrong(spec, name, f"must be {either} or None", value)


def callables(spec: object, *names: str) -> None:
    """Raise ValueError unless each field can be called, or is None."""
    for name in names:
        value = getattr(spec, name)
        if value is not None and not callable(value):
            raise wrong(spec, name, "must be a function or None", value)


def status_codes(spec: object, name: str) -> frozenset[int]:
    """Return a field's HTTP status codes; raise ValueError unless they are from 100 to 599."""
    value = getattr(spec, name)
    try:
        codes = frozenset(value)
    except TypeError:  # no list, or of what no set can hold
        codes = frozenset({None})
    if not all(type(code) is int and 100 <= code <= 599 for code in codes):
        raise wrong(spec, name, "must be codes from 100 to 599", value)
    return codes


def _one_of_kind(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _number(spec: object, name: str) -> Any:
    value = getattr(spec, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(spec, name, "must be a number", value)
    try:
        float(value)
    except OverflowError:  # every time and share is reckoned with as a float
        raise wrong(spec, name, "is too large a number", value) from None
    return value

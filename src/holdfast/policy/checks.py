"""Checks of the values of a specification, with errors that name the field."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

__all__ = ["at_least", "limit", "part", "positive", "share"]


def positive(spec: object, *names: str) -> None:
    """Raise ValueError unless each field is a finite number above 0."""
    for name in names:
        value = _number(spec, name)
        if not 0 < value < inf:
            raise ValueError(
                f"{type(spec).__name__}: {name} must be above 0 and finite, not {value!r}"
            )


def limit(spec: object, *names: str) -> None:
    """Raise ValueError unless each field is a number above 0, or None; infinity is none, too."""
    for name in names:
        if getattr(spec, name) is not None and not _number(spec, name) > 0:
            value = getattr(spec, name)
            raise ValueError(f"{type(spec).__name__}: {name} must be above 0, not {value!r}")


def part(spec: object, kind: type, *names: str) -> None:
    """Raise ValueError unless each field is an object of its kind, or None."""
    for name in names:
        value = getattr(spec, name)
        if value is not None and not isinstance(value, kind):
            raise ValueError(
                f"{type(spec).__name__}: {name} must be a {kind.__name__} or None, not {value!r}"
            )


def at_least(spec: object, least: int, *names: str) -> None:
    """Raise ValueError unless each field is a whole number of at least ``least``."""
    for name in names:
        value = _number(spec, name)
        if not isfinite(value) or value != int(value) or value < least:
            raise ValueError(
                f"{type(spec).__name__}: {name} must be a whole number from {least}, not {value!r}"
            )


def share(spec: object, *names: str) -> None:
    """Raise ValueError unless each field is between 0 and 1."""
    for name in names:
        value = _number(spec, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{type(spec).__name__}: {name} is a share, 0 to 1, not {value!r}")


def _number(spec: object, name: str) -> Any:
    value = getattr(spec, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{type(spec).__name__}: {name} must be a number, not {value!r}")
    return value

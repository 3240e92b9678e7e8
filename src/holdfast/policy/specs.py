"""What all specifications have in common: they print themselves, and travel as plain data.

A specification is an immutable, comparable value::

    @dataclass(frozen=True, slots=True, repr=False)
    class Retry(Spec):
        attempts: int = 3

Its fields have defaults and are checked in ``__post_init__`` (see `holdfast.policy.checks`);
what their annotations say is also what `Spec.from_dict` reads (see `holdfast.policy.config`).
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from typing import IO, Self

__all__ = ["Spec"]


class Spec:
    """The base of the specifications; `repr` shows only what differs from the defaults."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = []
        for field in fields(cast("Any", self)):
            value = getattr(self, field.name)
            # A part that is on is shown even as it comes: one sees what a policy consists of.
            if isinstance(value, Spec) or not _is_default(field, value):
                shown.append(f"{field.name}={_written(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], *, at: str = "") -> Self:
        """Return the specification that a mapping describes, such as a table of a TOML file.

        Keys are the fields' names; what is not named keeps its default. A nested specification is
        a mapping of its own, or True for its defaults; False or None turns off what can be off.
        Exceptions are given by their names. ``at`` is the dotted key of the mapping in what was
        read, for messages. Raises ValueError, which names the key and the value.
        """
        from holdfast.policy.config import from_dict  # it imports this module

        return from_dict(cls, mapping, at)

    @classmethod
    def from_toml(cls, source: str | PathLike[str] | IO[bytes], *, table: str = "") -> Self:
        """Return the specification that a TOML document describes, as `from_dict` reads it.

        ``source`` is a path, an open binary file, or the text itself: a string is text when it is
        empty or has a line break, ``=``, ``[`` or ``#`` in it, which a `pathlib.Path` may have.
        ``table`` is the dotted name of the table to read, "" for the whole document. Raises
        ValueError, which names the file, the key and the value, or OSError when it cannot be read.
        """
        from holdfast.policy.config import from_toml  # it imports this module

        return from_toml(cls, source, table)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain data, from which `from_dict` makes an equal specification.

        What is turned off is False, as TOML has no null. Functions, and exceptions that are
        neither built in nor ours, stay what they are.
        """
        from holdfast.policy.config import to_dict  # it imports this module

        return to_dict(self)


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default is not MISSING:
        default = field.default
    elif field.default_factory is not MISSING:
        default = field.default_factory()
    else:
        return False
    return type(value) is type(default) and bool(value == default)


def _written(value: object) -> str:
    """Return the value as one would write it; sets in order, so that equal ones look equal."""
    if isinstance(value, frozenset):
        items = ", ".join(sorted(map(_written, value)))
        return f"frozenset({{{items}}})" if items else "frozenset()"
    if isinstance(value, tuple):
        items = ", ".join(map(_written, value))
        return f"({items},)" if len(value) == 1 else f"({items})"
    name = getattr(value, "__qualname__", None)  # classes and functions
    return name if isinstance(name, str) else repr(value)

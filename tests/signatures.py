"""Signatures as documentation writes them, to be compared with those that there are.

A line is ``Class.method(a, b=1, **more)``, or ``Class(a, b=1)`` for what makes an object.
"""

from __future__ import annotations

import inspect
import re
from operator import attrgetter
from types import ModuleType
from typing import Any

__all__ = ["conforms", "promised"]

VARIABLE = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def promised(text: str, **constants: Any) -> dict[str, inspect.Signature]:
    """Return the signatures of some lines, by dotted names; the constants are names in them."""
    found: dict[str, inspect.Signature] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = re.fullmatch(r"([\w.]+)\((.*)\)", line)
        assert match is not None, line
        found[match[1]] = inspect.signature(eval(f"lambda {match[2]}: 0", constants))
    return found


def conforms(module: ModuleType, name: str, expected: inspect.Signature) -> None:
    """Check that whoever calls it as documented is understood, and that all else is optional.

    Parameters that may be positional have the same order; those that we have besides come after
    them and have defaults.
    """
    found = _parameters(module, name)
    plain = [one for one in found if one.kind is one.POSITIONAL_OR_KEYWORD]
    wanted = list(expected.parameters.values())
    ordered = [one for one in wanted if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert [one.name for one in plain[: len(ordered)]] == [one.name for one in ordered]
    by_name = {one.name: one for one in found}
    for one in wanted:
        if one.kind in VARIABLE:
            assert one.kind in {other.kind for other in found}, f"{name} takes no {one}"
        elif one.default is one.empty:
            assert one.name in by_name, f"{name} has no {one.name}"
        else:
            assert by_name[one.name].default == one.default, f"{name}: the default of {one.name}"
    known = {one.name for one in wanted}
    for one in found:
        optional = one.kind in VARIABLE or one.default is not one.empty
        assert one.name in known or optional, f"{name} needs {one.name}, too"


def _parameters(module: ModuleType, name: str) -> list[inspect.Parameter]:
    """Return the parameters without the object itself."""
    found = attrgetter(name)(module)
    parameters = list(inspect.signature(found).parameters.values())
    owner, _, last = name.rpartition(".")
    if owner and not isinstance(found, type):
        static = inspect.getattr_static(attrgetter(owner)(module), last)
        if inspect.isfunction(static):
            del parameters[0]
    return parameters

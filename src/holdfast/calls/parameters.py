"""Which parameter of a function takes what the decorator gives."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Slot", "named", "of_type", "without"]

_DOTTED = re.compile(r"[A-Za-z_][\w.]*")


class Slot:
    """The place of a parameter that is not the caller's to fill."""

    __slots__ = ("index", "name")

    def __init__(self, name: str, index: int | None) -> None:
        self.name = name
        self.index = index  # among the positional ones, None where it goes by its name only

    def fill(
        self, value: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with a value in this place; what the caller gave there stays."""
        if self.name in keywords:
            return arguments, keywords
        index = self.index
        if index is None or len(arguments) < index:
            return arguments, {**keywords, self.name: value}
        return (*arguments[:index], value, *arguments[index:]), keywords


def of_type(function: Callable[..., Any], kind: type, name: str) -> Slot | None:
    """Return the place of the first parameter of a type, or else of that name."""
    found = _parameters(function)
    for at, parameter in enumerate(found):
        if _is_annotated(function, parameter.annotation, kind):
            return _slot(parameter, at)
    return named(function, name)


def named(function: Callable[..., Any], name: str) -> Slot | None:
    """Return the place of the parameter of that name, None where there is none."""
    for at, parameter in enumerate(_parameters(function)):
        if parameter.name == name and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            return _slot(parameter, at)
    return None


def without(function: Callable[..., Any], slot: Slot) -> inspect.Signature:
    """Return the signature of a function for those who do not fill that place."""
    signature = inspect.signature(function)
    rest = [one for one in signature.parameters.values() if one.name != slot.name]
    return signature.replace(parameters=rest)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some functions in C do not tell
        return []


def _slot(parameter: inspect.Parameter, at: int) -> Slot:
    return Slot(parameter.name, None if parameter.kind is parameter.KEYWORD_ONLY else at)


def _is_annotated(function: Callable[..., Any], annotation: Any, kind: type) -> bool:
    if annotation is kind:
        return True
    if not isinstance(annotation, str):
        return kind in getattr(annotation, "__args__", ())
    # Not evaluated: what it names may be imported for the type checker only.
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return any(_is_name_of(name, names, kind) for name in _DOTTED.findall(annotation))


def _is_name_of(dotted: str, names: dict[str, Any], kind: type) -> bool:
    if dotted.rpartition(".")[2] != kind.__name__:
        return False
    first, *others = dotted.split(".")
    if first not in names:
        return True
    value = names[first]
    for name in others:
        value = getattr(value, name, None)
    return value is kind

"""Which parameter of a function takes what the decorator gives."""

from __future__ import annotations

import ast
import inspect
from functools import partial
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Slot", "named", "of_type", "without"]


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
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some functions in C do not tell
        return []
    given = function.keywords if isinstance(function, partial) else {}
    return [one for one in found if one.name not in given]  # what is given is nobody's to fill


def _slot(parameter: inspect.Parameter, at: int) -> Slot:
    return Slot(parameter.name, None if parameter.kind is parameter.KEYWORD_ONLY else at)


def _is_annotated(function: Callable[..., Any], annotation: Any, kind: type) -> bool:
    """Tell whether an annotation is a type, the type or nothing, or the type with remarks."""
    if annotation is kind:
        return True
    if isinstance(annotation, str):
        # Not evaluated: what it names may be imported for the type checker only.
        inner = inspect.unwrap(function.func if isinstance(function, partial) else function)
        names = getattr(inner, "__globals__", {})
        return any(_is_name_of(name, names, kind) for name in _alternatives(annotation))
    origin = get_origin(annotation)
    if origin is Annotated:
        return get_args(annotation)[0] is kind
    return origin in (Union, UnionType) and kind in get_args(annotation)


def _alternatives(annotation: str) -> Iterator[str]:
    """Return the names of the types that an annotation allows: not those in a list or the like."""
    try:
        open_ = [ast.parse(annotation.strip(), mode="eval").body]
    except SyntaxError:
        return
    while open_:
        node = open_.pop()
        if isinstance(node, ast.Name | ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.BinOp):
            open_ += [node.left, node.right]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _alternatives(node.value)
        elif isinstance(node, ast.Subscript):
            outer = ast.unparse(node.value).rpartition(".")[2]
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if outer in ("Optional", "Union"):
                open_ += inner
            elif outer == "Annotated":
                open_ += inner[:1]


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

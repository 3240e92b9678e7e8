"""Specifications from plain data, and back: what `Spec.from_dict` and its like do.

The annotations of the fields are the schema. A table is read with the help of `_fitted`, one
value by one annotation, which knows how far down the document it is only as a dotted key.
Whether a value makes sense is for the specification's own checks; their messages are given the
dotted key, too.
"""

from __future__ import annotations

import builtins
import collections.abc
import os
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import IO, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from holdfast import errors
from holdfast.policy.specs import Spec

__all__ = ["from_dict", "from_toml", "to_dict"]

S = TypeVar("S", bound=Spec)

#: What an annotation asks for, in the words of who writes a file.
KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    type: "the name of an exception",
    frozenset: "a list",
    tuple: "a list",
    list: "a list",
    dict: "a table",
    collections.abc.Mapping: "a table",
    collections.abc.Callable: "a function, which only Python code can give",
    NoneType: "false",
}
LISTS = (frozenset, tuple, list)
#: What there is a way to write down.
PLAIN = (bool, int, float, str, type, Mapping, Spec, *LISTS)

# Modules of specifications may import these for the type checker only.
NAMES = {"Any": Any, "Callable": Callable, "Mapping": Mapping, "Sequence": Sequence}


def from_dict(kind: type[S], mapping: Mapping[str, Any], at: str = "") -> S:
    """Return the specification of that kind; see `Spec.from_dict`."""
    try:
        return _spec(kind, mapping, at)
    except _Unfit as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def from_toml(kind: type[S], source: str | os.PathLike[str] | IO[bytes], table: str = "") -> S:
    """Return the specification of that kind; see `Spec.from_toml`."""
    text, name = _read(source)
    where = f"{name}: " if name else ""
    try:
        found: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where}no valid TOML: {error}") from None
    for key in table.split(".") if table else ():
        if not isinstance(found, dict) or key not in found:
            raise ValueError(f"{where}{kind.__name__}: there is no table {table!r}")
        found = found[key]
    try:
        return from_dict(kind, found, table)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def to_dict(spec: Spec) -> dict[str, Any]:
    """Return the fields of a specification as plain data; see `Spec.to_dict`."""
    hints = _hints(type(spec))
    plain = {}
    for field in fields(cast("Any", spec)):
        value = getattr(spec, field.name)
        if value is None and _turned_off_by_false(hints[field.name]):
            plain[field.name] = False
        elif value is not field.default or isinstance(value, PLAIN):
            plain[field.name] = _plain(value)
        # Else it is a mark for "not given", which has no name in a file.
    return plain


class _Unfit(Exception):
    """What was read does not fit; the message begins with the dotted key."""


def _read(source: str | os.PathLike[str] | IO[bytes]) -> tuple[str, str]:
    """Return the text, and the name of the file that it is from."""
    if isinstance(source, str) and (not source or any(mark in source for mark in "\n=[#")):
        return source, ""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        with open(source, "rb") as file:
            data: bytes | str = file.read()
    else:
        name = str(getattr(source, "name", ""))
        data = source.read()
    try:
        return data.decode() if isinstance(data, bytes) else data, name
    except UnicodeDecodeError as error:
        raise ValueError(f"{name or 'TOML'}: no valid TOML: {error}") from None


def _hints(kind: type[Spec]) -> dict[str, Any]:
    """Return the annotation of each field."""
    hints = get_type_hints(kind, localns=NAMES)
    return {field.name: hints[field.name] for field in fields(cast("Any", kind))}


def _options(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one thing that the annotation is."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _turned_off_by_false(hint: Any) -> bool:
    """Tell whether False stands for None, because it is no value like others."""
    options = _options(hint)
    return NoneType in options and not any(one in (bool, Any, object) for one in options)


def _is_spec(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Spec)


def _spec(kind: type[S], value: Any, at: str) -> S:
    """Make a specification of a table."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _Unfit(f"{at or 'it'} must be a table, not {value!r}")
    hints = _hints(kind)
    for key in value:
        if key not in hints:
            raise _unknown(kind, key, value[key], at)
    for field in fields(cast("Any", kind)):
        bare = field.default is MISSING and field.default_factory is MISSING
        if bare and field.name not in value:
            raise _Unfit(f"{_dotted(at, field.name)} is missing")
    given = {key: _fitted(hints[key], one, _dotted(at, key)) for key, one in value.items()}
    try:
        return kind(**given)
    except ValueError as error:
        # A check of a field begins with the class and the field, another with the class alone.
        text = str(error).removeprefix(f"{kind.__name__}: ")
        if text.partition(" ")[0] in hints:
            raise _Unfit(_dotted(at, text)) from None
        raise _Unfit(f"{at}: {text}" if at else text) from None


def _dotted(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _unknown(kind: type[Spec], key: Any, value: object, at: str) -> _Unfit:
    """Say what the key may have meant: one of this table, or the same of a table below."""
    hints = _hints(kind)
    meant = [_dotted(at, name) for name in get_close_matches(str(key), hints)]
    if not meant:
        meant = [
            _dotted(_dotted(at, name), below)
            for name, hint in hints.items()
            for option in _options(hint)
            if _is_spec(option)
            for below in get_close_matches(str(key), _hints(option), 1)
        ]
    advice = f"did you mean {_either(meant)}?" if meant else f"there are {', '.join(hints)}"
    return _Unfit(f"{_dotted(at, str(key))} = {value!r} is an unknown key; {advice}")


def _either(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _fitted(hint: Any, value: Any, at: str) -> Any:
    """Make of a value what the annotation asks for."""
    options = _options(hint)
    if len(options) > 1:
        return _of_union(hint, options, value, at)
    if hint is Any or hint is object:
        return value
    if _is_spec(hint):
        return _spec(hint, {} if value is True else value, at)
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin is Literal:
        fits = any(type(value) is type(one) and value == one for one in arguments)
    elif origin is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif origin is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif origin in LISTS:
        return _collection(origin, arguments, value, at)
    elif origin is type:
        return _exception(value, at)
    elif origin in (dict, collections.abc.Mapping):
        if fits := isinstance(value, Mapping):
            one = arguments[1] if arguments else Any
            return {key: _fitted(one, item, _dotted(at, str(key))) for key, item in value.items()}
    else:
        fits = isinstance(value, origin)
    if not fits:
        raise _misfit(hint, value, at)
    return value


def _of_union(hint: Any, options: tuple[Any, ...], value: Any, at: str) -> Any:
    """Make of a value one of several things."""
    if value is False and _turned_off_by_false(hint):
        value = None
    if value is None and NoneType in options:
        return None
    options = tuple(option for option in options if option is not NoneType)
    if isinstance(value, Mapping):
        specs = [option for option in options if _is_spec(option)]
        # A table is what has all of its keys, or else, for the message, most of them.
        known = {spec: len(set(value) & set(_hints(spec))) for spec in specs}
        best = max(known.values(), default=0)
        options = tuple(spec for spec in specs if known[spec] == best) or options
    elif value is True and bool not in options:
        options = tuple(option for option in options if _is_spec(option))[:1] or options
    problem = None
    for option in options:
        try:
            return _fitted(option, value, at)
        except _Unfit as error:
            problem = problem or error
    # Of several kinds, none alone is what was asked for, unless the value shows which was meant.
    meant = isinstance(value, Mapping) or (
        isinstance(value, str) and any(get_origin(option) is type for option in options)
    )
    if problem is None or (len(options) > 1 and not meant):
        problem = _misfit(hint, value, at)
    raise problem


def _misfit(hint: Any, value: Any, at: str) -> _Unfit:
    kinds = []
    for option in _options(hint):
        origin = get_origin(option) or option
        if origin is Literal:
            kinds += [repr(one) for one in get_args(option)]
        elif _is_spec(option):
            kinds.append(KINDS[dict])
        else:
            kinds.append(KINDS.get(origin) or f"of type {getattr(origin, '__name__', origin)}")
    return _Unfit(f"{at} must be {_either(list(dict.fromkeys(kinds)))}, not {value!r}")


def _collection(kind: Any, arguments: tuple[Any, ...], value: Any, at: str) -> Any:
    """Make a list of some kind, whose items are all alike or are given one by one."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection):
        raise _Unfit(f"{at} must be {KINDS[kind]}, not {value!r}")
    items = list(value)
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(items) != len(arguments):
            raise _Unfit(f"{at} must be a list of {len(arguments)} values, not {value!r}")
        wanted = list(arguments)
    else:
        wanted = [arguments[0] if arguments else Any] * len(items)
    try:
        return kind(
            _fitted(one, item, f"{at}[{place}]")
            for place, (one, item) in enumerate(zip(wanted, items, strict=True))
        )
    except TypeError:  # what cannot be hashed is in no set
        raise _Unfit(f"{at} cannot hold all of {value!r}") from None


def _exception(value: Any, at: str) -> type[BaseException]:
    """Find the exception of that name among ours and Python's own."""
    found = _named(value) if isinstance(value, str) else value
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    meant = get_close_matches(value, _exceptions()) if isinstance(value, str) else []
    advice = f"; did you mean {_either(meant)}?" if meant else ""
    raise _Unfit(
        f"{at} must be the name of an exception, built in or of holdfast.errors, "
        f"not {value!r}{advice}"
    )


def _named(name: str) -> Any:
    return getattr(errors, name, None) or getattr(builtins, name, None)


@cache
def _exceptions() -> list[str]:
    places = [*vars(errors).items(), *vars(builtins).items()]
    return [
        name for name, one in places if isinstance(one, type) and issubclass(one, BaseException)
    ]


def _plain(value: Any) -> Any:
    """Return a value as plain data, as far as there is a way."""
    if isinstance(value, Spec):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(map(_plain, value), key=_place)
    if isinstance(value, type) and _named(value.__name__) is value:
        return value.__name__
    return value


def _place(item: Any) -> tuple[bool, float, str]:
    """Order the items of a set: numbers first, by size."""
    is_number = isinstance(item, (int, float))
    return not is_number, item if is_number else 0, str(item)

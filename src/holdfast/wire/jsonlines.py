r"""JSON values as lines: one value a line, UTF-8, ended by ``\n``.

orjson does the work wherever it is exact. It is not for whole numbers beyond 64 bits (which it
reads as floats, and does not write), for floats that are no numbers (which it writes as null), nor
for half surrogates, which Python has in the names of files; there the standard library takes over.
"""

from __future__ import annotations

import json
from enum import Enum
from math import isfinite
from typing import Any, TypeAlias
from uuid import UUID

import orjson

__all__ = ["DEPTH", "LineParser", "LineTooLong", "WireError", "decode", "encode"]

#: How deep arrays and objects may be nested: orjson writes 254 levels, the standard library as
#: many as fit on the stack.
DEPTH = 200

# What orjson would write in a form that only its users know.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

# 2**63 has 19 digits. Digits in a string or a fraction are found, too, which costs only time. To
# make all digits one and look for a row of them is many times quicker than a regular expression.
_DIGITS = bytes(48 if 48 <= byte <= 57 else byte for byte in range(256))
_HUGE = b"0" * 19

#: Bytes, in any of their forms.
Buffer: TypeAlias = bytes | bytearray | memoryview

_Nested: TypeAlias = dict[Any, Any] | list[Any] | tuple[Any, ...]


class WireError(ValueError):
    """The line is not one JSON value in UTF-8, or the value is none that JSON can carry."""


class LineTooLong(WireError):
    """A line is longer than its limit; ``lines`` are those that were complete before it."""

    def __init__(self, message: str, lines: list[bytes] | None = None) -> None:
        super().__init__(message)
        self.lines = lines or []


def encode(value: Any) -> bytes:
    r"""Return a value as one line, with its ``\n``.

    Raises WireError for what JSON cannot carry: NaN and infinities, other objects than those of
    JSON, cycles, and more than `DEPTH` levels. Tuples become arrays, numbers and None as keys
    become strings, UUIDs strings, and enums their values.
    """
    try:
        line = orjson.dumps(value, None, orjson.OPT_APPEND_NEWLINE | _OPTIONS)
    except TypeError:
        return _encode_slowly(value)
    # Either may be harmless. To look is quick, and it is seldom there.
    if b"null" in line:
        _refuse_endless(value)
    if line.count(b"[") + line.count(b"{") > DEPTH:
        _refuse_depth(value)
    return line


def decode(line: Buffer) -> Any:
    """Return the value that a line is, with or without its end.

    Raises WireError for what is not one JSON value in UTF-8, or has more than `DEPTH` levels.
    """
    data = bytes(line) if isinstance(line, memoryview) else line
    try:
        value = orjson.loads(data) if _HUGE not in data.translate(_DIGITS) else _decode_slowly(data)
    except orjson.JSONDecodeError as error:
        if b"\\u" not in data:
            raise WireError(f"not JSON: {error}") from None
        value = _decode_slowly(data)
    if data.count(b"[") + data.count(b"{") > DEPTH:
        _refuse_depth(value)
    return value


class LineParser:
    r"""Takes bytes apart into lines, however they are cut into pieces.

    ``limit``: how many bytes a line may have, without its ``\n``.
    """

    __slots__ = ("_broken", "held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: The beginning of a line whose end has not come.
        self.held = bytearray()
        self._broken = False

    def __repr__(self) -> str:
        return f"<LineParser {len(self.held)} of {self.limit} bytes held>"

    def feed(self, data: Buffer) -> list[bytes]:
        """Return the lines that a piece completes; raises LineTooLong, then and ever after."""
        if self._broken:
            raise LineTooLong(f"a line is longer than {self.limit} bytes")
        piece = bytes(data)
        held = self.held
        if b"\n" not in piece:
            held += piece
            lines = []
        else:
            lines = piece.split(b"\n")
            if held:
                lines[0] = bytes(held + lines[0])
                held.clear()
            held += lines.pop()
            # The sum is a bound: mostly there is one line, or many short ones.
            if len(piece) > self.limit or len(lines[0]) > self.limit:
                for index, line in enumerate(lines):
                    if len(line) > self.limit:
                        self._refuse(lines[:index])
        if len(held) > self.limit:
            self._refuse(lines)
        return lines

    def _refuse(self, lines: list[bytes]) -> None:
        self._broken = True
        self.held = bytearray()
        raise LineTooLong(f"a line is longer than {self.limit} bytes", lines)


def _encode_slowly(value: Any) -> bytes:
    """Encode what orjson refuses, such as whole numbers of any size."""
    try:
        _refuse_depth(value)
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
        )
        try:
            return text.encode() + b"\n"
        except UnicodeEncodeError:  # half a surrogate pair, which has to be escaped
            text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=_plain)
            return text.encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"not a value that JSON can carry: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"an object of type {type(value).__name__}")


def _decode_slowly(data: bytes | bytearray) -> Any:
    try:
        # The text, because of bytes the standard library would guess the encoding.
        return json.loads(data.decode(), parse_constant=_refuse_constant, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("the number is too large")
    return number


def _refuse_endless(value: Any) -> None:
    """Raise WireError for NaN and infinities, which orjson writes as null."""
    left = [value]
    while left:
        one = left.pop()
        if one.__class__ is float:
            if not isfinite(one):
                raise WireError(f"not a value that JSON can carry: {one!r}")
        elif isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, (list, tuple)):
            left.extend(one)
        elif isinstance(one, Enum):
            left.append(one.value)


def _refuse_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(DEPTH + 1):
        nested: list[_Nested] = [one for one in level if isinstance(one, (dict, list, tuple))]
        if not nested:
            return
        # A value that stands in two places is visited once: it could be there 2**200 times.
        distinct = {id(one): one for one in nested}.values()
        level = [
            part for one in distinct for part in (one.values() if isinstance(one, dict) else one)
        ]
    raise WireError(f"not a value that JSON can carry: nested deeper than {DEPTH} levels")

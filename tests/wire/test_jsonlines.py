from __future__ import annotations

import json
from collections import OrderedDict
from datetime import date
from enum import Enum
from math import inf, nan
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire.jsonlines import DEPTH, LineParser, LineTooLong, WireError, decode, encode

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters()),  # half surrogates, too
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Colour(Enum):
    RED = "red"
    VOID = nan


class Point(NamedTuple):
    x: int
    y: int


@given(VALUES)
def test_values_come_back(value: Any) -> None:
    """What was encoded is decoded as it was, on one line."""
    line = encode(value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == value
    assert json.loads(line) == value


@pytest.mark.parametrize(
    "number",
    [2**63, -(2**63) - 1, 2**64 - 1, 2**64, 10**18, 10**19, -(10**300), 2**53 + 1],
)
def test_whole_numbers_are_exact(number: int) -> None:
    """Whole numbers of any size are themselves afterwards, not floats."""
    for value in (number, [number], {"a": {"b": [number, 0.5]}}):
        assert decode(encode(value)) == value
        assert repr(decode(encode(value))) == repr(value)


def test_half_a_surrogate_pair_survives() -> None:
    """The name of a file that is no UTF-8 comes back as Python has it."""
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert decode(encode({name: [name]})) == {name: [name]}
    assert encode(name).isascii()


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ((1, 2), b"[1,2]\n"),
        (Point(1, 2), b"[1,2]\n"),
        ({2: 2, None: 3, True: 4, 0.5: 5}, b'{"2":2,"null":3,"true":4,"0.5":5}\n'),
        (OrderedDict(a=1), b'{"a":1}\n'),
        (Colour.RED, b'"red"\n'),
        ([2**70, Colour.RED], b'[1180591620717411303424,"red"]\n'),
        (UUID(int=0), b'"00000000-0000-0000-0000-000000000000"\n'),
        (
            [2**70, UUID(int=0)],
            b'[1180591620717411303424,"00000000-0000-0000-0000-000000000000"]\n',
        ),
        ("Ω\u2028\n\0", '"Ω\u2028\\n\\u0000"\n'.encode()),
        (None, b"null\n"),
    ],
)
def test_what_json_has_no_word_for(value: Any, line: bytes) -> None:
    """Tuples, odd keys, enums and UUIDs are written as what comes nearest."""
    assert encode(value) == line


@pytest.mark.parametrize(
    "value",
    [
        nan,
        inf,
        [None, -inf],
        {"a": [{"b": nan}]},
        (nan,),
        [2**70, nan],
        Colour.VOID,
        date(2000, 1, 1),
        b"bytes",
        {1, 2},
        object(),
        [2**70, object()],
        {(1, 2): 3},
    ],
)
def test_what_json_cannot_carry(value: Any) -> None:
    """A value that JSON cannot carry is refused, and not written as something else."""
    with pytest.raises(WireError, match="JSON can carry"):
        encode(value)


def test_a_cycle_is_refused() -> None:
    """A value that holds itself is refused."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(WireError):
        encode(value)


@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("more", [1, 60, 900, 100_000])
def test_depth_has_a_limit(brackets: tuple[bytes, bytes], more: int) -> None:
    """Nesting is allowed up to a limit, and refused above it, however deep it is."""
    left, right = brackets
    deepest = left * DEPTH + b"1" + right * DEPTH
    value = decode(deepest)
    assert encode(value).replace(b" ", b"") == deepest + b"\n"
    with pytest.raises(WireError):
        decode(left * (DEPTH + more) + b"1" + right * (DEPTH + more))
    with pytest.raises(WireError):
        encode([value])
    assert decode(encode([value[0] if isinstance(value, list) else value["a"]] * 3))


def test_shared_parts_are_no_depth() -> None:
    """A value that stands in many places is looked at once."""
    value: Any = []
    for _ in range(16):
        value = [value, value]
    assert len(encode(value)) > 1 << 16


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"nonsense",
        b"{",
        b'{"a":}',
        b"1 2",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b'"\\ud800" NaN',
        b"[1e999, 99999999999999999999]",
        b"1e999",
        b"'single'",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"\xff\xfe1\x00",
        b"\xef\xbb\xbf1",
        b"9" * 5000,
        b'"\x01"',
        b"01",
        b"nan",
    ],
)
def test_what_is_no_json(line: bytes) -> None:
    """What is not one JSON value in UTF-8 is refused."""
    with pytest.raises(WireError, match="not JSON"):
        decode(line)


@given(st.binary(max_size=200))
def test_rubbish_is_refused_in_one_way(line: bytes) -> None:
    """Whatever bytes come, the only exception is WireError."""
    try:
        value = decode(line)
    except WireError:
        return
    assert decode(encode(value)) == value


@given(
    st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=8),
    st.binary(max_size=10).map(lambda line: line.replace(b"\n", b"")),
    st.data(),
)
def test_lines_however_they_are_cut(lines: list[bytes], rest: bytes, data: st.DataObject) -> None:
    """Lines come out whole, wherever the stream is cut into pieces."""
    stream = b"".join(line + b"\n" for line in lines) + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    parser = LineParser(30)
    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += parser.feed(memoryview(stream)[start:end])
    assert found == lines
    assert bytes(parser.held) == rest


@given(st.integers(1, 40), st.integers(0, 3), st.data())
def test_the_limit_however_it_is_cut(length: int, before: int, data: st.DataObject) -> None:
    """A line above the limit is refused, wherever it is cut; those before it are there."""
    limit = 20
    stream = b"abc\n" * before + b"x" * length + b"\nnext\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parser = LineParser(limit)
    found: list[bytes] = []
    refused = False
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        try:
            found += parser.feed(stream[start:end])
        except LineTooLong as error:
            refused = True
            found += error.lines
    assert refused == (length > limit)
    if refused:
        assert found == [b"abc"] * before
        with pytest.raises(LineTooLong):
            parser.feed(b"\n")
        assert not parser.held
    else:
        assert found == [b"abc"] * before + [b"x" * length, b"next"]


def test_a_line_without_an_end_is_refused_early() -> None:
    """No more than the limit is held, even if the end of the line never comes."""
    parser = LineParser(1 << 16)
    assert parser.feed(b"x" * (1 << 16)) == []
    with pytest.raises(LineTooLong, match="65536 bytes"):
        parser.feed(b"x")
    assert repr(parser) == "<LineParser 0 of 65536 bytes held>"


def test_lines_of_64_kib() -> None:
    """A line as long as the limit comes through in many pieces."""
    line = encode("Ω" * ((1 << 15) - 1))[:-1]
    assert len(line) == 1 << 16
    parser = LineParser(1 << 16)
    stream = (line + b"\n") * 3
    found = []
    for start in range(0, len(stream), 1000):
        found += parser.feed(stream[start : start + 1000])
    assert found == [line] * 3

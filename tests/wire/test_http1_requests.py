"""Strings become bytes of a request that mean what was said, or are refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.wire.http1 import (
    LAST_CHUNK,
    WireError,
    encode_chunk,
    encode_headers,
    encode_method,
    encode_target,
)
from tests.servers.messages import PeerClosed, RequestReader

text = st.one_of(st.text(max_size=30), st.text("a:/ \t\r\n\0\x0b\x0c\x1c\x85\u2028é☃", max_size=12))


@given(text)
@example("GET\n")
@example("GET / HTTP/1.1\r\nX")
@example("")
def test_a_method_is_one_token(method: str) -> None:
    """Any string is refused, or is a method and nothing else."""
    try:
        encoded = encode_method(method)
    except WireError:
        return
    assert encoded == method.encode("ascii")
    assert encoded
    assert not set(encoded) & set(b'\r\n\0 \t:/()<>@,;\\"[]?={}')


@given(text)
@example("/ HTTP/1.1")
@example("/\n")
@example("/\x7f")
@example("/ü")
def test_a_target_is_one_word(target: str) -> None:
    """Any string is refused, or is a target and nothing else."""
    try:
        encoded = encode_target(target)
    except WireError:
        return
    assert encoded.decode("ascii") == target
    assert all(0x21 <= byte <= 0x7E for byte in encoded)
    assert encoded


@given(text, text)
@example("X", "a\r\nY: b")
@example("X", "a\n")
@example("X\n", "a")
@example("X: y\r\nZ", "a")
@example("X", "\x85")
@example("X ", "a")
@example("", "a")
@example("X", "☃")
def test_a_header_is_one_line(name: str, value: str) -> None:
    """Any name and value are refused, or are one line that says just that."""
    try:
        encoded = encode_headers([(name, value)])
    except WireError:
        return
    assert encoded.endswith(b"\r\n")
    line = encoded[:-2]
    assert not set(line) & set(b"\r\n\0")
    assert line.decode("latin-1") == f"{name}: {value}"
    assert name


@given(
    st.lists(st.tuples(st.text("abcX-_", min_size=1), st.text("abc é\t", max_size=10)), max_size=5)
)
def test_a_server_reads_the_same_headers(headers: list[tuple[str, str]]) -> None:
    """What is accepted arrives as it was given, but for white space around it."""
    data = b"GET / HTTP/1.1\r\n" + encode_headers(headers) + b"\r\n"
    pieces = iter([data])
    reader = RequestReader(lambda size: next(pieces, b""))
    assert reader.head().headers == [(name, value.strip(" \t")) for name, value in headers]


def test_a_secret_is_not_in_the_error() -> None:
    """A refused value may be a password: it is not repeated."""
    with pytest.raises(WireError) as caught:
        encode_headers([("Authorization", "Bearer s3cret\n")])
    assert "Authorization" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@given(st.lists(st.binary(max_size=100), max_size=6))
def test_chunks_are_read_by_a_server(pieces: list[bytes]) -> None:
    """A body in chunks arrives whole; an empty piece does not end it."""
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(bytes(encode_chunk(memoryview(piece))) for piece in pieces) + LAST_CHUNK
    data = iter([head + body])

    def receive(size: int) -> bytes:
        return next(data, b"")

    reader = RequestReader(receive)
    assert reader.request().body == b"".join(pieces)
    with pytest.raises(PeerClosed):
        reader.head()

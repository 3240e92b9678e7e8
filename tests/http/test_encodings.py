"""Content codings, piece by piece."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import pairwise

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import DecodingError, TooLarge
from holdfast.http.encodings import ACCEPTED, decoder


def _deflate(data: bytes) -> bytes:
    return zlib.compress(data)


def _raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def _br(data: bytes) -> bytes:
    return brotli.compress(data, quality=3)  # type: ignore[no-any-return]


def _zstd(data: bytes) -> bytes:
    return zstandard.compress(data)


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", _deflate),
    "raw deflate": ("deflate", _raw_deflate),
    "br": ("br", _br),
    "zstd": ("zstd", _zstd),
}
encoders = st.sampled_from(sorted(ENCODERS))


def decoded(coding: str, pieces: list[bytes], limit: int | None = None) -> bytes:
    """Decode a body that comes in pieces."""
    one = decoder(coding, limit)
    assert one is not None
    body = b"".join(decoded for piece in pieces for decoded in one.decode(piece))
    one.finish()
    return body


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes into pieces, empty ones among them."""
    places = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def text(size: int) -> bytes:
    """Return bytes that can be compressed, but not to nothing."""
    return bytes(random.Random(size).choices(b"abcdefgh", k=size))


@given(encoders, st.binary(max_size=500), st.lists(st.integers(0, 600), max_size=6))
def test_any_body_in_any_pieces(name: str, body: bytes, cuts: list[int]) -> None:
    """What was encoded is decoded, wherever it is cut."""
    coding, encode = ENCODERS[name]
    assert decoded(coding, cut(encode(body), cuts)) == body
    assert decoded(coding, cut(encode(body), cuts), limit=len(body)) == body


@given(st.lists(encoders, min_size=2, max_size=4), st.binary(max_size=300))
@settings(max_examples=50)
def test_codings_in_a_row(names: list[str], body: bytes) -> None:
    """Several codings are undone from the last to the first."""
    data = body
    for name in names:
        data = ENCODERS[name][1](data)
    coding = ", ".join(ENCODERS[name][0] for name in names)
    assert decoded(coding, [data[:7], data[7:]]) == body


@pytest.mark.parametrize("name", ENCODERS)
def test_a_large_body(name: str) -> None:
    """Bodies larger than every buffer are decoded, with and without a limit."""
    coding, encode = ENCODERS[name]
    body = text(600_000)
    data = encode(body)
    pieces = [data[i : i + 65_536] for i in range(0, len(data), 65_536)]
    assert decoded(coding, pieces) == body
    assert decoded(coding, pieces, limit=len(body)) == body
    assert decoded(f"{coding}, gzip", [gzip.compress(data)], limit=len(body)) == body
    with pytest.raises(TooLarge, match=str(len(body) - 1)):
        decoded(coding, pieces, limit=len(body) - 1)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_truncated_body(name: str) -> None:
    """Wherever a body ends too early, that is an error and not a shorter body."""
    coding, encode = ENCODERS[name]
    data = encode(text(200))
    for size in range(1, len(data)):
        with pytest.raises(DecodingError):
            decoded(coding, [data[:size]])


@pytest.mark.parametrize("name", ENCODERS)
def test_an_empty_body(name: str) -> None:
    """No bytes at all are no bytes, as in the answer to HEAD."""
    coding, encode = ENCODERS[name]
    assert decoded(coding, []) == b""
    assert decoded(coding, [b"", b""]) == b""
    assert decoded(coding, [encode(b"")]) == b""
    assert decoded(f"{coding}, {coding}", []) == b""


@given(encoders, st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
@settings(max_examples=200)
def test_garbage(name: str, data: bytes, cuts: list[int]) -> None:
    """Arbitrary bytes raise nothing but an error of ours."""
    for limit in (None, 1000):
        try:
            decoded(ENCODERS[name][0], cut(data, cuts), limit)
        except (DecodingError, TooLarge):
            pass


@given(encoders, st.binary(min_size=20, max_size=200), st.data())
@settings(max_examples=200)
def test_damage(name: str, body: bytes, data: st.DataObject) -> None:
    """A changed byte raises nothing but an error of ours; gzip and zlib notice every one."""
    coding, encode = ENCODERS[name]
    encoded = bytearray(encode(body))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        result = decoded(coding, [bytes(encoded)])
    except DecodingError:
        return
    if coding == "gzip" and place > 9:
        assert result == body


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_in_a_row(name: str) -> None:
    """Members of gzip and zstd frames may follow one another, cut anywhere."""
    coding, encode = ENCODERS[name]
    data = encode(b"one") + encode(b"") + encode(b"two")
    for size in range(len(data)):
        assert decoded(coding, [data[:size], data[size:]]) == b"onetwo"
    with pytest.raises(DecodingError):
        decoded(coding, [data[:-1]])


def test_padding_after_gzip() -> None:
    """Zeros after the last member are padding, other bytes are damage."""
    data = gzip.compress(b"one")
    assert decoded("gzip", [data, b"\0" * 10, b"\0"]) == b"one"
    with pytest.raises(DecodingError):
        decoded("gzip", [data + b"x"])


def test_no_coding() -> None:
    """Nothing to decode is no decoder."""
    for coding in ("", "identity", " , identity,", "IDENTITY"):
        assert decoder(coding) is None


def test_codings_in_capitals() -> None:
    """Names of codings have no case."""
    assert decoded("GZip", [gzip.compress(b"x")]) == b"x"
    assert decoded("identity, gzip ,", [gzip.compress(b"x")]) == b"x"


@pytest.mark.parametrize("coding", ["compress", "gzip, x-riddle", "x" * 1000, "gzip;q=1"])
def test_unknown_codings(coding: str) -> None:
    """A coding that is not known is an error that names it, within reason."""
    with pytest.raises(DecodingError) as caught:
        decoder(coding)
    assert len(str(caught.value)) < 200


def test_too_many_codings() -> None:
    """A chain without end is refused."""
    with pytest.raises(DecodingError, match="four"):
        decoder("gzip," * 5)


def test_what_is_accepted() -> None:
    """Everything that is offered can be decoded."""
    for coding in ACCEPTED.split(", "):
        assert decoder(coding) is not None
    assert {"gzip", "deflate", "br", "zstd"} == set(ACCEPTED.split(", "))


BOMB = 1 << 26


def _bombs() -> dict[str, tuple[str, bytes]]:
    zeros = bytes(1 << 20)
    packer = zlib.compressobj(9, wbits=31)
    gzipped = b"".join([packer.compress(zeros) for _ in range(BOMB >> 20)]) + packer.flush()
    deflater = zlib.compressobj(9)
    deflated = b"".join([deflater.compress(zeros) for _ in range(BOMB >> 20)]) + deflater.flush()
    broth = brotli.Compressor(quality=5, lgwin=24)
    brotlied = b"".join([broth.process(zeros) for _ in range(BOMB >> 20)]) + broth.finish()
    frame = zstandard.ZstdCompressor(level=3).compressobj()
    zstded = b"".join([frame.compress(zeros) for _ in range(BOMB >> 20)]) + frame.flush()
    return {
        "gzip": ("gzip", gzipped),
        "deflate": ("deflate", deflated),
        "br": ("br", brotlied),
        "zstd": ("zstd", zstded),
        "gzip in gzip": ("gzip, gzip", gzip.compress(gzipped)),
        "br in gzip": ("br, gzip", gzip.compress(brotlied)),
        "zstd in br": ("zstd, br", brotli.compress(zstded, quality=3)),
    }


@pytest.fixture(scope="module")
def bombs() -> dict[str, tuple[str, bytes]]:
    """Small bodies that decode to 64 MiB."""
    return _bombs()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gzip", "deflate", "br", "zstd", "gzip in gzip", "br in gzip", "zstd in br"]
)
def test_bombs(name: str, bombs: dict[str, tuple[str, bytes]]) -> None:
    """With a limit, memory is bounded by it and not by what a few bytes can decode to."""
    coding, data = bombs[name]
    assert len(data) < BOMB / 500
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="1000000"):
            decoded(coding, [data], limit=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_a_zstd_window_has_a_limit() -> None:
    """A frame cannot ask for more than 8 MiB of memory (RFC 9659)."""
    parameters = zstandard.ZstdCompressionParameters(window_log=26)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = frame.compress(b"x" * 1000) + frame.flush()
    with pytest.raises(DecodingError):
        decoded("zstd", [data])

"""A block that falls out of the cache leaves its memory to the next one, if nobody can tell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.blocks import reuse
from holdfast.blocks.cache import MemoryCache
from holdfast.blocks.diskcache import DiskCache
from holdfast.blocks.receiving import Room
from holdfast.blocks.reuse import memory_of

SIZE = 5000

cpython = pytest.mark.skipif(
    sys.implementation.name != "cpython",
    reason="only of CPython is known where bytes have their hash",
)


def written(room: Room, data: bytes) -> bytes:
    """Write a block over what was there."""
    room.view[: len(data)] = data
    return room.taken(len(data))


@cpython
@pytest.mark.parametrize("less", [0, 1, SIZE])
def test_memory_is_used_again(less: int) -> None:
    """What is written there is a block like any other, of its own size and with its own hash."""
    blocks = {"a": os.urandom(SIZE)}
    where = id(blocks["a"])
    memory = memory_of(blocks, "a")
    assert blocks == {}
    data = os.urandom(SIZE - less)
    block = written(Room(SIZE, memory), data)
    assert block == data
    assert hash(block) == hash(data)
    assert less or id(block) == where


def test_what_somebody_has_stays() -> None:
    """Bytes that anybody else refers to do not change, nor does a view of them."""
    blocks = {"a": os.urandom(SIZE), "b": os.urandom(SIZE)}
    kept, view = blocks["a"], memoryview(blocks["b"])
    assert memory_of(blocks, "a") is None
    assert memory_of(blocks, "b") is None
    assert blocks == {"a": kept, "b": bytes(view)}


def test_what_may_have_a_hash_stays() -> None:
    """Bytes keep their hash, and would tell it of what is written there."""
    blocks = {"a": os.urandom(SIZE)}
    hash(blocks["a"])
    assert memory_of(blocks, "a") is None
    assert "a" in blocks


@pytest.fixture
def unknown() -> Iterator[None]:
    """Forget where the hash is, before and after."""
    reuse._hash_at.cache_clear()
    yield
    reuse._hash_at.cache_clear()


@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize("found", [-1, 7])
def test_bytes_of_another_kind(monkeypatch: pytest.MonkeyPatch, found: int) -> None:
    """Where the hash is not where it is looked for, nothing is used again."""
    monkeypatch.setattr(reuse, "_number_at", lambda data, at: found)
    assert reuse._hash_at() is None
    blocks = {"a": os.urandom(SIZE)}
    assert memory_of(blocks, "a") is None
    assert "a" in blocks


# The cache.


@cpython
def test_a_full_cache() -> None:
    """It gives the memory of what would go next, and of nothing else."""
    cache = MemoryCache(4 * SIZE, 3)
    assert cache.reclaim(SIZE) is None
    for name in "abc":
        assert cache.reclaim(SIZE) is None
        cache.set(name, os.urandom(SIZE))
    assert cache.reclaim(SIZE - 1) is None
    cache.get("a")
    assert cache.reclaim(SIZE) is not None
    assert ["b" in cache, len(cache), cache._held] == [False, 2, 2 * SIZE]
    assert cache.reclaim(SIZE) is None  # there is room now
    assert cache.get("a") is not None


@cpython
def test_too_many_bytes() -> None:
    """It gives memory where there are slots, but not as many bytes, and none of another size."""
    cache = MemoryCache(4 * SIZE, 9)
    cache.set("a", os.urandom(SIZE))
    cache.set("b", os.urandom(2 * SIZE))
    assert cache.reclaim(SIZE) is None
    cache.set("c", os.urandom(SIZE))
    assert cache.reclaim(SIZE) is not None
    assert cache.reclaim(2 * SIZE) is not None
    assert [len(cache), cache._held] == [1, SIZE]


def test_on_disk(tmp_path: Path) -> None:
    """What is on disk has no memory."""
    assert DiskCache(tmp_path).reclaim(SIZE) is None

"""The memory of a block that is to come, and the thread that hashes it."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
from queue import SimpleQueue

import pytest

from holdfast import ops
from holdfast.blocks import pages, receiving
from holdfast.blocks.receiving import LARGE, PAGE, Hashing, Room
from holdfast.drivers import blocking


def wait_for(hashing: Hashing) -> None:
    """Wait until a hash is over."""

    def program() -> ops.Program[None]:
        yield ops.Wait(hashing.over, time.monotonic() + 30)

    blocking.run(program())


@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, 3 * PAGE + 5])
def test_room(size: int) -> None:
    """What is written there is the block, however much there could have been."""
    data = os.urandom(size)
    room = Room(size + 3)
    room.view[:size] = data
    assert room.taken(size) == data


@pytest.mark.parametrize("size", [1, PAGE, 2 * receiving.READY + 7])
def test_memory_is_given_out_before(size: int) -> None:
    """What has come meanwhile stays as it is."""
    data = os.urandom(size)
    room = Room(size)
    hashing = Hashing(room)
    room.view[:] = data
    hashing.feed(room.view[:])
    hashing.close()
    wait_for(hashing)
    assert hashing.digest.digest() == hashlib.md5(data).digest()
    assert room.taken(size) == data


def test_only_new_memory_is_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of another block is there already."""
    given: SimpleQueue[int] = SimpleQueue()
    monkeypatch.setattr(receiving, "give_out", lambda page: given.put(len(page)))
    new = Hashing(Room(LARGE))
    assert given.get(timeout=30) == LARGE
    reused = Hashing(Room(LARGE, io.BytesIO(bytes(LARGE))))
    for hashing in (new, reused):
        hashing.close()
        wait_for(hashing)
    assert given.empty()


def test_a_thread_that_fails_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever for a hash that does not come."""
    monkeypatch.setattr(receiving, "give_out", lambda _: 1 // 0)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    hashing = Hashing(Room(LARGE))
    wait_for(hashing)
    assert hashing.digest.digest() == hashlib.md5(b"").digest()


@pytest.mark.parametrize("size", [1, 4096, 5 * PAGE])
def test_what_is_in_a_buffer_stays(size: int) -> None:
    """Advice on memory is no more than advice."""
    data = os.urandom(size)
    buffer = memoryview(bytearray(data))
    pages.in_large_pages(buffer)
    pages.give_out(buffer)
    assert buffer == data


def test_without_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system takes none, memory comes as it is touched."""
    monkeypatch.setattr(pages, "_madvise", lambda: None)
    assert not pages.give_out(memoryview(bytearray(PAGE)))
    test_memory_is_given_out_before(3 * PAGE)

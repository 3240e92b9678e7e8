"""Copies are counted, checked and restored; and services tell how they are."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.blocks.client import KeepClient
from holdfast.blocks.errors import KeepWriteError
from holdfast.blocks.files import Copy, loading, verifying
from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.memory import MemoryVolume
from holdfast.simulation import Asked, Reply
from tests.blocks.client.clients import locator
from tests.blocks.client.stubs import Stubs
from tests.blocks.files.conftest import Store, Tree
from tests.blocks.server.services import QUIET, SYSTEM, Process, md5, running

Write = Callable[[Tree], Path]

A, B, C = b"a" * 1000, b"b" * 1000, b"c" * 700


@pytest.fixture
def put(store: Store, write: Write) -> Any:
    """Store three files of a block each, with two copies."""
    return store.put(f"{write({'a': A, 'b': B, 'sub/c': C})}/", copies=2)


def kinds(verified: Any, kind: Copy) -> int:
    """Return how many copies of a kind were found."""
    return sum(counts[kind] for counts in verified.services.values())


def test_all_well(store: Store, kind: str, put: Any) -> None:
    """With enough good copies all is well, and more than enough are no fault."""
    store.kind = kind
    verified = store.verify(put.locator, 2)
    assert verified.ok
    assert (verified.files, verified.blocks, verified.missing) == (3, 4, 0)
    assert (kinds(verified, Copy.GOOD), kinds(verified, Copy.ABSENT)) == (8, 4)
    assert store.verify(put.locator, 1).ok
    assert not store.verify(put.locator, 3).ok


def test_missing_and_corrupt(store: Store, put: Any) -> None:
    """Missing and corrupt copies are found, and restored where asked, in order."""
    first, second = store.copies(locator(A))
    store.remove(first, locator(A))
    damaged = store.copies(locator(B))[0]
    store.damage(damaged, locator(B))
    for number in store.copies(locator(C)):
        store.remove(number, locator(C))
    verified = store.verify(put.locator)
    assert not verified.ok
    assert {block.locator: block.good for block in verified.bad} == {
        locator(A): 1,
        locator(B): 1,
        locator(C): 0,
    }
    assert verified.missing == 4
    assert verified.lost == ["sub/c"]
    assert (kinds(verified, Copy.CORRUPT), kinds(verified, Copy.GOOD)) == (1, 4)
    assert store.copies(locator(A)) == [second]  # nothing was changed
    verified = store.verify(put.locator, repair=True)
    assert verified.repaired == 2
    assert [block.locator for block in verified.bad] == [locator(C)]
    assert sorted(store.copies(locator(A))) == sorted([first, second])
    assert store.volume(damaged).peek(md5(B), 10_000) == B
    # What nobody has, only its owner can bring back.
    store.services[0].put(C)
    assert store.verify(put.locator, repair=True).ok
    assert store.verify(put.locator).ok


def test_corrupt_beyond_the_wanted(store: Store, put: Any) -> None:
    """A corrupt copy is a fault, and replaced, however many good ones there are."""
    store.damage(store.copies(locator(A))[0], locator(A))
    verified = store.verify(put.locator, 1)
    assert not verified.ok
    assert verified.missing == 0
    assert store.verify(put.locator, 1, repair=True).ok


def test_large_corrupt_block(store: Store, write: Write) -> None:
    """A block whose corruption shows only at its end is told from a broken connection."""
    data = os.urandom(3_000_000)
    put = store.put(f"{write({'a': data})}/", block_size=len(data))
    damaged = store.copies(locator(data))[0]
    store.damage(damaged, locator(data))
    verified = store.verify(put.locator, repair=True)
    assert verified.ok
    assert verified.repaired == 1
    assert store.verify(put.locator).ok


def test_one_service_by_two_names(
    store: Store, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that is listed twice has one copy, not two."""
    first, second = store.services[:2]

    class Again:
        url = first.url.replace("127.0.0.1", "localhost")
        service = first.service

    root = write({"a": A})
    put = None
    for other in (first, Again()):
        few = Store([first, other])  # type: ignore[list-item]
        with pytest.raises(KeepWriteError, match="wanted 2 copies but wrote 1"):
            few.put(f"{root}/")
        put = few.put(f"{root}/", copies=1)
        # The same URL twice is no more than a repetition.
        assert ("are one service" in caplog.text) is (other is not first)
        verified = few.verify(put.locator, 2)
        assert (verified.ok, verified.missing) == (False, 2)
        caplog.clear()
    assert put is not None
    three: list[Any] = [first, Again(), second]
    verified = Store(three).verify(put.locator, 2, repair=True)
    assert (verified.ok, verified.repaired) == (True, 2)
    assert len(store.copies(locator(A))) == 2


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse manifests without a thread, of which virtual time does not know."""

    def at_once(function: Any, *arguments: Any) -> Any:
        yield from ()
        return function(*arguments)

    monkeypatch.setattr(loading, "on_thread", at_once)


@pytest.mark.usefixtures("unhurried")
def test_asked_again(stubs: Stubs) -> None:
    """A service that fails once is asked again before anything is written elsewhere."""
    first, second, _ = stubs.order(md5(A))
    text = f". {stubs.put(A, first, second)} 0:1000:a\n".encode()
    name = stubs.put(text)

    def busy_once(asked: Asked) -> Reply:
        if not asked.target.startswith(f"/{md5(A)}"):
            return second.usual(asked)
        second.always = None
        return Reply(503, b"busy")

    second.always = busy_once
    with KeepClient(stubs.api, proxy="", driver=stubs.world, num_retries=1) as client:
        program = verifying.verify(client, name, 2, True, 1, None)
        verified = stubs.world.run(program)
    assert (verified.ok, verified.repaired) == (True, 0)
    assert 0 < stubs.world.now <= 2


@pytest.mark.usefixtures("unhurried")
def test_silent_service(stubs: Stubs) -> None:
    """A service that does not answer is not waited for with every block."""
    blocks = [b"%d" % number * 100 for number in range(5)]
    names = [stubs.put(block) for block in blocks]
    name = stubs.put(f". {' '.join(names)} 0:500:a\n".encode())
    stubs.services[0].always = TimeoutError
    with KeepClient(stubs.api, proxy="", driver=stubs.world) as client:
        program = verifying.verify(client, name, 2, False, 1, None)
        verified = stubs.world.run(program)
    assert kinds(verified, Copy.UNKNOWN) == 6
    assert verified.ok
    # It was waited for when the manifest was read, for its volumes, and for one block.
    assert stubs.world.now <= 3 * 256


@pytest.mark.slow
def test_service_gone(tmp_path: Path, write: Write) -> None:
    """With a service killed everything is read, verified as too few, and repaired elsewhere."""
    data = os.urandom(2500)
    services: list[Any] = [
        Process("--data", tmp_path / str(number), "--port", "0", "--no-fsync")
        for number in range(3)
    ]
    try:
        store = Store(services)
        put = store.put(f"{write({'a': data})}/", copies=2)
        services[0].kill()
        got = store.get(put.locator, tmp_path / "back")
        assert (tmp_path / "back/a").read_bytes() == data
        assert got.size == 2500
        verified = store.verify(put.locator)
        assert kinds(verified, Copy.UNKNOWN) == 4
        assert all("connection refused" in "".join(one.errors.values()) for one in verified.bad)
        verified = store.verify(put.locator, repair=True)
        assert verified.ok
        (down, *up) = store.call("status")
        assert down.error
        assert [one.error for one in up] == [None, None]
        # And new files find room on the others.
        assert store.put(f"{write({'b': b'new'})}/", copies=2).files == 2
    finally:
        for service in services:
            service.stop()


def test_read_only(write: Write) -> None:
    """Nothing is repaired on a service that takes nothing, but its copies count."""
    data = b"d" * 500
    full = MemoryVolume(capacity=0)
    full.put(md5(data), data)
    with running([MemoryVolume()]) as first, running([full]) as second:
        store = Store([first, second])
        put = store.put(f"{write({'a': data})}/", copies=1)
        assert store.copies(locator(data)) == [1]
        verified = store.verify(put.locator, copies=2, repair=True)
        # That of the file is copied to the first, that of the manifest to nobody.
        assert [block.locator for block in verified.bad] == [put.locator]
        assert verified.repaired == 1
        assert "507" in str(verified.bad[0].errors)


def test_signed(signing: Store, write: Write) -> None:
    """Copies of signed blocks are verified and repaired with their signatures."""
    put = signing.put(f"{write({'a': A})}/", copies=2)
    number = signing.copies(locator(A))[0]
    signing.remove(number, locator(A))
    assert signing.verify(put.locator, repair=True).repaired == 1
    assert signing.verify(put.locator).ok


def test_status(tmp_path: Path, store: Store) -> None:
    """A service tells its volumes, what is free, and with the system token how many blocks."""
    (tmp_path / "b").mkdir()
    volumes = [
        FolderVolume(tmp_path / "a", fsync=False),
        FolderVolume(tmp_path / "b", fsync=False, read_only=True, classes=("slow",)),
    ]
    config = dataclasses.replace(QUIET, tokens=("user",))
    with running(volumes, config) as service:
        service.put(b"one", SYSTEM)
        service.put(b"two", SYSTEM)
        several = Store([service])
        (status,) = several.call("status")
        assert (status.error, status.read_only, status.blocks) == (None, False, 2)
        first, second = status.mounts
        assert (first.writable, second.writable, second.classes) == (True, False, ("slow",))
        assert status.free == first.free
        assert abs(first.free - second.free) < 1 << 30
        (status,) = several.call("status", token="user")
        assert (status.blocks, status.read_only) == (None, False)
    store.kind = "asyncio"
    assert [one.blocks for one in store.call("status")] == [0, 0, 0]


def test_status_of_others(tmp_path: Path) -> None:
    """Of a service that tells nothing nothing is told but that it answers."""
    with running([MemoryVolume()], QUIET) as service:

        class Elsewhere:
            url = f"{service.url}/elsewhere"

        (status,) = Store([Elsewhere()]).call("status")  # type: ignore[list-item]
    assert (status.error, status.mounts, status.free, status.blocks) == (None, None, None, None)

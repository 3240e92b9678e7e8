"""Files there and back: what is stored, restored and listed."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from holdfast.blocks.aio import AsyncKeepClient
from holdfast.blocks.client import KeepClient
from holdfast.blocks.errors import ArgumentError, KeepReadError, KeepWriteError, NotFoundError
from holdfast.blocks.files import (
    AsyncFiles,
    Entry,
    Files,
    FilesError,
    ManifestError,
    Progress,
    scanning,
)
from holdfast.blocks.files.access import Storing
from holdfast.blocks.files.journal import Journal
from holdfast.blocks.files.packing import Piece, plan
from holdfast.blocks.locators import EMPTY
from holdfast.blocks.manifests import parse
from tests.blocks.client.clients import locator
from tests.blocks.client.stubs import Stubs
from tests.blocks.files.conftest import Store, Tree, read, some_tree

Write = Callable[[Tree], Path]


def test_plan() -> None:
    """Files are cut into blocks; what is left of them goes together, and is not divided."""
    assert plan([25, 0, 4, 3, 10, 6], 10) == [
        [Piece(0, 0, 10)],
        [Piece(0, 10, 10)],
        [Piece(0, 20, 5), Piece(2, 0, 4)],
        [Piece(4, 0, 10)],
        [Piece(3, 0, 3), Piece(5, 0, 6)],
    ]
    assert plan([], 10) == []


@pytest.mark.parametrize("parallel", [1, 4])
def test_there_and_back(
    store: Store, kind: str, write: Write, tmp_path: Path, parallel: int
) -> None:
    """A folder comes back as it was, each block on as many services as asked for."""
    store.kind = kind
    tree = some_tree()
    root = write(tree)
    seen: list[Progress] = []
    put = store.put(root, copies=2, parallel=parallel, progress=seen.append)
    total = sum(map(len, tree.values()))
    assert (put.files, put.size, put.skipped) == (9, total, ())
    assert seen[0] == Progress(0, total, 0)
    assert seen[-1].done == total
    manifest = store.call("manifest", put.locator)
    for name in [put.locator, *manifest.locators()]:
        assert len(store.copies(name)) == 2
    assert [one.path for one in store.call("ls", put.locator)][:3] == [
        "data/a",
        "data/b c\n:d\\",
        "data/caf\udce9 ü\xa0",
    ]
    assert Entry("data/none/", 0) in store.call("ls", put.locator)
    got = store.get(put.locator, tmp_path / "back", parallel=parallel, fsync=parallel == 1)
    assert (got.files, got.size) == (9, total)
    assert read(tmp_path / "back" / "data") == tree
    # Equal blocks are fetched once.
    assert got.fetched < total


def test_names(store: Store, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is stored by its name; of one with a slash at its end, or `.`, what is in it."""
    root = write({"a": b"1", "sub/b": b"2"})

    def stored(*paths: str | Path) -> list[str]:
        return [path for path, _ in store.call("ls", store.put(paths, copies=1).locator)]

    assert stored(root) == ["data/a", "data/sub/b"]
    assert stored(f"{root}/") == ["a", "sub/b"]
    assert stored(root / "a", root / "sub") == ["a", "sub/b"]
    monkeypatch.chdir(root)
    assert stored(".") == ["a", "sub/b"]
    assert stored("sub/..") == ["a", "sub/b"]
    with pytest.raises(FilesError, match="a is also"):
        stored("a", "./a")
    (root / "other").mkdir()
    (root / "other" / "sub").write_bytes(b"")
    with pytest.raises(FilesError, match="'sub' is a file and a folder"):
        stored("other/", "sub")
    with pytest.raises(ArgumentError):
        stored()


def test_nothing(store: Store, tmp_path: Path) -> None:
    """An empty folder, and nothing at all, can be stored."""
    empty = tmp_path / "empty"
    empty.mkdir()
    put = store.put(f"{empty}/")
    assert put.locator == str(EMPTY)
    assert store.get(put.locator, tmp_path / "back").files == 0
    put = store.put(empty)
    store.get(put.locator, tmp_path / "back")
    assert read(tmp_path / "back") == {"empty/": b""}


def test_large_manifest(store: Store, write: Write, tmp_path: Path) -> None:
    """A manifest that is larger than a block has several locators, which belong together."""
    tree = {f"file {number}": b"%d" % number for number in range(100)}
    put = store.put(f"{write(tree)}/")
    assert re.fullmatch(r"[0-9a-f]{32}\+1000,[0-9a-f]{32}\+670", put.locator)
    store.get(put.locator, tmp_path / "back")
    assert read(tmp_path / "back") == tree
    assert store.verify(put.locator).ok


def test_sent_once(store: Store, write: Write) -> None:
    """What is there already is not sent again, and only missing copies are."""
    tree = some_tree()
    root = write(tree)
    put = store.put(root, copies=2)
    sent = store.requests("PUT")
    again = store.put(root, copies=2)
    assert again == put._replace(sent_blocks=0, sent=0)
    assert store.requests("PUT") == sent
    more = store.put(root, copies=3)
    assert (more.locator, more.sent_blocks) == (put.locator, len(set(blocks_of(store, put))))
    assert store.requests("PUT") == sent + more.sent_blocks
    (root / "a").write_bytes(b"other")
    # The block of small files, and the manifest.
    assert store.put(root, copies=3).sent_blocks == 2


def blocks_of(store: Store, put: object) -> list[str]:
    """Return the locators of all blocks."""
    name = put.locator  # type: ignore[attr-defined]
    return [*name.split(","), *store.call("manifest", name).locators()]


def test_signed(signing: Store, write: Write, tmp_path: Path) -> None:
    """Where locators are signed, the manifest has the signatures, and nobody is asked without."""
    tree = some_tree()
    root = write(tree)
    before, denied = signing.requests("PUT"), signing.requests("HEAD", "400")
    put = signing.put(root, copies=2)
    assert "+A" in put.locator
    sent = signing.requests("PUT") - before
    # Those that are under way when the first answer comes.
    assert signing.requests("HEAD", "400") - denied <= 2 * 4 < 2 * put.blocks
    signing.get(put.locator, tmp_path / "back")
    assert read(tmp_path / "back" / "data") == tree
    assert signing.verify(put.locator).ok
    # Without a journal there are no signatures left, so that all of it is sent again.
    assert signing.put(root, copies=2).sent == put.sent
    assert signing.requests("PUT") - before == 2 * sent
    with pytest.raises(KeepReadError, match="400"):
        signing.get(put.locator, tmp_path / "other", token="another")


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("signed", [False, True])
def test_interrupted_put(
    store: Store, signing: Store, write: Write, tmp_path: Path, signed: bool
) -> None:
    """A put that was interrupted sends only what is missing the next time."""
    store = signing if signed else store
    root = write({f"{number}": os.urandom(1000) for number in range(10)})
    journal = tmp_path / "journal" / "put"

    def interrupt(progress: Progress) -> None:
        if progress.done == 5000:
            raise Interrupted

    before = store.requests("PUT")
    with pytest.raises(Interrupted):
        store.put(root, copies=2, parallel=1, journal=journal, progress=interrupt)
    sent = store.requests("PUT")
    assert sent - before == 10
    assert journal.exists() == signed
    if signed:
        assert journal.stat().st_mode & 0o777 == 0o600
        with open(journal, "a") as file:
            file.write("cut sho")
    put = store.put(root, copies=2, journal=journal)
    assert put.sent_blocks == put.blocks - 5
    assert store.requests("PUT") == sent + 2 * put.sent_blocks
    assert not journal.exists()
    assert store.verify(put.locator).ok


def test_journal_in_the_way(signing: Store, write: Write, tmp_path: Path) -> None:
    """A journal that cannot be written is done without."""
    (tmp_path / "file").write_bytes(b"")
    assert signing.put(write({"a": b"1"}), journal=tmp_path / "file" / "journal").files == 1


def test_journal_of_other_sizes(store: Store, write: Write, tmp_path: Path) -> None:
    """A journal that tells another size than a block has is not believed."""
    root = write({"a": b"1" * 1000, "b": b"2" * 500})
    store.put(root)
    journal = tmp_path / "journal"
    names = [f"{locator(one)[:32]}+{64 << 20}" for one in (b"1" * 1000, b"2" * 500)]
    journal.write_text("".join(f"{name}+A{'0' * 40}@ffffffff\n" for name in names))
    put = store.put(root, journal=journal)
    assert put.sent == 0
    store.get(put.locator, tmp_path / "back")
    assert read(tmp_path / "back/data") == read(root)


def test_service_that_names_wrongly(store: Store, write: Write) -> None:
    """What a service calls a block is checked: files by wrong names could not be read again."""
    root = write({"a": b"1"})

    def called(*arguments: object) -> tuple[str, int, dict[str, int]]:
        return f"{locator(b'1')[:32]}+2", 1, {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdfast.blocks.writing.stored", called)
        with pytest.raises(KeepWriteError, match=r"\+1, but a service calls it '.*\+2'"):
            store.put(root)


def test_links(store: Store, write: Write, tmp_path: Path) -> None:
    """Links are stored as what they lead to, or left out and told."""
    root = write({"a": b"1", "sub/b": b"2"})
    (root / "link").symlink_to("a")
    (root / "sub2").symlink_to("sub")
    put = store.put(f"{root}/")
    assert [path for path, _ in store.call("ls", put.locator)] == [
        *("a", "link", "sub/b", "sub2/b"),
    ]
    put = store.put(f"{root}/", follow_links=False)
    assert [path for path, _ in store.call("ls", put.locator)] == ["a", "sub/b"]
    assert sorted(str(one) for one in put.skipped) == [
        f"{root}/link: a link",
        f"{root}/sub2: a link",
    ]
    # One that was named is followed.
    put = store.put(root / "link", follow_links=False)
    assert store.call("ls", put.locator) == [Entry("link", 1)]


def test_links_without_end(store: Store, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that make a few folders into very many files end a put."""
    monkeypatch.setattr(scanning, "SEGMENTS", 1000)
    root = write({"0/a": b"1"})
    for level in range(1, 40):
        (root / str(level)).mkdir()
        (root / str(level) / "x").symlink_to(f"../{level - 1}")
        (root / str(level) / "y").symlink_to(f"../{level - 1}")
    with pytest.raises(FilesError, match="more than 1,000 files"):
        store.put(root / "39")


def test_what_cannot_be_stored(store: Store, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no file, cannot be read, or leads nowhere ends a put before anything is sent."""
    root = write({"a": b"1", "secret": b"2", ".0123456789abcdef0123.holdfast-part": b""})
    (root / "loop").symlink_to(".")
    (root / "nowhere").symlink_to("nothing")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        monkeypatch.chdir(root)
        sock.bind("socket")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "secret" not in path and real(path, mode))
    paths = [root, root / "missing"]
    before = store.requests("PUT")
    with pytest.raises(FilesError, match="nothing was stored") as caught:
        store.put(paths)
    told = {
        f"{root}/loop": "a link to a folder that it is in",
        f"{root}/nowhere": "a link to nothing",
        f"{root}/pipe": "a named pipe, neither a file nor a folder",
        f"{root}/secret": "it cannot be read",
        f"{root}/socket": "a socket, neither a file nor a folder",
        f"{root}/missing": "No such file or directory",
    }
    assert dict(caught.value.problems) == told
    assert store.requests("PUT") == before
    put = store.put(paths, skip=True)
    assert store.call("ls", put.locator) == [Entry("data/a", 1)]
    left = {f"{root}/.0123456789abcdef0123.holdfast-part": "left by a get that was interrupted"}
    assert dict(put.skipped) == told | left


@pytest.mark.parametrize("how", ["longer", "shorter", "touched", "gone", "replaced by a pipe"])
def test_changed(store: Store, write: Write, how: str) -> None:
    """A file that changes after it was found is not stored as it never was."""
    root = write({"a": b"1" * 1000, "b": b"2" * 2500, "c": b"3" * 10})
    path = root / "b"

    def change(progress: Progress) -> None:
        if progress.done:
            return
        if how in ("longer", "shorter"):
            path.write_bytes(b"x" * (3000 if how == "longer" else 10))
        elif how == "touched":
            os.utime(path, (0, 0))
        else:
            path.unlink()
            if how != "gone":
                os.mkfifo(path)

    with pytest.raises(FilesError, match=re.escape(str(path))):
        store.put(f"{root}/", progress=change)
    path.unlink(missing_ok=True)
    path.write_bytes(b"2" * 2500)
    put = store.put(f"{root}/", progress=change, skip=True)
    assert store.call("ls", put.locator) == [Entry("a", 1000), Entry("c", 10)]
    assert [one.path for one in put.skipped] == [str(path)]


def test_too_few_services(store: Store, write: Write) -> None:
    """More copies than there are services is an error, which names them."""
    with pytest.raises(KeepWriteError, match="wanted 4 copies but wrote 3"):
        store.put(write({"a": b"1"}), copies=4)
    with pytest.raises(ArgumentError):
        store.put(".", copies=0)
    with pytest.raises(ArgumentError):
        store.put(".", block_size=0)


def test_silent_service(stubs: Stubs) -> None:
    """A service that does not answer is not waited for with each block, while others do."""
    first = stubs.services[0]
    first.always = TimeoutError
    with KeepClient(stubs.api, proxy="", driver=stubs.world) as client:
        services = client.core.services.known(inf)
        storing = Storing(client, 2, stubs.world.run(services), Journal())
        for number in range(6):
            data = b"%d" % number
            stubs.world.run(storing.store(locator(data)[:32], data))
    assert stubs.log.count((first.host, "PUT")) == 0
    assert stubs.log.count((first.host, "HEAD")) == 1
    assert [len(one.blocks) for one in stubs.services] == [0, 6, 6]


def test_no_manifest(store: Store, tmp_path: Path) -> None:
    """What is no locator, is not there, or is no manifest, is told apart."""
    with pytest.raises(ArgumentError, match="not a locator"):
        store.get("nonsense", tmp_path)
    with pytest.raises(NotFoundError):
        store.get(locator(b"absent"), tmp_path)
    store.services[0].put(b"any bytes")
    with pytest.raises(ManifestError, match="line 1"):
        store.get(locator(b"any bytes"), tmp_path)


def test_cancelled(write: Write) -> None:
    """A put that is cancelled ends at once, whatever the services do."""
    root = write({"a": b"1"})

    async def cancel(silent: socket.socket) -> None:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with AsyncKeepClient(proxy=url) as client:
            task = asyncio.create_task(AsyncFiles(client).put(root))
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(cancel(silent))


def test_local_store(write: Write, tmp_path: Path) -> None:
    """A folder can take the services' place."""
    tree = some_tree()
    (tmp_path / "blocks").mkdir()
    with KeepClient(local_store=tmp_path / "blocks") as client:
        files = Files(client)
        put = files.put(f"{write(tree)}/", block_size=1000)
        assert files.put(f"{tmp_path / 'data'}/", block_size=1000).sent == 0
        files.get(put.locator, tmp_path / "back")
        assert read(tmp_path / "back") == tree
        assert parse(client.get(put.locator)) == files.manifest(put.locator)
        with pytest.raises(ArgumentError):
            files.verify(put.locator)
        with pytest.raises(ArgumentError):
            files.status()

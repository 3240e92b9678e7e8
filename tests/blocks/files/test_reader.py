"""A stored file as a file object."""

from __future__ import annotations

import io
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.blocks.client import KeepClient
from holdfast.blocks.errors import NotFoundError
from holdfast.blocks.files import BlockFile, Files
from tests.blocks.client.clients import locator
from tests.blocks.files.conftest import Store, Tree

Write = Callable[[Tree], Path]

DATA = random.Random(1).randbytes(5500)
LINES = b"".join(b"line %d\n" % number for number in range(400))


@pytest.fixture
def name(store: Store, write: Write) -> str:
    """Store two files, in blocks of 1000 bytes."""
    put = store.put(f"{write({'sub/data': DATA, 'lines': LINES, 'empty': b'', 'none/': b''})}/")
    return str(put.locator)


@pytest.fixture
def files(store: Store) -> Iterator[Files]:
    """Have a client with a cache."""
    with KeepClient(proxy=" ".join(one.url for one in store.services)) as client:
        yield Files(client)


def test_like_a_file(files: Files, name: str, tmp_path: Path) -> None:
    """Whatever is read, from wherever, is what a plain file has."""
    (tmp_path / "plain").write_bytes(DATA)
    chance = random.Random(2)
    with files.open(name, "sub/data") as ours, open(tmp_path / "plain", "rb") as plain:
        for _ in range(300):
            whence = chance.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])
            offset = chance.randint(-6000, 6000)
            try:
                position = plain.seek(offset, whence)
            except OSError:
                with pytest.raises(ValueError, match="position"):
                    ours.seek(offset, whence)
                plain.seek(ours.tell())
            else:
                assert ours.seek(offset, whence) == position
            size = chance.choice([0, 1, 10, 999, 2500, 9000, -1])
            assert ours.read(size) == plain.read(size)
            assert ours.tell() == plain.tell()
        into = bytearray(3000)
        ours.seek(500)
        assert ours.readinto(into) == 3000
        assert into == DATA[500:3500]


def test_lines(files: Files, name: str) -> None:
    """It has lines, and can be read as text."""
    with files.open(name, "./lines") as file:
        assert list(file) == LINES.splitlines(keepends=True)
        assert file.name == "lines"
    with io.TextIOWrapper(files.open(name, "lines"), "ascii") as text:
        assert text.readlines()[-1] == "line 399\n"


def test_raw(files: Files, name: str) -> None:
    """Without a buffer a read ends with its block; pread leaves the position."""
    with files.open(name, "sub/data") as file:
        raw = file.raw
        assert isinstance(raw, BlockFile)
        assert (raw.readable(), raw.seekable(), raw.writable()) == (True, True, False)
        assert raw.read(1500) == DATA[:1000]
        assert raw.pread(3000, 5000) == DATA[5000:]
        assert raw.tell() == 1000
        assert raw.readall() == DATA[1000:]
        assert raw.read(10) == b""
        with pytest.raises(ValueError, match="whence"):
            raw.seek(0, 9)
        with pytest.raises(ValueError, match="from 0"):
            raw.pread(1, -1)
    for call in (raw.readall, raw.tell, lambda: raw.seek(0), lambda: raw.read(1)):
        with pytest.raises(ValueError, match="closed"):
            call()
    with files.open(name, "empty") as file:
        assert file.read() == b""


def test_read_ahead() -> None:
    """The next blocks are asked for, each once, and again only after a jump."""
    from holdfast.blocks.segments import Segment

    blocks = {locator(bytes([n]) * 10): bytes([n]) * 10 for n in range(6)}
    got: list[int] = []
    ahead: list[int] = []
    names = list(blocks)

    def get(one: str) -> bytes:
        got.append(names.index(one))
        return blocks[one]

    segments = [Segment(one, 0, 10) for one in names]
    file = BlockFile("x", segments, get, lambda one: ahead.append(names.index(one)), 2)
    file.read(5)
    assert (got, ahead) == ([0], [1, 2])
    file.read(5)
    file.read(5)
    assert (got, ahead) == ([0, 1], [1, 2, 3])
    file.seek(50)
    file.read(1)
    assert (got, ahead) == ([0, 1, 5], [1, 2, 3])
    file.seek(0)
    file.read(1)
    assert (got, ahead) == ([0, 1, 5, 0], [1, 2, 3, 1, 2])


def test_threads(files: Files, name: str) -> None:
    """Many threads may read one file at once."""
    with files.open(name, "sub/data") as file:
        raw = file.raw
        assert isinstance(raw, BlockFile)
        wrong: list[int] = []

        def work(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(50):
                offset = chance.randrange(5500)
                if raw.pread(700, offset) != DATA[offset : offset + 700]:
                    wrong.append(offset)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_no_file(files: Files, name: str) -> None:
    """What is no file cannot be opened."""
    with pytest.raises(FileNotFoundError, match="'nothing'"):
        files.open(name, "nothing")
    for folder in ("sub", "sub/", "none"):
        with pytest.raises(IsADirectoryError):
            files.open(name, folder)


def test_missing_block(files: Files, store: Store, name: str) -> None:
    """A block that nobody has is an error where it is read, and nowhere else."""
    gone = locator(DATA[2000:3000])
    for number in store.copies(gone):
        store.remove(number, gone)
    with files.open(name, "sub/data", ahead=0) as file:
        assert file.read(2000) == DATA[:2000]
        with pytest.raises(NotFoundError):
            file.read(1)
        file.seek(3000)
        assert file.read() == DATA[3000:]

"""What every volume does: the same tests for each kind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.folder_identity import is_uuid
from holdfast.blocks.server.memory import MemoryVolume
from holdfast.blocks.server.volumes import (
    BlockMissing,
    BlockTooNew,
    Emptied,
    Volume,
    VolumeError,
)
from tests.blocks.server.services import md5

Make = Callable[..., Volume]

DATA = b"some bytes of a block" * 1000
NAME = md5(DATA)
NEVER = (1 << 62) // 10**9


@pytest.fixture(params=["folder", "folder-synced", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Make a volume of each kind; those that last see what was stored before."""
    kind: str = request.param
    if kind == "memory":
        return MemoryVolume
    return lambda **options: FolderVolume(
        tmp_path / "blocks", fsync=kind == "folder-synced", **options
    )


def put(volume: Volume, data: bytes = DATA, name: str = "") -> None:
    """Store a block, below its hash or another name."""
    with volume.create(name or md5(data), len(data)) as writer:
        writer.write(data)
        writer.commit()


def get(volume: Volume, name: str = NAME) -> bytes:
    """Return a block."""
    with volume.open(name) as reader:
        data = b""
        while piece := reader.read(4096):
            data += piece
        assert len(data) == reader.size
        return data


def names(volume: Volume, prefix: str = "") -> list[str]:
    """Return the hashes of the blocks, in order."""
    return sorted(block.md5sum for block in volume.index(prefix))


def test_added(make: Make) -> None:
    """What is added in one go is there; what is there already is left as it is."""
    volume = make()
    assert volume.add(NAME, DATA)
    assert get(volume) == DATA
    before = volume.stat(NAME)
    assert not volume.add(NAME, b"something else")
    assert volume.stat(NAME) == before
    volume.trash(NAME, 1 << 62, NEVER)
    assert volume.add(NAME, DATA)
    assert names(volume) == [NAME]


def test_added_by_several(make: Make) -> None:
    """Several threads that add the same blocks leave each of them once, and whole."""
    volume = make()
    blocks = [b"%d" % number * 1000 for number in range(20)]

    def work() -> None:
        for data in blocks:
            volume.add(md5(data), data)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(volume) == sorted(map(md5, blocks))
    assert all(get(volume, md5(data)) == data for data in blocks)


def test_stored(make: Make) -> None:
    """What was written in pieces and committed is read, with its size and time."""
    volume = make()
    before = time.time_ns()
    with volume.create(NAME, len(DATA)) as writer:
        writer.write(DATA[:100])
        writer.write(memoryview(DATA)[100:])
        writer.commit()
    after = time.time_ns()
    assert get(volume) == DATA
    stored = volume.stat(NAME)
    assert (stored.md5sum, stored.size) == (NAME, len(DATA))
    # The clock of file systems is coarse.
    assert before - 50_000_000 <= stored.mtime_ns <= after + 50_000_000
    assert list(volume.index()) == [stored]
    volume.close()


def test_unseen_until_committed(make: Make) -> None:
    """A block that is not committed is nowhere, neither meanwhile nor afterwards."""
    volume = make()
    with volume.create(NAME, len(DATA)) as writer:
        writer.write(DATA)
        assert names(volume) == []
        with pytest.raises(BlockMissing):
            volume.open(NAME)
    assert names(volume) == []
    with pytest.raises(BlockMissing):
        volume.stat(NAME)
    volume.close()


def test_given_up_on_error(make: Make) -> None:
    """An error while a block is written gives it up."""
    volume = make()

    def fail() -> None:
        with volume.create(NAME) as writer:
            writer.write(DATA)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(volume) == []
    volume.close()


def test_replaced(make: Make) -> None:
    """A block is replaced as a whole, and who reads the old one reads it to its end."""
    volume = make()
    put(volume, b"corrupt" * 1000, NAME)
    with volume.open(NAME) as reader:
        first = reader.read(10)
        put(volume)
        assert get(volume) == DATA
        assert first + reader.read(100_000) == b"corrupt" * 1000
    volume.close()


@pytest.mark.parametrize(
    "act", ["open", "open_at_once", "stat", "touch", "untrash", "peek", "trash"]
)
def test_missing(make: Make, act: str) -> None:
    """What is not there is missing, for every method."""
    volume = make()
    arguments = {"peek": (100,), "trash": (time.time_ns(), 0)}.get(act, ())
    with pytest.raises(BlockMissing):
        getattr(volume, act)(NAME, *arguments)
    put(volume, b"other", NAME[:3] + "0" * 29)  # in the same folder
    with pytest.raises(BlockMissing):
        getattr(volume, act)(NAME, *arguments)
    volume.close()


def test_peek(make: Make) -> None:
    """A small block may be had at once, a larger one than asked for never."""
    volume = make()
    put(volume)
    assert volume.peek(NAME, len(DATA)) in (None, DATA)
    assert volume.peek(NAME, len(DATA) - 1) is None
    volume.close()


def test_read_at_once(make: Make) -> None:
    """What takes no wait fills a buffer; where it does not, reading goes on as if it was not."""
    volume = make()
    put(volume)
    with volume.open(NAME) as reader:
        assert not reader.read_at_once(bytearray(len(DATA) + 1))
        buffer = bytearray(1000)
        data = b""
        while len(data) + len(buffer) <= len(DATA):
            data += buffer if reader.read_at_once(buffer) else reader.read(len(buffer))
        assert not reader.read_at_once(buffer)
        assert data + reader.read(len(DATA)) == DATA
    volume.close()


def test_open_at_once(make: Make) -> None:
    """A block that may be opened at once is the same one."""
    volume = make()
    put(volume)
    reader = volume.open_at_once(NAME)
    assert reader is not None
    with reader:
        assert reader.size == len(DATA)
        assert reader.read(len(DATA) + 1) == DATA
    volume.close()


def test_touched(make: Make) -> None:
    """Touching sets the time and nothing else."""
    volume = make()
    put(volume)
    first = volume.stat(NAME)
    while volume.stat(NAME).mtime_ns == first.mtime_ns:
        volume.touch(NAME)
    assert volume.stat(NAME).mtime_ns > first.mtime_ns
    assert get(volume) == DATA
    volume.close()


def test_trashed_and_back(make: Make) -> None:
    """A trashed block is away until it is brought back, as new."""
    volume = make()
    put(volume)
    old = volume.stat(NAME).mtime_ns
    volume.trash(NAME, old + 1, NEVER)
    assert names(volume) == []
    with pytest.raises(BlockMissing):
        volume.open(NAME)
    assert volume.empty(time.time()) == Emptied(0, 0)
    volume.untrash(NAME)
    assert get(volume) == DATA
    assert volume.stat(NAME).mtime_ns >= old
    with pytest.raises(BlockMissing):
        volume.untrash(NAME)
    volume.close()


def test_untrash_beside_a_new_one(make: Make) -> None:
    """A block that was put again meanwhile stays what it is."""
    volume = make()
    put(volume, b"old", NAME)
    volume.trash(NAME, time.time_ns() + 10**9, NEVER)
    put(volume)
    volume.untrash(NAME)
    assert get(volume) == DATA
    volume.close()


def test_too_new(make: Make) -> None:
    """A block that is not older than it has to be stays."""
    volume = make()
    put(volume)
    with pytest.raises(BlockTooNew):
        volume.trash(NAME, volume.stat(NAME).mtime_ns, NEVER)
    assert get(volume) == DATA
    volume.close()


def test_emptied(make: Make) -> None:
    """What is beyond its deadline leaves the trash, and with deadline 0 nothing enters it."""
    volume = make()
    soon = time.time_ns() + 10**10
    put(volume)
    volume.trash(NAME, soon, 1000)
    put(volume)
    volume.trash(NAME, soon, 2000)
    assert volume.empty(999.0) == Emptied(0, 0)
    assert volume.empty(1000.0) == Emptied(1, len(DATA))
    volume.untrash(NAME)
    volume.trash(NAME, soon + 10**10, 0)
    assert volume.empty(1e12) == Emptied(0, 0)
    with pytest.raises(BlockMissing):
        volume.untrash(NAME)
    volume.close()


def test_index(make: Make) -> None:
    """The index has every block with a prefix, and nothing else."""
    volume = make()
    blocks = [bytes([number]) for number in range(100)]
    for data in blocks:
        put(volume, data)
    volume.trash(md5(blocks[0]), time.time_ns() + 10**10, NEVER)
    expected = sorted(md5(data) for data in blocks[1:])
    assert names(volume) == expected
    for prefix in ("0", "a", "ab", expected[5][:3], expected[7][:5], expected[9]):
        assert names(volume, prefix) == [name for name in expected if name.startswith(prefix)]
    volume.close()


def test_empty_and_binary_content(make: Make) -> None:
    """A block may have any bytes, or none."""
    volume = make()
    every = bytes(range(256)) * 300
    put(volume, every)
    put(volume, b"")
    assert get(volume, md5(every)) == every
    assert get(volume, md5(b"")) == b""
    volume.close()


def test_read_only(make: Make) -> None:
    """A read-only volume changes nothing."""
    make().close()
    volume = make(read_only=True)
    assert not volume.writable
    with pytest.raises(VolumeError):
        volume.create(NAME)
    with pytest.raises(VolumeError):
        volume.add(NAME, DATA)
    for act, arguments in (("touch", ()), ("untrash", ()), ("trash", (1 << 62, 0))):
        with pytest.raises(VolumeError):
            getattr(volume, act)(NAME, *arguments)
    assert names(volume) == []
    volume.close()


def test_description(make: Make) -> None:
    """A volume tells who it is, and what it offers."""
    volume = make(classes=("fast", "default"), replication=2)
    assert is_uuid(volume.uuid)
    assert volume.device_id
    assert (volume.classes, volume.replication, volume.writable) == (("fast", "default"), 2, True)
    free = volume.free()
    assert free is None or free > 0
    volume.close()


def test_many_threads(make: Make) -> None:
    """Threads that put, touch, read and trash the same block never see a part of it."""
    volume = make()
    failures: list[Exception] = []
    over = threading.Event()

    def act(function: Callable[[], object]) -> None:
        while not over.is_set():
            try:
                function()
            except (BlockMissing, BlockTooNew):
                pass
            except Exception as error:
                failures.append(error)
                return

    def check() -> None:
        assert get(volume) == DATA

    acts: list[Callable[[], object]] = [
        lambda: put(volume),
        lambda: put(volume),
        lambda: volume.touch(NAME),
        lambda: volume.trash(NAME, 1 << 62, NEVER),
        lambda: volume.untrash(NAME),
        check,
        check,
    ]
    threads = [threading.Thread(target=act, args=(one,)) for one in acts]
    for thread in threads:
        thread.start()
    over.wait(0.3)
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    volume.close()

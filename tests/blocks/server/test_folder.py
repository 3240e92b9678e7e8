"""What a folder is on the disk."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from pathlib import Path

import pytest

from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.volumes import BlockMissing, VolumeError, VolumeFull
from tests.blocks.server.services import md5

DATA = b"on the disk"
NAME = md5(DATA)


def put(volume: FolderVolume, data: bytes = DATA) -> None:
    """Store a block."""
    with volume.create(md5(data), len(data)) as writer:
        writer.write(data)
        writer.commit()


def test_layout(tmp_path: Path) -> None:
    """Blocks and trash have the names that other Keep services give them."""
    volume = FolderVolume(tmp_path / "blocks")
    put(volume)
    assert (tmp_path / "blocks" / NAME[:3] / NAME).read_bytes() == DATA
    volume.trash(NAME, time.time_ns() + 10**10, 1234567890)
    assert os.listdir(tmp_path / "blocks" / NAME[:3]) == [f"{NAME}.trash.1234567890"]
    assert os.listdir(tmp_path / "blocks" / "tmp") == []
    volume.close()


def test_permissions(tmp_path: Path) -> None:
    """Nobody else can read what is stored, whatever the umask is."""
    before = os.umask(0)
    try:
        volume = FolderVolume(tmp_path / "blocks")
        put(volume)
        volume.close()
    finally:
        os.umask(before)
    for root, folders, files in os.walk(tmp_path / "blocks"):
        assert stat.S_IMODE(os.stat(root).st_mode) == 0o700
        for name in folders + files:
            assert stat.S_IMODE(os.lstat(Path(root, name)).st_mode) & 0o077 == 0


def test_others_blocks_are_served(tmp_path: Path) -> None:
    """A folder that another Keep service has filled is a volume; other files are no blocks."""
    place = tmp_path / NAME[:3]
    place.mkdir()
    (place / NAME).write_bytes(DATA)
    (place / f"tmp{NAME}123").write_bytes(DATA)
    (place / "notes.txt").write_bytes(DATA)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "abc").write_bytes(b"a file where a folder would be")
    volume = FolderVolume(tmp_path)
    assert [block.md5sum for block in volume.index()] == [NAME]
    with volume.open(NAME) as reader:
        assert reader.read(100) == DATA
    volume.close()


def test_left_by_a_crash(tmp_path: Path) -> None:
    """What was being written when the service ended is removed at the next start."""
    volume = FolderVolume(tmp_path)
    writer = volume.create(NAME)
    writer.write(b"half a")
    assert len(os.listdir(tmp_path / "tmp")) == 1
    volume.close()  # without the writer's end, as in a crash
    FolderVolume(tmp_path).close()
    assert os.listdir(tmp_path / "tmp") == []
    os.close(writer._fd)


def test_one_service(tmp_path: Path) -> None:
    """A folder is used by one service at a time, though others may read."""
    volume = FolderVolume(tmp_path)
    put(volume)
    with pytest.raises(VolumeError, match="another service"):
        FolderVolume(tmp_path)
    reading = FolderVolume(tmp_path, read_only=True)
    assert reading.stat(NAME).size == len(DATA)
    assert reading.uuid == volume.uuid
    reading.close()
    volume.close()
    FolderVolume(tmp_path).close()


def test_uuid(tmp_path: Path) -> None:
    """The uuid stays with the folder, wherever that is moved, unless another one is given."""
    first = FolderVolume(tmp_path / "a")
    first.close()
    (tmp_path / "a").rename(tmp_path / "b")
    second = FolderVolume(tmp_path / "b")
    second.close()
    assert first.uuid == second.uuid
    third = FolderVolume(tmp_path / "b", uuid="abcde-nyw5e-000000000000001")
    third.close()
    assert (tmp_path / "b" / "volume").read_text() == "abcde-nyw5e-000000000000001\n"
    (tmp_path / "c").mkdir()
    derived = [FolderVolume(tmp_path / "c", read_only=True).uuid for _ in range(2)]
    assert derived[0] == derived[1] != first.uuid
    assert os.listdir(tmp_path / "c") == []


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe", "folder"])
def test_no_tricks(tmp_path: Path, kind: str) -> None:
    """A symbolic link, a pipe or a folder in a block's place is no block, and leads nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / NAME).write_bytes(DATA)
    place = tmp_path / "blocks" / NAME[:3]
    place.parent.mkdir()
    if kind == "folder link":
        place.symlink_to(outside)
    else:
        place.mkdir()
        if kind == "link":
            (place / NAME).symlink_to(outside / NAME)
        elif kind == "pipe":
            os.mkfifo(place / NAME)
        else:
            (place / NAME).mkdir()
    volume = FolderVolume(tmp_path / "blocks")
    old = time.time_ns() + 10**12
    missing = VolumeError if kind == "folder link" else BlockMissing
    try:
        assert volume.peek(NAME, 99) is None
    except BlockMissing:
        pass
    for act, arguments in (("open", ()), ("touch", ()), ("trash", (old, 0))):
        with pytest.raises(missing):
            getattr(volume, act)(NAME, *arguments)
    assert list(volume.index()) == []
    if kind == "folder link":
        with pytest.raises(VolumeError):
            put(volume)
    assert (outside / NAME).read_bytes() == DATA
    assert os.listdir(outside) == [NAME]
    volume.close()


@pytest.mark.parametrize("first", ["peek", "read"])
def test_files_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """Where the system cannot tell whether reading is a wait, nothing is done at once."""
    volume = FolderVolume(tmp_path)
    put(volume)

    def preadv(*arguments: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "preadv", preadv)
    if first == "peek":
        assert volume.peek(NAME, len(DATA)) is None
    else:
        reader = volume.open_at_once(NAME)
        assert reader is not None
        with reader:
            assert not reader.read_at_once(bytearray(10))
            assert reader.read(len(DATA)) == DATA
    assert volume.open_at_once(NAME) is None
    assert volume.peek(NAME, len(DATA)) is None
    volume.close()


def test_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with less than 64 MiB left is full; what is being written counts."""
    volume = FolderVolume(tmp_path)
    real = os.fstatvfs(volume._root)

    def free(mib: int) -> None:
        blocks = (mib << 20) // real.f_frsize
        values = [*real[:4], blocks, *real[5:]]
        monkeypatch.setattr(os, "fstatvfs", lambda fd: os.statvfs_result(values))

    free(63)
    with pytest.raises(VolumeFull, match=re.escape(str(tmp_path))):
        volume.create(NAME)
    with pytest.raises(VolumeFull):
        volume.add(NAME, DATA)
    assert os.listdir(tmp_path / "tmp") == []
    free(64)
    with volume.create(NAME, 1 << 20), pytest.raises(VolumeFull):
        volume.create(NAME, 1 << 20)
    put(volume)
    monkeypatch.undo()
    volume.close()


def test_unusable(tmp_path: Path) -> None:
    """What is no folder is no volume, and the error names it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VolumeError, match="file"):
        FolderVolume(tmp_path / "file")
    with pytest.raises(VolumeError, match="none"):
        FolderVolume(tmp_path / "none", read_only=True)

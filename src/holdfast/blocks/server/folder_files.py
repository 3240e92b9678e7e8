"""The files of a volume in a folder: opened safely, read, and written to be renamed."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.blocks.server.volumes import BlockMissing, VolumeError, VolumeFull
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.blocks.server.folder import FolderVolume

__all__ = [
    "DIRECTORY",
    "FILE",
    "NEW",
    "Reader",
    "Writer",
    "directory",
    "failures",
    "files",
    "folders",
    "is_there",
    "open_regular",
    "sync",
    "write_all",
]

_FOLDER = re.compile(r"[0-9a-f]{3}")

#: No room: on the disk, in the quota, or for a file of that size.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: How folders and blocks are opened: never through a symbolic link.
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Non-blocking, because opening a named pipe would wait for its other end.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: How a file that is to become a block is made.
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def failures(path: Path, md5sum: str = "") -> Iterator[None]:
    """Turn the system's errors into those of volumes."""
    try:
        yield
    except OSError as error:
        if md5sum and isinstance(error, FileNotFoundError):
            raise BlockMissing(md5sum) from None
        kind = VolumeFull if error.errno in _FULL else VolumeError
        raise kind(f"{path}: {error.strerror or error}") from error


def directory(name: str, parent: int, *, make: bool = False, synced: bool = False) -> int:
    """Open a folder in an open folder, and make it if asked to; never through a symbolic link."""
    try:
        return os.open(name, DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:  # made by another thread just now
        pass
    # In either case: whoever stores a block in it promises that it stays.
    sync(parent, synced)
    return os.open(name, DIRECTORY, dir_fd=parent)


def open_regular(name: str, folder: int) -> int:
    """Open a file in an open folder; raises BlockMissing for what is not a regular file."""
    try:
        fd = os.open(name, FILE, dir_fd=folder)
    except OSError as error:
        # The last two: a symbolic link, a socket.
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            raise BlockMissing(name) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BlockMissing(name)
    return fd


def is_there(name: str, folder: int) -> bool:
    """Return whether an open folder has anything of a name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of some data."""
    written = os.write(fd, data)
    while written < len(data):
        data = memoryview(data)[written:]
        written = os.write(fd, data)


def sync(fd: int, wanted: bool = True) -> None:
    """Have a file or folder reach the disk, if that is wanted."""
    if wanted:
        os.fsync(fd)


def folders(root: int, prefix: str = "") -> list[str]:
    """Return the names of the folders that may hold blocks whose hashes begin with a prefix."""
    names = [prefix[:3]] if len(prefix) >= 3 else sorted(os.listdir(root))
    return [name for name in names if _FOLDER.fullmatch(name) and name.startswith(prefix[:3])]


def files(name: str, root: int) -> Iterator[tuple[str, os.stat_result]]:
    """Iterate over the regular files of a folder; of what is no folder, over none."""
    try:
        folder = directory(name, root)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        for entry in os.listdir(folder):
            try:
                status = os.stat(entry, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:  # removed just now
                continue
            if stat.S_ISREG(status.st_mode):
                yield entry, status
    finally:
        os.close(folder)


class Reader(Closing):
    """An open block; see `BlockReader`."""

    def __init__(self, volume: FolderVolume, fd: int, once: bool) -> None:
        self._volume = volume
        self._fd = fd
        self._once = once
        self.size = os.fstat(fd).st_size

    def close(self) -> None:
        """Close the file."""
        # Leave the memory to blocks that are asked for.
        if self._once and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(self._fd)

    def read(self, size: int) -> bytes:
        """Return so many of the next bytes, fewer only at the end."""
        try:
            data = os.read(self._fd, size)
            # A file system in a network may give less than there is.
            while len(data) < size and (more := os.read(self._fd, size - len(data))):
                data += more
            return data
        except OSError as error:
            raise VolumeError(f"cannot be read: {error.strerror}") from error

    def read_at_once(self, buffer: bytearray | memoryview) -> bool:
        """Fill a buffer with the next bytes if the system has them in memory."""
        try:
            got = os.preadv(self._fd, [buffer], -1, os.RWF_NOWAIT)  # -1: from where it is
        except AttributeError:
            return False
        except OSError as error:  # whatever it is, `read` finds out
            self._volume.not_at_once(error)
            return False
        if got == len(buffer):
            return True
        os.lseek(self._fd, -got, os.SEEK_CUR)
        return False


class Writer(Closing):
    """A block on its way in: a temporary file; see `BlockWriter`."""

    def __init__(self, volume: FolderVolume, md5sum: str, name: str, fd: int, size: int) -> None:
        self._volume = volume
        self._md5sum = md5sum
        self._name = name
        self._fd = fd
        self._expected = size
        self._committed = False

    def close(self) -> None:
        """Close the file, and remove what was not committed."""
        self._volume.wrote(self._expected)
        os.close(self._fd)
        if not self._committed:
            self._volume.discard(self._name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes."""
        with failures(self._volume.path):
            write_all(self._fd, data)

    def commit(self) -> None:
        """Have the file renamed to the block, once it has reached the disk."""
        self._volume.install(self._md5sum, self._name, self._fd)
        self._committed = True

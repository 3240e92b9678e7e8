"""A volume in a local folder.

A block is the file ``<first 3 digits>/<hash>``. It is written in ``tmp/`` under a name of its own
and renamed when it is complete and, unless that is switched off, has reached the disk; so a block
is there as a whole or not at all, whenever the process or the machine ends. What a crash leaves in
``tmp/`` is removed at the next start. In the trash a block is ``<hash>.trash.<deadline>``, beside
where it was.

The file ``volume`` holds the volume's uuid, and a lock for as long as a service uses the folder.

Every file is opened relative to an open folder and never through a symbolic link; what is no
regular file is no block. Files and folders belong to the service's user alone.

Touching, replacing and removing lock the block's file, and then look whether the name still is
that file's: so a block that was touched is not removed by who saw its old time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import threading
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from holdfast.blocks.locators import BLOCK, HASH
from holdfast.blocks.server.folder_files import (
    DIRECTORY,
    FILE,
    NEW,
    Reader,
    Writer,
    directory,
    failures,
    files,
    folders,
    is_there,
    open_regular,
    sync,
    write_all,
)
from holdfast.blocks.server.folder_identity import Identity
from holdfast.blocks.server.volumes import (
    RESERVE,
    BlockMissing,
    BlockTooNew,
    Emptied,
    Stored,
    VolumeError,
    VolumeFull,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FolderVolume"]

_TRASHED = re.compile(r"([0-9a-f]{32})\.trash\.([0-9]{1,12})")

TEMPORARY = "tmp"


class FolderVolume:
    """A volume in a folder, which is made when it is not there; see the module and `Volume`.

    ``read_only``: nothing is written, not even a lock. ``fsync``: whether what is stored has
    reached the disk before it counts as stored. ``uuid``: its name, by default the one in the
    folder, or a new one. ``classes`` and ``replication`` as in `Volume`.

    Raises VolumeError when the folder cannot be used, or another service uses it.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        fsync: bool = True,
        uuid: str = "",
        classes: tuple[str, ...] = ("default",),
        replication: int = 1,
    ) -> None:
        self.path = path
        self.writable = not read_only
        self.classes = classes
        self.replication = replication
        self.quick = not fsync
        self._fsync = fsync
        self._lock = threading.Lock()
        self._pending = 0  # bytes that are still to come in blocks being written
        self._numbers = count()  # of temporary files
        self._peeks = hasattr(os, "RWF_NOWAIT")
        with failures(path):
            if not read_only:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with failures(path):
                self._identity = Identity(self._root, path, uuid, locked=not read_only)
                if not read_only:
                    self._clean()
        except BaseException:
            os.close(self._root)
            raise
        self.uuid = self._identity.uuid
        self.device_id = self._identity.uuid

    def __repr__(self) -> str:
        return f"<FolderVolume {self.uuid} {self.path}>"

    def _clean(self) -> None:
        """Remove what a crash has left of blocks that were being written."""
        folder = directory(TEMPORARY, self._root, make=True)
        try:
            for name in os.listdir(folder):
                os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)

    @contextmanager
    def _folder(self, md5sum: str, *, make: bool = False) -> Iterator[int]:
        """Open the folder of a block."""
        try:
            fd = directory(md5sum[:3], self._root, make=make, synced=self._fsync)
        except FileNotFoundError:
            raise BlockMissing(md5sum) from None
        try:
            yield fd
        finally:
            os.close(fd)

    def _open(self, md5sum: str) -> int:
        with self._folder(md5sum) as folder:
            return open_regular(md5sum, folder)

    @contextmanager
    def _locked(self, name: str, folder: int) -> Iterator[int]:
        """Open a file and lock it, so that nobody touches, replaces or removes it."""
        while True:
            fd = open_regular(name, folder)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                try:
                    now = os.stat(name, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    raise BlockMissing(name) from None
                if os.path.samestat(now, os.fstat(fd)):
                    yield fd
                    return
            finally:
                os.close(fd)
            # It was replaced while we waited for the lock.

    def peek(self, md5sum: str, limit: int) -> bytes | None:
        """Return a small block that the system has in memory."""
        if not self._peeks:
            return None
        # Without the context managers of the others: this is the whole work of a small GET.
        folder = fd = -1
        try:
            folder = os.open(md5sum[:3], DIRECTORY, dir_fd=self._root)
            fd = os.open(md5sum, FILE, dir_fd=folder)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise BlockMissing(md5sum)
            if status.st_size > limit:
                return None
            buffer = bytearray(status.st_size)
            got = os.preadv(fd, [buffer], 0, os.RWF_NOWAIT)
        except FileNotFoundError:
            raise BlockMissing(md5sum) from None
        except BlockingIOError:  # not in memory
            return None
        except OSError as error:
            self.not_at_once(error)
            return None
        finally:
            if fd >= 0:
                os.close(fd)
            if folder >= 0:
                os.close(folder)
        return bytes(buffer) if got == len(buffer) else None

    def open(self, md5sum: str, *, once: bool = False) -> Reader:
        """Open a block to be read."""
        with failures(self.path, md5sum):
            return Reader(self, self._open(md5sum), once)

    def open_at_once(self, md5sum: str) -> Reader | None:
        """Open a block to be read, unless the file system keeps its files elsewhere."""
        return self.open(md5sum) if self._peeks else None

    def not_at_once(self, error: OSError) -> None:
        """Note why a file could not be read without a wait: also for the reader."""
        if error.errno == errno.EOPNOTSUPP:
            self._peeks = False  # never on this file system

    def add(self, md5sum: str, data: bytes) -> bool:
        """Store a block in one go, unless there is one of that hash; tells whether it did."""
        # Without the context managers of the others: this is most of the work of a small PUT.
        self._writing()
        with failures(self.path):
            folder = directory(md5sum[:3], self._root, make=True, synced=self._fsync)
            try:
                if is_there(md5sum, folder):
                    return False
                self._reserve(0)
                name = self._temporary(md5sum)
                fd = os.open(name, NEW, 0o600, dir_fd=self._root)
                try:
                    write_all(fd, data)
                    sync(fd, self._fsync)
                    os.rename(name, md5sum, src_dir_fd=self._root, dst_dir_fd=folder)
                except BaseException:
                    self.discard(name)
                    raise
                finally:
                    os.close(fd)
                sync(folder, self._fsync)
                return True
            finally:
                os.close(folder)

    def create(self, md5sum: str, size: int = BLOCK) -> Writer:
        """Begin to write a block; the folder is full with less than 64 MiB left."""
        self._writing()
        with failures(self.path, md5sum):
            self._reserve(size)
            try:
                name = self._temporary(md5sum)
                return Writer(
                    self, md5sum, name, os.open(name, NEW, 0o600, dir_fd=self._root), size
                )
            except BaseException:
                self.wrote(size)
                raise

    def _writing(self) -> None:
        if not self.writable:
            raise VolumeError(f"{self.path} is read-only")

    def _temporary(self, md5sum: str) -> str:
        # No other process writes here, for the folder is locked.
        return f"{TEMPORARY}/{md5sum}.{next(self._numbers)}"

    def _reserve(self, size: int) -> None:
        """Count bytes as still to come; raises VolumeFull."""
        status = os.fstatvfs(self._root)
        with self._lock:
            if status.f_bavail * status.f_frsize - self._pending < RESERVE:
                raise VolumeFull(f"{self.path} is full")
            self._pending += size

    def wrote(self, size: int) -> None:
        """Count bytes no longer as still to come: for the writer."""
        with self._lock:
            self._pending -= size

    def install(self, md5sum: str, name: str, fd: int) -> None:
        """Make a complete file the block of its hash: for the writer."""
        with failures(self.path, md5sum), self._folder(md5sum, make=True) as folder:
            sync(fd, self._fsync)
            try:
                with self._locked(md5sum, folder):
                    os.rename(name, md5sum, src_dir_fd=self._root, dst_dir_fd=folder)
            except BlockMissing:
                os.rename(name, md5sum, src_dir_fd=self._root, dst_dir_fd=folder)
            sync(folder, self._fsync)

    def discard(self, name: str) -> None:
        """Remove a file that is not to be a block: for the writer."""
        with failures(self.path):
            try:
                os.unlink(name, dir_fd=self._root)
            except FileNotFoundError:  # renamed, before it failed after all
                pass

    def stat(self, md5sum: str) -> Stored:
        """Return what is known about a block."""
        with failures(self.path, md5sum), self._folder(md5sum) as folder:
            found = os.stat(md5sum, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise BlockMissing(md5sum)
        return Stored(md5sum, found.st_size, found.st_mtime_ns)

    def touch(self, md5sum: str) -> None:
        """Set a block's time to now."""
        self._writing()
        with (
            failures(self.path, md5sum),
            self._folder(md5sum) as folder,
            self._locked(md5sum, folder) as fd,
        ):
            os.utime(fd)
            sync(fd, self._fsync)

    def trash(self, md5sum: str, older_than: int, deadline: int) -> None:
        """Take a block away: into the trash, or for good."""
        self._writing()
        with (
            failures(self.path, md5sum),
            self._folder(md5sum) as folder,
            self._locked(md5sum, folder) as fd,
        ):
            if os.fstat(fd).st_mtime_ns >= older_than:
                raise BlockTooNew(md5sum)
            if deadline:
                trashed = f"{md5sum}.trash.{deadline}"
                os.rename(md5sum, trashed, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                os.unlink(md5sum, dir_fd=folder)
            sync(folder, self._fsync)

    def untrash(self, md5sum: str) -> None:
        """Bring a block back from the trash: of several, the one that was there last."""
        self._writing()
        with failures(self.path, md5sum), self._folder(md5sum) as folder:
            found = (_TRASHED.fullmatch(name) for name in os.listdir(folder))
            deadlines = [int(one[2]) for one in found if one and one[1] == md5sum]
            if not deadlines:
                raise BlockMissing(md5sum)
            name = f"{md5sum}.trash.{max(deadlines)}"
            with self._locked(name, folder) as fd:
                os.utime(fd)
                sync(fd, self._fsync)
                try:
                    # Never over a block that was put meanwhile.
                    os.link(name, md5sum, src_dir_fd=folder, dst_dir_fd=folder)
                except FileExistsError:
                    pass
                else:
                    os.unlink(name, dir_fd=folder)
                sync(folder, self._fsync)

    def index(self, prefix: str = "") -> Iterator[Stored]:
        """Iterate over the blocks, folder by folder."""
        with failures(self.path):
            names = folders(self._root, prefix)
        for name in names:
            with failures(self.path):
                found = [
                    Stored(entry, status.st_size, status.st_mtime_ns)
                    for entry, status in files(name, self._root)
                    if HASH.fullmatch(entry) and entry.startswith(prefix)
                ]
            yield from found

    def empty(self, now: float) -> Emptied:
        """Remove what was in the trash beyond its deadline."""
        blocks = size = 0
        with failures(self.path):
            names = folders(self._root)
        for name in names:
            with failures(self.path):
                for entry, status in files(name, self._root):
                    trashed = _TRASHED.fullmatch(entry)
                    if trashed and int(trashed[2]) <= now and self._remove(name, entry):
                        blocks += 1
                        size += status.st_size
        return Emptied(blocks, size)

    def _remove(self, folder_name: str, name: str) -> bool:
        with self._folder(folder_name) as folder:
            try:
                # Not while it is being brought back.
                with self._locked(name, folder):
                    os.unlink(name, dir_fd=folder)
            except BlockMissing:
                return False
        return True

    def free(self) -> int:
        """Return how many bytes are free for blocks."""
        with failures(self.path):
            status = os.fstatvfs(self._root)
        return status.f_bavail * status.f_frsize

    def close(self) -> None:
        """Give back the lock and the open folder."""
        self._identity.close()
        os.close(self._root)

"""A cache of blocks on disk, which processes share and which survives them.

Theory of operation: a block is a file of its own, ``<two digits>/<hash>.<boot>``. It is written
under a temporary name and renamed when it is complete, so that whoever opens it finds all of it.
That holds as long as the system runs; after a crash of the system a file may have its name and
not its content. So the name has the system's boot id: a file of an earlier boot is read through
and checked before it is used, and then renamed to the present one. The time of a file is when
its block was used last. When there is too much, the process that notices removes the oldest
files, under a lock; a file that is being read stays with its reader.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import random
import re
import resource
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from holdfast.blocks.errors import KeepCacheError
from holdfast.blocks.locators import BLOCK
from holdfast.blocks.receiving import md5

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

__all__ = ["DiskCache"]

logger = logging.getLogger("holdfast.blocks")

_NAME = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{8})")
_TEMPORARY = "new-"

#: After how many seconds a temporary file is taken for that of a process that died.
_ABANDONED = 3600.0

#: Down to which share of the limits is removed at once, so that it need not be done each time.
_LEAVE = 0.9

#: The most blocks, should the system know no limit of open files.
_MOST = 1 << 16


class _Entry(NamedTuple):
    used: int  # when, in nanoseconds since the epoch
    size: int
    path: str


class DiskCache:
    """Blocks in a folder: at most ``size`` bytes and ``slots`` blocks; see `KeepBlockCache`."""

    slow = True

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, size: int = 0, slots: int = 0
    ) -> None:
        self._folder = _default_folder() if folder is None else Path(folder)
        self._boot = _boot()
        self._lock = threading.Lock()
        #: Files of earlier boots, by hash.
        self._old: dict[str, str] = {}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._folder / ".lock").open("a"):
                pass
            self._slots = slots or _default_slots()
            entries = self._entries()
            self._size = size or _default_size(
                self._folder, self._slots, sum(one.size for one in entries)
            )
        except OSError as error:
            raise KeepCacheError(f"{self._folder}: no cache of blocks: {error.strerror}") from error
        # What is there, as far as this process knows: the truth is in the folder.
        self._held = sum(one.size for one in entries)
        self._count = len(entries)
        if self._too_much:
            self._trim()

    def __repr__(self) -> str:
        return f"<DiskCache {self._folder}>"

    @property
    def size(self) -> int:
        """The most bytes."""
        return self._size

    def __contains__(self, md5sum: object) -> bool:
        if not isinstance(md5sum, str):
            return False
        return os.path.exists(self._path(md5sum)) or md5sum in self._old

    def get(self, md5sum: str) -> bytes | None:
        """Return a block, which counts as used; None when it is not there."""
        path = self._path(md5sum)
        try:
            data = _read(path)
        except FileNotFoundError:
            return self._checked(md5sum) if self._old else None
        except OSError as error:
            logger.warning("%s: a cached block cannot be read: %s", path, error.strerror)
            return None
        return data

    def set(self, md5sum: str, data: bytes) -> None:
        """Keep a block, and let go of those that were used longest ago.

        A disk that is full, or that fails, is only logged: the block is there all the same.
        """
        if len(data) > self._size or md5sum in self:
            return
        path = self._path(md5sum)
        temporary = self._folder / f"{_TEMPORARY}{os.getpid()}-{random.getrandbits(64):016x}"
        try:
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.rename(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            logger.warning("%s: a block cannot be cached: %s", self._folder, error.strerror)
            return
        with self._lock:
            self._held += len(data)
            self._count += 1
            too_much = self._too_much
        if too_much:
            self._trim()

    def reclaim(self, size: int) -> io.BytesIO | None:
        """Return None: what is on disk has no memory."""
        return None

    def clear(self) -> None:
        """Let go of all blocks, of other processes as well."""
        with self._removing() as mine:
            if mine:
                for entry in self._entries():
                    _remove(entry.path)
                self._held = self._count = 0
                self._old = {}

    def forget_locks(self) -> None:
        """Have a lock that nobody holds, in a forked process."""
        self._lock = threading.Lock()

    def _path(self, md5sum: str) -> str:
        return f"{self._folder}/{md5sum[:2]}/{md5sum}.{self._boot}"

    def _checked(self, md5sum: str) -> bytes | None:
        """Return a block that an earlier boot has left, if it is whole."""
        path = self._old.pop(md5sum, None)
        if path is None:
            return None
        try:
            data = _read(path)
            if md5(data) == md5sum:
                os.rename(path, self._path(md5sum))
                return data
            logger.warning("%s: a cached block is damaged, and removed", path)
        except OSError:
            return None
        _remove(path)
        return None

    @property
    def _too_much(self) -> bool:
        return self._held > self._size or self._count > self._slots

    def _trim(self) -> None:
        """Remove what was used longest ago, unless another process does."""
        with self._removing() as mine:
            entries = sorted(self._entries())
            held, count = sum(one.size for one in entries), len(entries)
            if mine and (held > self._size or count > self._slots):
                most, slots = self._size * _LEAVE, self._slots * _LEAVE
                for entry in entries[:-1]:  # a block was just put there
                    if held <= most and count <= slots:
                        break
                    _remove(entry.path)
                    held -= entry.size
                    count -= 1
            with self._lock:
                self._held, self._count = held, count

    @contextmanager
    def _removing(self) -> Iterator[bool]:
        """Hold the folder's lock; tells whether it does, and no other process is at it."""
        try:
            file = (self._folder / ".lock").open("a")
        except OSError:
            yield False
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True

    def _entries(self) -> list[_Entry]:
        """Return the files that are there; those of dead processes are removed."""
        found = []
        old = {}
        for folder in list(_scanned(self._folder)):
            if folder.name.startswith(_TEMPORARY):
                _remove_abandoned(folder)
                continue
            if len(folder.name) != 2:
                continue
            for file in _scanned(folder.path):
                named = _NAME.fullmatch(file.name)
                if named is None:
                    continue
                try:
                    status = file.stat()
                except OSError:
                    continue
                found.append(_Entry(status.st_mtime_ns, status.st_size, file.path))
                if named[2] != self._boot:
                    old[named[1]] = file.path
        self._old = old
        return found


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        data = file.readall()
        now = time.time_ns()
        os.utime(file.fileno(), ns=(now, now))
    return data


def _scanned(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _remove_abandoned(entry: os.DirEntry[str]) -> None:
    try:
        if entry.stat().st_mtime < time.time() - _ABANDONED:
            os.unlink(entry.path)
    except OSError:
        pass


def _boot() -> str:
    """Return eight digits that stay the same until the system starts again."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        # Unknown: then no other process's files are trusted without a look.
        boot = os.urandom(16)
    return hashlib.sha256(boot).hexdigest()[:8]


def _default_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "holdfast" / "blocks"


def _default_slots() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(max(soft // 8, 1), _MOST) if soft != resource.RLIM_INFINITY else _MOST


def _default_size(folder: Path, slots: int, held: int) -> int:
    usage = shutil.disk_usage(folder)
    # What the cache holds already counts as free: else it would shrink with each start.
    return max(min(usage.total // 10, (usage.free + held) // 4, slots * BLOCK), BLOCK)

"""The folder that files are restored into, and nothing outside of it.

Each folder on the way to a file is opened by its name in the one before, and no link is followed:
wherever links below the folder lead, now or a moment later, nothing is written there.

A file is written under a temporary name next to its own, `.…holdfast-part`, and gets its own when
it is complete. What an interrupted get has written stays there for the next one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.blocks.files.errors import FilesError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Destination", "is_part", "preadall"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

_PART = re.compile(r"\.[0-9a-f]{20}\.holdfast-part")


class Destination:
    """A folder that files are restored into, made if need be; a context manager.

    One process at a time restores into a folder: raises FilesError for a second one.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = os.fspath(folder)
        os.makedirs(self.path, exist_ok=True)
        self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._lock = threading.Lock()
        #: How many there are that use it: its opener, and operations on threads.
        self._users = 1
        self._closed = False
        try:
            fcntl.flock(self._root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._root)
            raise FilesError(f"{self.path}: something else is being restored there") from None
        except OSError:
            pass  # a file system without locks

    def close(self) -> None:
        """Give the folder back, once the last operation that is under way on a thread is over."""
        with self._lock:
            self._closed = True
        self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = not self._users
        if last:
            os.close(self._root)

    def free(self) -> int:
        """Return how many bytes are free."""
        with self._within("") as opened:
            status = os.fstatvfs(opened)
        return status.f_bavail * status.f_frsize

    @contextmanager
    def _within(self, folder: str, make: bool = False) -> Iterator[int]:
        """Open a folder below it; ``make``: make what is missing."""
        with self._lock:
            if self._closed:
                raise FilesError(f"{self.path}: it was given up")
            self._users += 1
        opened = self._root
        try:
            for name in folder.split("/") if folder else ():
                if make:
                    try:
                        os.mkdir(name, dir_fd=opened)
                    except FileExistsError:
                        pass
                inner = os.open(name, _FOLDER, dir_fd=opened)
                if opened != self._root:
                    os.close(opened)
                opened = inner
            yield opened
        finally:
            if opened != self._root:
                os.close(opened)
            self._leave()

    def make(self, folder: str) -> None:
        """Make a folder, and those that it is in."""
        try:
            with self._within(folder, make=True):
                pass
        except OSError as error:
            raise FilesError("a folder cannot be made", [self._problem(folder, error)]) from error

    def _problem(self, path: str, error: OSError) -> Problem:
        why = error.strerror or str(error)
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            why = "something that is no folder is in the way, such as a link"
        return Problem(os.path.join(self.path, path), why)

    def look(self, path: str, part: bool = False) -> os.stat_result | None:
        """Return what is there by the name of a file, None for nothing.

        ``part``: what an interrupted get has left of it.
        """
        folder, _, name = path.rpartition("/")
        try:
            with self._within(folder) as opened:
                name = _part(name) if part else name
                return os.stat(name, dir_fd=opened, follow_symlinks=False)
        except OSError as error:
            # What is in the way of its folder is told when that is made.
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                return None
            raise FilesError("a file cannot be looked at", [self._problem(path, error)]) from error

    @contextmanager
    def open(self, path: str, part: bool, *, make: bool = False) -> Iterator[int]:
        """Open a file to be read, or with ``part`` what is there of it, to be written, too.

        ``make``: make it, if need be. Raises FilesError.
        """
        folder, _, name = path.rpartition("/")
        flags = _FILE | ((os.O_RDWR | (os.O_CREAT if make else 0)) if part else os.O_RDONLY)
        try:
            with self._within(folder) as opened:
                file = os.open(_part(name) if part else name, flags, 0o666, dir_fd=opened)
        except OSError as error:
            problem = self._problem(path, error)
            raise FilesError("a file cannot be opened", [problem]) from error
        try:
            if part:
                self._check_part(path, os.fstat(file))
            yield file
        except OSError as error:
            problem = self._problem(path, error)
            raise FilesError("a file cannot be written", [problem]) from error
        finally:
            os.close(file)

    def _check_part(self, path: str, status: os.stat_result) -> None:
        """Refuse what was not left by a get, such as a second name of a file that is elsewhere."""
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            name = os.path.join(os.path.dirname(path), _part(os.path.basename(path)))
            problem = Problem(os.path.join(self.path, name), "no get has left this; remove it")
            raise FilesError("a file cannot be written", [problem])

    def finish(self, path: str, fsync: bool) -> None:
        """Give a complete file its name; ``fsync``: once it has reached the disk."""
        folder, _, name = path.rpartition("/")
        if fsync:
            with self.open(path, True) as file:
                os.fsync(file)
        try:
            with self._within(folder) as opened:
                os.replace(_part(name), name, src_dir_fd=opened, dst_dir_fd=opened)
        except OSError as error:
            problem = self._problem(path, error)
            raise FilesError("a file cannot be renamed", [problem]) from error

    def forget(self, path: str) -> None:
        """Remove what an interrupted get has left of a file."""
        folder, _, name = path.rpartition("/")
        try:
            with self._within(folder) as opened:
                os.unlink(_part(name), dir_fd=opened)
        except OSError as error:
            problem = self._problem(path, error)
            raise FilesError("a file cannot be removed", [problem]) from error

    def sync(self, folder: str) -> None:
        """Have the names in a folder reach the disk."""
        try:
            with self._within(folder) as opened:
                os.fsync(opened)
        except OSError as error:
            problem = self._problem(folder, error)
            raise FilesError("a folder cannot be written", [problem]) from error


def _part(name: str) -> str:
    # By a hash, since the name may be as long as names can be.
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{digest[:20]}.holdfast-part"


def is_part(name: str) -> bool:
    """Return whether a name is one of ours, of a file that is not complete."""
    return _PART.fullmatch(name) is not None


def preadall(file: int, size: int, offset: int) -> bytes:
    """Return a part of a file; shorter only where the file ends."""
    parts = []
    while size:
        data = os.pread(file, size, offset)
        if not data:
            break
        parts.append(data)
        size -= len(data)
        offset += len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)

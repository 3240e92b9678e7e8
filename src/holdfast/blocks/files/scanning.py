"""What there is to be stored: the files in given folders, and what cannot be stored."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from holdfast.blocks.files.destination import is_part
from holdfast.blocks.files.errors import FilesError, Problem
from holdfast.blocks.manifests import SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Found", "Scan", "scan"]

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

#: Devices and inodes: of the folders that one is in.
_Inodes: TypeAlias = frozenset[tuple[int, int]]
_NOWHERE: _Inodes = frozenset()


class Found(NamedTuple):
    """A file: where it is, under which path it is to be stored, and what it was then."""

    source: str
    path: str
    size: int
    mtime_ns: int
    inode: tuple[int, int]

    def is_still(self, status: os.stat_result) -> bool:
        """Return whether it was not changed since."""
        return (self.size, self.mtime_ns, self.inode) == (
            status.st_size,
            status.st_mtime_ns,
            (status.st_dev, status.st_ino),
        )


class Scan:
    """What was found: files in a certain order, empty folders, and what cannot be stored."""

    def __init__(self, follow_links: bool) -> None:
        self.files: list[Found] = []
        self.folders: list[str] = []
        self.problems: list[Problem] = []
        #: What is left out on purpose.
        self.left_out: list[Problem] = []
        self._follow = follow_links

    def add(self, source: str, path: str) -> None:
        """Add a file, or a folder with all that is in it; ``source`` may be a link to such."""
        left = [(source, path, _NOWHERE)]
        while left:
            # A few folders of links to each other can have any number of paths.
            if len(self.files) + len(self.folders) > SEGMENTS:
                raise FilesError(f"nothing was stored: there are more than {SEGMENTS:,} files")
            source, path, ancestors = left.pop()
            left += reversed(self._one(source, path, ancestors))

    def _one(self, source: str, path: str, ancestors: _Inodes) -> list[tuple[str, str, _Inodes]]:
        """Add a file; return what is in a folder."""
        try:
            status = os.stat(source)
        except OSError as error:
            self._problem(source, _reason(source, error))
            return []
        inode = (status.st_dev, status.st_ino)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            if inode in ancestors:
                self._problem(source, "a link to a folder that it is in")
                return []
            return self._folder(source, path, ancestors | {inode})
        if kind != stat.S_IFREG:
            what = _KINDS.get(kind, "something else")
            self._problem(source, f"{what}, neither a file nor a folder")
        elif not os.access(source, os.R_OK):
            self._problem(source, "it cannot be read")
        else:
            self.files.append(Found(source, path, status.st_size, status.st_mtime_ns, inode))
        return []

    def _folder(self, source: str, path: str, ancestors: _Inodes) -> list[tuple[str, str, _Inodes]]:
        try:
            with os.scandir(source) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self._problem(source, _reason(source, error))
            return []
        if not entries and path:
            self.folders.append(path)
        inside = []
        for entry in entries:
            if not self._follow and entry.is_symlink():
                self.left_out.append(Problem(entry.path, "a link"))
                continue
            if is_part(entry.name):
                self.left_out.append(Problem(entry.path, "left by a get that was interrupted"))
                continue
            name = f"{path}/{entry.name}" if path else entry.name
            inside.append((entry.path, name, ancestors))
        return inside

    def _problem(self, source: str, why: str) -> None:
        self.problems.append(Problem(source, why))


def _reason(source: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and os.path.islink(source):
        return "a link to nothing"
    return error.strerror or str(error)


def scan(paths: Iterable[str | os.PathLike[str]], follow_links: bool = True) -> Scan:
    """Find the files of some paths, and under which paths they are to be stored.

    A file or folder is stored by its name; of one that ends with a slash, or is ``.`` or ``..``,
    what is in it. Two that would have one path raise FilesError.
    """
    scanned = Scan(follow_links)
    for given in paths:
        source = os.fsdecode(given)
        name = os.path.basename(source)
        scanned.add(source, "" if name in ("", ".", "..") else name)
    seen: dict[str, str] = {}
    for one in scanned.files:
        if one.path in seen:
            problem = Problem(one.source, f"{one.path} is also {seen[one.path]}")
            raise FilesError("two files would have one path", [problem])
        seen[one.path] = one.source
    return scanned

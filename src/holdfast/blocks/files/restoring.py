"""Files on their way back: what is there of them, and what is still to be written.

Of what an earlier get has left, complete files or parts, nothing is believed: the bytes of a block
are read from there, and count only when they have its hash.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from typing import TYPE_CHECKING, NamedTuple

from holdfast.blocks.files.destination import is_part, preadall
from holdfast.blocks.files.errors import FilesError, Problem
from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.receiving import md5
from holdfast.blocks.segments import stripped

if TYPE_CHECKING:
    from holdfast.blocks.files.destination import Destination
    from holdfast.blocks.segments import Manifest

__all__ = ["Found", "Place", "Restoring"]


class Place(NamedTuple):
    """Where some bytes of a block belong: into which file, and from where on."""

    file: File
    position: int
    offset: int
    size: int


class File:
    """A file on its way, and what is there of it."""

    __slots__ = ("blocks", "complete", "found", "lock", "part", "path", "size")

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.size = size
        #: How many blocks are still to come.
        self.blocks = 0
        #: Whether the complete file was there, and may be what it should be.
        self.complete = False
        #: Whether a part of it was there.
        self.found = False
        #: Whether it is written under its temporary name.
        self.part = False
        self.lock = threading.Lock()


class Found(NamedTuple):
    """A block, and the places that are known to have their bytes of it."""

    data: bytes
    right: frozenset[Place] = frozenset()


class Restoring:
    """The restoring of a manifest's files; its methods belong on threads."""

    def __init__(
        self, manifest: Manifest, destination: Destination, overwrite: bool, fsync: bool
    ) -> None:
        self._manifest = manifest
        self._destination = destination
        self._overwrite = overwrite
        self._fsync = fsync
        self._lock = threading.Lock()
        self.total = 0
        #: The places of each block, by its locator.
        self.blocks: dict[str, list[Place]] = {}

    def prepare(self) -> None:
        """Look at what is there, and make folders and empty files; raises FilesError."""
        destination = self._destination
        problems: list[Problem] = []
        files = []
        needed = 0
        names: dict[str, str] = {}
        for path, segments in self._manifest.files.items():
            file = File(path, sum(segment.size for segment in segments))
            files.append(file)
            self.total += file.size
            there = destination.look(path)
            part = destination.look(path, part=True)
            file.found = part is not None and stat.S_ISREG(part.st_mode)
            if is_part(path.rpartition("/")[2]):
                problems.append(self._problem(file, "this name is for what is not complete"))
            elif there is None:
                pass
            elif not stat.S_ISREG(there.st_mode):
                problems.append(self._problem(file, "something else is there"))
            elif there.st_size == file.size:
                file.complete = True
            elif not self._overwrite:
                problems.append(self._problem(file, "another file is there"))
            if not file.complete:
                # Of a part that was begun there may be little on the disk.
                needed += max(file.size - (part.st_blocks * 512 if part else 0), 0)
            used = {}
            position = 0
            for segment in segments:
                locator = names.setdefault(stripped(segment.locator), segment.locator)
                place = Place(file, position, segment.offset, segment.size)
                self.blocks.setdefault(locator, []).append(place)
                used[locator] = True
                position += segment.size
            file.blocks = len(used)
        if problems:
            raise FilesError("nothing was restored, since something is in the way", problems)
        if needed > (free := destination.free()):
            raise FilesError(
                f"{destination.path}: {needed:,} bytes more are needed, and {free:,} are free"
            )
        folders = {file.path.rpartition("/")[0] for file in files}
        for folder in sorted(folders | set(self._manifest.folders)):
            destination.make(folder)
        for file in files:
            if not file.blocks:
                self._finish(file)

    def _problem(self, file: File, why: str) -> Problem:
        return Problem(os.path.join(self._destination.path, file.path), why)

    def found(self, locator: str) -> Found | None:
        """Return a block if it is all in files that are there, None otherwise.

        And the places that it was found in, which need not be written.
        """
        places = [one for one in self.blocks[locator] if one.file.complete or one.file.found]
        size = KeepLocator(locator).size or 0
        if not places:
            return None
        places.sort(key=lambda one: one.offset)
        parts = []
        right = set()
        begin = 0
        for place in places:
            end = place.offset + place.size
            if end <= begin:
                continue
            if place.offset > begin:
                return None
            skipped = begin - place.offset
            part = self._read(place.file, place.position + skipped, end - begin)
            if len(part) < end - begin:
                return None
            parts.append(part)
            if not skipped:
                right.add(place)
            begin = end
        if begin < size:
            return None
        data = b"".join(parts)
        return Found(data, frozenset(right)) if md5(data) == locator[:32] else None

    def _read(self, file: File, position: int, size: int) -> bytes:
        try:
            with self._destination.open(file.path, file.part or not file.complete) as opened:
                return preadall(opened, size, position)
        except FilesError:
            return b""

    def write(self, locator: str, block: Found) -> None:
        """Write a block to its places, and give the files that are complete their names."""
        places = self.blocks[locator]
        with memoryview(block.data) as view:
            for place in places:
                right = place in block.right
                if right and place.file.complete:
                    continue
                with view[place.offset : place.offset + place.size] as piece:
                    self._place(place.file, place.position, piece, right)
        for file in {place.file.path: place.file for place in places}.values():
            with self._lock:
                file.blocks -= 1
                last = not file.blocks
            if last:
                self._finish(file)

    def _place(self, file: File, position: int, piece: memoryview, right: bool) -> None:
        with file.lock:
            if not file.part and not self._begun(file, position, piece):
                return
        if right:
            return
        with self._destination.open(file.path, True) as opened:
            if file.found and preadall(opened, len(piece), position) == piece:
                return
            written = 0
            while written < len(piece):
                with piece[written:] as rest:
                    written += os.pwrite(opened, rest, position + written)

    def _begun(self, file: File, position: int, piece: memoryview) -> bool:
        """Begin to write a file; return False where the one that is there has the bytes."""
        destination = self._destination
        if file.complete:
            with destination.open(file.path, False) as opened:
                if preadall(opened, len(piece), position) == piece:
                    return False
                if not self._overwrite:
                    problem = self._problem(file, "another file is there")
                    raise FilesError("not restored, since something is in the way", [problem])
                # What is right in it need not be written, and was perhaps not even fetched.
                with (
                    destination.open(file.path, True, make=True) as part,
                    open(opened, "rb", closefd=False) as source,
                    open(part, "wb", closefd=False) as copy,
                ):
                    source.seek(0)
                    copy.truncate(0)
                    shutil.copyfileobj(source, copy, 1 << 20)
            file.found = True
        else:
            with destination.open(file.path, True, make=True) as part:
                os.ftruncate(part, file.size)
        file.part = True
        return True

    def _finish(self, file: File) -> None:
        destination = self._destination
        if not file.size and not file.complete:
            with destination.open(file.path, True, make=True) as part:
                os.ftruncate(part, 0)
            file.part = True
        if file.part:
            destination.finish(file.path, self._fsync)
        elif file.found:
            destination.forget(file.path)

    def sync(self) -> None:
        """Have all names reach the disk."""
        folders = {""}
        for path in (*self._manifest.files, *self._manifest.folders):
            while path := path.rpartition("/")[0]:
                folders.add(path)
        for folder in folders:
            self._destination.sync(folder)

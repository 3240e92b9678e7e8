"""Put: files become blocks, and a manifest that tells how.

Folders are looked through first, so that what cannot be stored is known before anything is sent,
and how much there is to do. A file that has changed when its turn comes, or while it is read, is
such a problem, too: no file is stored as it never was.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from holdfast.blocks.errors import ArgumentError
from holdfast.blocks.files.access import Storing
from holdfast.blocks.files.distinct import distinct
from holdfast.blocks.files.errors import FilesError, Problem
from holdfast.blocks.files.journal import Journal
from holdfast.blocks.files.packing import Piece, plan, size_of
from holdfast.blocks.files.progress import Tally
from holdfast.blocks.files.scanning import scan
from holdfast.blocks.files.working import each, on_thread
from holdfast.blocks.locators import BLOCK
from holdfast.blocks.manifests import SEGMENTS, build
from holdfast.blocks.receiving import md5
from holdfast.blocks.segments import Manifest, ManifestError, Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.blocks.base import KeepBase
    from holdfast.blocks.files.progress import OnProgress
    from holdfast.blocks.files.scanning import Found, Scan
    from holdfast.ops import Program

__all__ = ["PARALLEL", "Put", "put"]

#: How many blocks are under way at a time: each is in memory meanwhile.
PARALLEL = 4


class Put(NamedTuple):
    """What was stored: see `Files.put`."""

    #: That of the manifest.
    locator: str
    files: int
    #: The bytes of all files.
    size: int
    #: The blocks that they are made of, with those of the manifest.
    blocks: int
    #: How many of these had to be sent, and their bytes.
    sent_blocks: int
    sent: int
    #: What was left out, and why.
    skipped: tuple[Problem, ...]


class _Putting:
    def __init__(self, storing: Storing, scanned: Scan, skip: bool, block_size: int) -> None:
        self._storing = storing
        self.files = scanned.files
        self.folders = scanned.folders
        self._skip = skip
        self._block_size = block_size
        self.plan = plan([one.size for one in self.files], block_size)
        #: The pieces and the locator of each block, in their order.
        self._locators: dict[int, str] = {}
        #: Files that were left out after all, by their numbers.
        self.skipped: dict[int, Problem] = {}
        self.manifest_blocks = 0

    def blocks(self, parallel: int, tally: Tally) -> Program[None]:
        """Store the blocks of the files."""

        def one(item: tuple[int, list[Piece]]) -> Program[None]:
            number, pieces = item
            data, digest, problems = yield from on_thread(_read, self.files, pieces)
            if problems and not self._skip:
                raise FilesError("nothing was stored, since files changed", problems.values())
            self.skipped.update(problems)
            locator, spared = yield from self._storing.store(digest, data)
            self._locators[number] = locator
            tally.add(len(data), spared)

        yield from each(iter(enumerate(self.plan)), one, parallel)

    def manifest(self) -> Program[str]:
        """Store the manifest, and return its locator, or several with commas between."""
        text = yield from on_thread(self._built)
        locators = []
        for begin in range(0, max(len(text), 1), self._block_size):
            part = text[begin : begin + self._block_size]
            digest = yield from on_thread(md5, part)
            locator, _ = yield from self._storing.store(digest, part)
            locators.append(locator)
        self.manifest_blocks = len(locators)
        return ",".join(locators)

    def _built(self) -> bytes:
        segments: list[list[Segment]] = [[] for _ in self.files]
        # The rest of a file comes after its whole blocks, whichever block it went into.
        for number, pieces in enumerate(self.plan):
            begin = 0
            for piece in pieces:
                segments[piece.file].append(Segment(self._locators[number], begin, piece.size))
                begin += piece.size
        kept = {
            one.path: parts
            for number, (one, parts) in enumerate(zip(self.files, segments, strict=True))
            if number not in self.skipped
        }
        return build(Manifest(kept, self.folders))


def put(
    client: KeepBase,
    paths: Sequence[str | os.PathLike[str]],
    copies: int,
    follow_links: bool,
    skip: bool,
    parallel: int,
    block_size: int,
    journal: str | os.PathLike[str] | None,
    progress: OnProgress | None,
) -> Program[Put]:
    """Store files and folders; see `Files.put`."""
    if copies < 1 or parallel < 1:
        raise ArgumentError("copies and parallel are numbers, from 1")
    if not 1 <= block_size <= BLOCK:
        raise ArgumentError(f"block_size is a number from 1 to {BLOCK}")
    scanned = yield from on_thread(scan, paths, follow_links)
    if scanned.problems and not skip:
        raise FilesError("nothing was stored, since some cannot be", scanned.problems)
    kept = yield from on_thread(Journal, None if journal is None else Path(journal))
    services = None if client.local_store else (yield from distinct(client.core))
    storing = Storing(client, copies, services, kept)
    putting = _Putting(storing, scanned, skip, block_size)
    # What cannot be together is refused before anything is sent.
    empty = sum(not one.size for one in scanned.files) + len(scanned.folders)
    yield from on_thread(_checked, scanned, sum(map(len, putting.plan)) + empty)
    tally = Tally(sum(one.size for one in scanned.files), progress)
    yield from putting.blocks(parallel, tally)
    locator = yield from putting.manifest()
    kept.remove()
    stored = [one for number, one in enumerate(putting.files) if number not in putting.skipped]
    return Put(
        locator,
        len(stored),
        sum(one.size for one in stored),
        len(putting.plan) + putting.manifest_blocks,
        storing.blocks,
        storing.sent,
        (*scanned.problems, *scanned.left_out, *putting.skipped.values()),
    )


def _checked(scanned: Scan, pieces: int) -> None:
    if pieces > SEGMENTS:
        raise FilesError(f"nothing was stored: a manifest has at most {SEGMENTS:,} parts of files")
    try:
        Manifest({one.path: () for one in scanned.files}, scanned.folders)
    except ManifestError as error:
        raise FilesError(f"nothing was stored: {error.why}") from None


def _read(
    files: Sequence[Found], pieces: Sequence[Piece]
) -> tuple[bytearray, str, dict[int, Problem]]:
    """Return a block, its hash, and what is wrong with which files in it."""
    data = bytearray(size_of(pieces))
    md5 = hashlib.md5(usedforsecurity=False)
    problems: dict[int, Problem] = {}
    begin = 0
    with memoryview(data) as view:
        for piece in pieces:
            with view[begin : begin + piece.size] as room:
                one = files[piece.file]
                try:
                    wrong = _fill(room, one, piece.offset)
                except OSError as error:
                    wrong = error.strerror or str(error)
                if wrong is not None:
                    problems[piece.file] = Problem(one.source, wrong)
                md5.update(room)
            begin += piece.size
    return data, md5.hexdigest(), problems


def _fill(room: memoryview, one: Found, offset: int) -> str | None:
    """Read a piece of a file; return why it is not what was found, None when it is."""
    # Something else may have its name by now, such as a pipe, which nobody writes to.
    with open(os.open(one.source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0) as file:
        if not one.is_still(os.fstat(file.fileno())):
            return "it changed meanwhile"
        filled = 0
        while filled < len(room):
            count = os.preadv(file.fileno(), [room[filled:]], offset + filled)
            if not count:
                return "it changed while it was read"
            filled += count
        if not one.is_still(os.fstat(file.fileno())):
            return "it changed while it was read"
    return None

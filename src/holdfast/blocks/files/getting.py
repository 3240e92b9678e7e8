"""Get: the files of a manifest are restored, block by block.

A block is fetched once, checked, and written to all the places that it belongs to. One that is
found in the files that an earlier get has left is not fetched.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from holdfast.blocks.errors import ArgumentError
from holdfast.blocks.files.access import get as get_block
from holdfast.blocks.files.destination import Destination
from holdfast.blocks.files.errors import FilesError, Problem
from holdfast.blocks.files.loading import load
from holdfast.blocks.files.progress import Tally
from holdfast.blocks.files.restoring import Found, Restoring
from holdfast.blocks.files.working import each, on_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.blocks.base import KeepBase
    from holdfast.blocks.files.progress import OnProgress
    from holdfast.blocks.files.restoring import Place
    from holdfast.ops import Program

__all__ = ["Got", "get"]


class Got(NamedTuple):
    """What was restored: see `Files.get`."""

    files: int
    #: The bytes of all files.
    size: int
    #: How many blocks had to be fetched, and their bytes.
    fetched_blocks: int
    fetched: int


def get(
    client: KeepBase,
    locator: str,
    folder: str | os.PathLike[str],
    overwrite: bool,
    fsync: bool,
    parallel: int,
    progress: OnProgress | None,
) -> Program[Got]:
    """Restore the files of a manifest; see `Files.get`."""
    if parallel < 1:
        raise ArgumentError("parallel is a number, from 1")
    manifest = yield from load(client, locator)
    # Not on a thread: a program that is closed meanwhile would never close it.
    with closing(_opened(folder)) as destination:
        getting = Restoring(manifest, destination, overwrite, fsync)
        yield from on_thread(getting.prepare)
        tally = Tally(getting.total, progress)
        fetched: list[int] = []

        def one(name: str) -> Program[None]:
            places: Sequence[Place] = getting.blocks[name]
            block: Found | None = None
            if any(place.file.complete or place.file.found for place in places):
                block = yield from on_thread(getting.found, name)
            spared = block is not None
            if block is None:
                block = Found((yield from get_block(client, name)))
                fetched.append(len(block.data))
            yield from on_thread(getting.write, name, block)
            tally.add(sum(place.size for place in places), spared)

        yield from each(iter(list(getting.blocks)), one, parallel)
        if fsync:
            yield from on_thread(getting.sync)
    return Got(len(manifest.files), manifest.size, len(fetched), sum(fetched))


def _opened(folder: str | os.PathLike[str]) -> Destination:
    try:
        return Destination(folder)
    except OSError as error:
        problem = Problem(os.fspath(folder), error.strerror or str(error))
        raise FilesError("the folder cannot be used", [problem]) from error

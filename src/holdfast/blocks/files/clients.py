"""`Files` and `AsyncFiles`: files as blocks, by a client of blocks."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, NamedTuple

from holdfast.blocks.errors import ArgumentError
from holdfast.blocks.files import getting, putting, status, verifying
from holdfast.blocks.files.loading import load
from holdfast.blocks.files.putting import PARALLEL
from holdfast.blocks.files.reader import BlockFile
from holdfast.blocks.locators import BLOCK
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.blocks.aio import AsyncKeepClient
    from holdfast.blocks.client import KeepClient
    from holdfast.blocks.files.getting import Got
    from holdfast.blocks.files.progress import OnProgress
    from holdfast.blocks.files.putting import Put
    from holdfast.blocks.files.status import ServiceStatus
    from holdfast.blocks.files.verifying import Verified
    from holdfast.blocks.segments import Manifest

__all__ = ["AsyncFiles", "Entry", "Files"]

#: How many blocks an open file fetches ahead.
AHEAD = 2


class Entry(NamedTuple):
    """A file, or an empty folder, whose path ends with a slash; and its size in bytes."""

    path: str
    size: int


class Files:
    """Stores files and folders as blocks, and restores them, by a `KeepClient`.

    Files are described by a manifest, which is stored as a block too, and whose locator is all
    that is needed to read them. Names and contents are stored; modes, owners and times are not,
    for which the format of manifests has no place.
    """

    def __init__(self, client: KeepClient) -> None:
        self._client = client

    def put(
        self,
        paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
        copies: int = 2,
        *,
        follow_links: bool = True,
        skip: bool = False,
        parallel: int = PARALLEL,
        block_size: int = BLOCK,
        journal: str | os.PathLike[str] | None = None,
        progress: OnProgress | None = None,
    ) -> Put:
        """Store files and folders; returns what was stored, and the locator of the manifest.

        A path is stored by its name; of one that ends with a slash, or is ``.``, what is in it.
        ``copies``: of each block, on so many services. Blocks that are there already, as found by
        asking the services, are not sent; services that sign locators tell that only to who has
        the signature, so those are kept in the file ``journal`` until all is stored, for a put
        that goes on where another one was interrupted.

        Symbolic links are stored as what they lead to, or left out without ``follow_links``. What
        cannot be stored (sockets, pipes and devices; links that lead nowhere, or to a folder that
        they are in; what cannot be read; files that change meanwhile) is an error, or left out
        with ``skip``: the result tells what was.

        ``parallel``: how many blocks are under way, and in memory, at a time. ``block_size``: the
        largest block in bytes. ``progress`` is called with a `Progress` after each block. A
        manifest that is larger than a block has several locators, with commas between.

        Raises FilesError, KeepWriteError, ManifestError for too much of it, ArgumentError.
        """
        return blocking.run(
            putting.put(
                self._client,
                _several(paths),
                copies,
                follow_links,
                skip,
                parallel,
                block_size,
                journal,
                progress,
            )
        )

    def get(
        self,
        locator: str,
        folder: str | os.PathLike[str] = ".",
        *,
        overwrite: bool = False,
        fsync: bool = False,
        parallel: int = PARALLEL,
        progress: OnProgress | None = None,
    ) -> Got:
        """Restore the files of a manifest into a folder, which is made if need be.

        Every block is checked. Each file appears when it is complete, under its name; until then
        it is a ``.….holdfast-part``, which another get goes on with. What is there already, and
        has the right content, is not fetched. Another file in its place is an error, unless
        ``overwrite`` replaces it. ``fsync``: have files and names reach the disk. Nothing is
        written outside of the folder, whatever the names, and links in it are not followed.

        Raises FilesError, KeepReadError, ManifestError, ArgumentError.
        """
        return blocking.run(
            getting.get(self._client, locator, folder, overwrite, fsync, parallel, progress)
        )

    def ls(self, locator: str) -> list[Entry]:
        """Return the files and empty folders of a manifest, sorted by path.

        Raises KeepReadError, ManifestError, ArgumentError.
        """
        return _entries(self.manifest(locator))

    def manifest(self, locator: str) -> Manifest:
        """Read a manifest; raises KeepReadError, ManifestError, ArgumentError."""
        return blocking.run(load(self._client, locator))

    def verify(
        self,
        locator: str,
        copies: int = 2,
        *,
        repair: bool = False,
        parallel: int = PARALLEL,
        progress: OnProgress | None = None,
    ) -> Verified:
        """Read every copy of every block on every service, and check it.

        ``copies``: how many good ones there should be of each block. ``repair``: replace corrupt
        ones, and write missing ones, on services in the order in which they would be asked, each
        checked by its service. Of a service that keeps several copies, one is read.

        Raises KeepReadError and ManifestError when the manifest itself cannot be read, and
        ArgumentError.
        """
        return blocking.run(
            verifying.verify(self._client, locator, copies, repair, parallel, progress)
        )

    def status(self) -> list[ServiceStatus]:
        """Ask every service how it is."""
        return blocking.run(status.status(self._client))

    def open(
        self,
        locator: str,
        path: str,
        *,
        ahead: int = AHEAD,
        buffer_size: int = io.DEFAULT_BUFFER_SIZE,
    ) -> io.BufferedReader:
        """Open a stored file for reading: seekable, in binary.

        ``ahead``: how many of the next blocks are fetched in the background, into the client's
        cache, which should have room for them and the present one. ``buffer_size``: see
        `io.BufferedReader`; its ``raw`` has a ``pread``. The client must stay open.

        Raises FileNotFoundError when there is no such file, IsADirectoryError for a folder, and
        what `manifest` raises; reading raises KeepReadError.
        """
        manifest = self.manifest(locator)
        name = path.removeprefix("./")
        segments = manifest.files.get(name)
        if segments is None:
            below = name.rstrip("/") + "/"
            entries = (*manifest.files, *(f"{folder}/" for folder in manifest.folders))
            if any(entry.startswith(below) for entry in entries):
                raise IsADirectoryError(f"{path!r} is a folder")
            raise FileNotFoundError(f"there is no file {path!r} in this manifest")
        client = self._client
        raw = BlockFile(name, segments, client.get, client.block_prefetch, ahead)
        return io.BufferedReader(raw, buffer_size)


class AsyncFiles:
    """`Files` for event loops, by an `AsyncKeepClient`; arguments and errors are the same."""

    def __init__(self, client: AsyncKeepClient) -> None:
        self._client = client

    async def put(
        self,
        paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
        copies: int = 2,
        *,
        follow_links: bool = True,
        skip: bool = False,
        parallel: int = PARALLEL,
        block_size: int = BLOCK,
        journal: str | os.PathLike[str] | None = None,
        progress: OnProgress | None = None,
    ) -> Put:
        """Store files and folders; see `Files.put`."""
        return await asyncio_driver.run(
            putting.put(
                self._client,
                _several(paths),
                copies,
                follow_links,
                skip,
                parallel,
                block_size,
                journal,
                progress,
            )
        )

    async def get(
        self,
        locator: str,
        folder: str | os.PathLike[str] = ".",
        *,
        overwrite: bool = False,
        fsync: bool = False,
        parallel: int = PARALLEL,
        progress: OnProgress | None = None,
    ) -> Got:
        """Restore the files of a manifest into a folder; see `Files.get`."""
        return await asyncio_driver.run(
            getting.get(self._client, locator, folder, overwrite, fsync, parallel, progress)
        )

    async def ls(self, locator: str) -> list[Entry]:
        """Return the files and empty folders of a manifest; see `Files.ls`."""
        return _entries(await self.manifest(locator))

    async def manifest(self, locator: str) -> Manifest:
        """Read a manifest; see `Files.manifest`."""
        return await asyncio_driver.run(load(self._client, locator))

    async def verify(
        self,
        locator: str,
        copies: int = 2,
        *,
        repair: bool = False,
        parallel: int = PARALLEL,
        progress: OnProgress | None = None,
    ) -> Verified:
        """Read every copy of every block on every service; see `Files.verify`."""
        return await asyncio_driver.run(
            verifying.verify(self._client, locator, copies, repair, parallel, progress)
        )

    async def status(self) -> list[ServiceStatus]:
        """Ask every service how it is."""
        return await asyncio_driver.run(status.status(self._client))


def _several(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
) -> list[str | os.PathLike[str]]:
    several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not several:
        raise ArgumentError("there is nothing to be stored")
    return several


def _entries(manifest: Manifest) -> list[Entry]:
    entries = [Entry(path, manifest.size_of(path)) for path in manifest.files]
    entries += [Entry(f"{folder}/", 0) for folder in manifest.folders]
    return sorted(entries, key=lambda entry: entry.path.replace("/", "\0"))

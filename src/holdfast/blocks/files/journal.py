"""What was stored already when a put was interrupted: the signed locators of its blocks.

Services that sign locators tell of a block only to who has its signature. So these are kept in a
file until all is stored. They are of use only together with the token that they were signed for.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.blocks.locators import KeepLocator

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Journal", "journal_path"]

logger = logging.getLogger("holdfast.blocks")


def journal_path(token: str | None, services: str, paths: Iterable[str]) -> Path:
    """Return the file for what is stored by a token, on some services, from some paths."""
    told = hashlib.sha256("\0".join([token or "", services]).encode("utf-8", "surrogateescape"))
    for path in paths:
        told.update(os.fsencode(os.path.abspath(path)) + b"\0")
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder) / "holdfast" / "put" / told.hexdigest()[:32]


class Journal:
    """The signed locators of blocks, by their hashes; in a file, if there is one.

    A file that cannot be read or written is done without: it only spares work.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._locators: dict[str, str] = {}
        self._kept: set[str] = set()
        if path is None:
            return
        try:
            lines = path.read_text("ascii", "replace").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            self._without(error)
            return
        for line in lines:
            try:
                locator = KeepLocator(line)
            except ValueError:
                continue  # cut short
            if locator.perm_sig is not None and not locator.permission_expired():
                self._locators[locator.md5sum] = line

    def locator(self, digest: str) -> str | None:
        """Return the locator of a block, None when it is not known."""
        return self._locators.get(digest)

    def add(self, locator: str) -> None:
        """Keep a locator, if it is signed."""
        digest = locator[:32]
        if "+A" not in locator or digest in self._kept:
            return
        self._kept.add(digest)
        self._locators[digest] = locator
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            file = os.open(self._path, flags, 0o600)
            try:
                # What an interrupted one has left in the last line is not to spoil this one.
                os.write(file, f"\n{locator}\n".encode())
            finally:
                os.close(file)
        except OSError as error:
            self._without(error)

    def remove(self) -> None:
        """Remove the file: all is stored."""
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._without(error)

    def _without(self, error: OSError) -> None:
        logger.warning("%s: %s: a put cannot be resumed as fast", self._path, error.strerror)
        self._path = None

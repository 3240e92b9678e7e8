"""Blocks as files in a local folder, instead of on services: for tests and for one machine."""

from __future__ import annotations

import os
import random
from pathlib import Path

from holdfast.blocks.core import block_of
from holdfast.blocks.errors import KeepReadError, KeepWriteError, NotFoundError
from holdfast.blocks.locators import EMPTY, KeepLocator
from holdfast.blocks.receiving import md5

__all__ = ["LocalStore"]


class LocalStore:
    """Blocks as files that are named by their hashes."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)

    def put(self, data: bytes | bytearray | memoryview | str) -> str:
        """Store a block and return its locator; raises KeepWriteError."""
        block = block_of(data)
        digest = md5(block)
        temporary = self._folder / f"{digest}.{os.getpid()}-{random.getrandbits(64):016x}"
        try:
            try:
                temporary.write_bytes(block)
                temporary.rename(self._folder / digest)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise KeepWriteError(f"{self._folder}: {digest}: {error.strerror}") from error
        return f"{digest}+{len(block)}"

    def get(self, text: str) -> bytes:
        """Return the blocks of one or more locators, with commas between, as one.

        Raises NotFoundError, KeepReadError, and ValueError for what is no locator.
        """
        if "," in text:
            return b"".join([self.get(one) for one in text.split(",")])
        locator = KeepLocator(text)
        digest = locator.md5sum
        if digest == EMPTY.md5sum:
            return b""
        try:
            data = (self._folder / digest).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"{locator.stripped()} not found in {self._folder}") from None
        except OSError as error:
            raise KeepReadError(f"{self._folder}: {digest}: {error.strerror}") from error
        if locator.size not in (None, len(data)) or md5(data) != digest:
            raise KeepReadError(f"{locator.stripped()} is damaged, in {self._folder}")
        return data

    def head(self, text: str) -> bool:
        """Return True for a block that is there; raises NotFoundError, ValueError."""
        locator = KeepLocator(text)
        if locator.md5sum == EMPTY.md5sum or (self._folder / locator.md5sum).is_file():
            return True
        raise NotFoundError(f"{locator.stripped()} not found in {self._folder}")

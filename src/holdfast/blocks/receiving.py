"""A block on its way in: one buffer, and its hash taken while it arrives.

hashlib lets other threads run while it works, so a large block is hashed on a thread of its own,
as far as it has come, while the driver waits for the rest.
"""

from __future__ import annotations

import _thread
import hashlib
import io
from math import inf
from queue import SimpleQueue
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.blocks.pages import in_large_pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.http.readers import BodyReader
    from holdfast.ops import Program

__all__ = ["LARGE", "Hashing", "md5", "receive"]

#: From how many bytes on a thread is worth its start.
LARGE = 1 << 20

#: How many bytes are hashed at a time: enough that a change of threads costs little, and few enough
#: that the last ones take no time.
PIECE = 1 << 18


def md5(data: ops.Buffer) -> str:
    """Return the MD5 of some data, as hexadecimal digits."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def receive(
    reader: BodyReader, size: int, hashing: Hashing | None = None
) -> Program[tuple[bytes, str]]:
    """Return a body of at most so many bytes, and its MD5.

    ``hashing``: who takes the MD5 meanwhile; without one it is taken in between.
    """
    # Zeroed by the system when they are first touched; as nothing else refers to them, BytesIO
    # writes into these bytes, and gives them away, without a copy.
    whole = io.BytesIO(bytes(size))
    filled = 0
    digest = hashlib.md5(usedforsecurity=False)
    hashed = 0
    with whole.getbuffer() as view:
        if size >= LARGE:
            in_large_pages(view)
        while True:
            with view[filled:] as rest:
                count: int = yield from reader.read_some(rest)
            filled += count
            if filled - hashed >= PIECE or not count:
                piece = view[hashed:filled]
                hashed = filled
                if hashing is not None:
                    hashing.feed(piece)
                else:
                    digest.update(piece)
                    piece.release()
            if not count:
                break
        if hashing is not None:
            hashing.close()
            yield ops.Wait(hashing.over, inf)
            digest = hashing.digest
    whole.truncate(filled)
    return whole.getvalue(), digest.hexdigest()


class Hashing:
    """A thread that hashes what it is fed, until `close`.

    Then, when all of it is hashed, ``over`` is fired, and there is ``digest``.
    """

    def __init__(self) -> None:
        self.over = ops.Signal()
        self.digest = hashlib.md5(usedforsecurity=False)
        self._pieces: SimpleQueue[memoryview | None] = SimpleQueue()
        self.feed: Callable[[memoryview], None] = self._pieces.put
        # threading's would wait until it runs, for as long as 500 KiB are hashed.
        _thread.start_new_thread(self._run, ())

    def close(self) -> None:
        """Feed it no more, and let it end; once or more often."""
        self._pieces.put(None)

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            with piece:
                self.digest.update(piece)
        self.over.fire()

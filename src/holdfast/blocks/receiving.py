"""A block on its way in: one buffer, and its hash taken while it arrives.

hashlib lets other threads run while it works, so a large block is hashed on a thread of its own,
as far as it has come, while the driver waits for the rest.
"""

from __future__ import annotations

import _thread
import hashlib
import io
import os
from math import inf
from queue import SimpleQueue
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.blocks.pages import give_out, in_large_pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.http.readers import BodyReader
    from holdfast.ops import Program

__all__ = ["LARGE", "Hashing", "Room", "md5", "receive"]

#: From how many bytes on a thread is worth its start.
LARGE = 1 << 20

#: How many bytes are hashed at a time: enough that a change of threads costs little, and few enough
#: that the last ones take no time.
PIECE = 1 << 18

#: How many are received before hashing begins.
FIRST = 1 << 16

#: How much memory is had beforehand: with more of it, a service near by would have answered first.
READY = 1 << 22
#: How much of that at a time: a large page.
PAGE = 1 << 21

_give_way: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


def md5(data: ops.Buffer) -> str:
    """Return the MD5 of some data, as hexadecimal digits."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class Room:
    """The memory for a block of at most so many bytes that is to come.

    ``memory``: that of another one of the same size, which is written over.
    """

    def __init__(self, size: int, memory: io.BytesIO | None = None) -> None:
        # Zeroed by the system when they are first touched; as nothing else refers to them, BytesIO
        # writes into these bytes, and gives them away, without a copy.
        self._whole = io.BytesIO(bytes(size)) if memory is None else memory
        #: Where it belongs.
        self.view = self._whole.getbuffer()
        #: Whether the system has still to give the memory out.
        self.new = memory is None
        if self.new and size >= LARGE:
            in_large_pages(self.view)

    def taken(self, size: int) -> bytes:
        """Return the bytes of the block, so many; there is no view of them any more."""
        self.view.release()
        self._whole.truncate(size)
        return self._whole.getvalue()


def receive(
    reader: BodyReader, room: Room, hashing: Hashing | None = None
) -> Program[tuple[bytes, str]]:
    """Return a body for which there is room, and its MD5.

    ``hashing``: who takes the MD5 meanwhile; without one it is taken in between.
    """
    view = room.view
    digest = hashlib.md5(usedforsecurity=False)
    filled = hashed = 0
    most: int | None = FIRST  # until hashing has begun
    while True:
        with view[filled:] as rest:
            count: int = yield from reader.read_some(rest, most)
        filled += count
        if filled - hashed >= PIECE or most or not count:
            piece = view[hashed:filled]
            hashed = filled
            most = None
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
    return room.taken(filled), digest.hexdigest()


class Hashing:
    """A thread that hashes what it is fed, until `close`.

    Then, when all of it is hashed, ``over`` is fired, and there is ``digest``. ``room``: where the
    block will be. Until it comes, the thread has its memory given out.
    """

    def __init__(self, room: Room | None = None) -> None:
        self.over = ops.Signal()
        self.digest = hashlib.md5(usedforsecurity=False)
        self._pieces: SimpleQueue[memoryview | None] = SimpleQueue()
        # threading's would wait until it runs, for as long as 500 KiB are hashed.
        _thread.start_new_thread(self._run, (room,))

    def feed(self, piece: memoryview) -> None:
        """Have a piece hashed after those before it, and then released."""
        self._pieces.put(piece)
        # It takes longest of all, so it goes first where processors are few.
        _give_way()

    def close(self) -> None:
        """Feed it no more, and let it end; once or more often."""
        self._pieces.put(None)

    def _run(self, room: Room | None) -> None:
        try:
            if room is not None and room.new:
                self._prepare(room)
            del room
            while (piece := self._pieces.get()) is not None:
                with piece:
                    self.digest.update(piece)
        finally:
            self.over.fire()

    def _prepare(self, room: Room) -> None:
        for at in range(0, min(len(room.view), READY), PAGE):
            if not self._pieces.empty():
                break
            with room.view[at : at + PAGE] as page:
                if not give_out(page):
                    break

"""Large blocks are stored while they arrive, with few parts of them in memory.

While one part is hashed and written, on two threads, the next one waits for that and a third one
gathers, from when there is something to gather; no more than these three are ever in memory. They
are used again and again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING

from holdfast.blocks.locators import BLOCK
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.workers import Lane, over

if TYPE_CHECKING:
    from types import TracebackType

    from holdfast.blocks.server.mounts import Shortfall
    from holdfast.blocks.server.storing import Storing
    from holdfast.blocks.server.workers import Job, Workers

__all__ = ["Incoming"]


class Incoming:
    """A block that arrives in pieces; an asynchronous context manager.

    Entering it finds the volumes, before anything has to arrive. Everything here raises Refused.
    """

    def __init__(self, storing: Storing, md5sum: str, workers: Workers) -> None:
        self._storing = storing
        self._md5sum = md5sum
        self._workers = workers
        self._hashing = Lane(workers)
        self._writing = Lane(workers)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._parts = workers.parts
        self._part = bytearray()  # the one that gathers
        self._held = 0  # bytes in it
        self._jobs: deque[tuple[Job[None], Job[None], bytearray]] = deque()
        self._spare: list[bytearray] = []
        #: How many bytes have arrived.
        self.size = 0

    async def __aenter__(self) -> Incoming:
        if not await self._workers.run(self._storing.open):
            raise self._storing.refusal()
        self._parts.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await over(job for jobs in self._jobs for job in jobs[:2])
        finally:
            self._parts.end()
            await self._workers.run(self._storing.close)

    async def add(self, data: bytes) -> None:
        """Take the next bytes; return when more may come."""
        left = memoryview(data)
        while left:
            room = self.room()
            size = min(len(room), len(left))
            room[:size] = left[:size]
            left = left[size:]
            await self.filled(size)

    def room(self) -> memoryview:
        """Return where the next bytes belong."""
        if not self._held:
            size = self._parts.size
            while self._spare:
                self._part = self._spare.pop()
                if len(self._part) == size:
                    break
            else:
                self._part = bytearray(min(size, max(self._storing.size - self.size, 1)))
        return memoryview(self._part)[self._held :]

    async def filled(self, size: int) -> None:
        """Take so many bytes that were written there; return when more may come."""
        self._held += size
        self.size += size
        if self.size > BLOCK:
            raise Refused(413, "a block has at most 64 MiB")
        if self._held == len(self._part):
            self._hand_over()
            await self._settle(1)

    def _hand_over(self) -> None:
        part, held = self._part, self._held
        self._part, self._held = bytearray(), 0
        # No memoryview: what is stored already is compared with it, and that would take each byte
        # by itself.
        data = part if held == len(part) else part[:held]
        self._jobs.append(
            (
                self._hashing.run(self._md5.update, data),
                self._writing.run(self._storing.write, data),
                part,
            )
        )

    async def _settle(self, left: int) -> None:
        """Wait until no more than ``left`` parts are not hashed and written."""
        while len(self._jobs) > left:
            hashed, written, part = self._jobs[0]
            await written
            await hashed
            self._jobs.popleft()
            self._spare.append(part)

    async def finish(self) -> Shortfall:
        """Store the block, if it is what its hash says; return where it is kept."""
        if self._held:
            self._hand_over()
        await self._settle(0)
        if self._md5.hexdigest() != self._md5sum:
            raise Refused(400, "the body is not what the hash says")
        await self._workers.run(self._storing.finish)
        kept = self._storing.kept
        if not kept.replicas:
            raise self._storing.refusal()
        return kept

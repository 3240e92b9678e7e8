"""What large blocks are known by once their MD5 was right, so that it is not taken each time.

Taking the MD5 of a block takes longer than all else that is done to send it. XXH3 takes a tenth of
that and is enough to tell whether bytes on a disk are still those whose MD5 was right: it overlooks
one damage in 2**64, in each chunk by itself and before it is sent. Against somebody who forges
a block it is no help; the client's own MD5 is.

A hash always stands for the same content, so what is known of it holds for every copy, and for
ever. It is in memory: after a start each block is read with its MD5 once more.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from holdfast.blocks.server.parts import CHUNK

if TYPE_CHECKING:
    from holdfast.blocks.server.volumes import BlockReader

__all__ = ["Damaged", "Sums", "checked", "sums_of"]

#: Of how many chunks the sum is kept, eight bytes each: of 2 TiB of blocks.
MOST = 4 << 20


class Damaged(Exception):
    """A chunk of a block is not what it was."""


class Sums:
    """The sums of the chunks of blocks, of those that were read last. For the event loop alone.

    ``most``: of how many chunks.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held = 0
        self._sums: OrderedDict[str, array[int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sums)

    def get(self, md5sum: str) -> array[int] | None:
        """Return the sums of a block's chunks, None when they are not known."""
        sums = self._sums.get(md5sum)
        if sums is not None:
            self._sums.move_to_end(md5sum)
        return sums

    def learn(self, md5sum: str, sums: array[int]) -> None:
        """Keep the sums of a block whose MD5 was right."""
        self.forget(md5sum)
        self._sums[md5sum] = sums
        self._held += len(sums)
        while self._held > self._most:
            self._held -= len(self._sums.popitem(last=False)[1])

    def forget(self, md5sum: str) -> None:
        """Have a block read with its MD5 the next time."""
        sums = self._sums.pop(md5sum, None)
        if sums is not None:
            self._held -= len(sums)


def sums_of(part: bytes | bytearray) -> list[int]:
    """Return the sums of a part's chunks."""
    if len(part) <= CHUNK:
        return [xxh3_64_intdigest(part)]
    with memoryview(part) as view:
        return [xxh3_64_intdigest(view[at : at + CHUNK]) for at in range(0, len(view), CHUNK)]


def checked(reader: BlockReader, wanted: list[int]) -> bytes:
    """Return as many of the next chunks as have sums; raises Damaged when they have others."""
    data = reader.read(len(wanted) * CHUNK)
    if sums_of(data) != wanted:
        raise Damaged
    return data

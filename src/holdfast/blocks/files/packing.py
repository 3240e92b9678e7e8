"""Which bytes of which files make up which block.

A file is cut into whole blocks from its beginning, so that two files that begin alike share blocks
wherever they are. What is left of it, and files that are smaller than a block, go together into
blocks, in their order; none of these is divided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Piece", "plan", "size_of"]


class Piece(NamedTuple):
    """A part of a file, by the file's number."""

    file: int
    offset: int
    size: int


def plan(sizes: Sequence[int], block_size: int) -> list[list[Piece]]:
    """Return the pieces of each block, for files of these sizes."""
    blocks: list[list[Piece]] = []
    packed: list[Piece] = []
    filled = 0
    for file, size in enumerate(sizes):
        whole = size - size % block_size
        blocks += ([Piece(file, offset, block_size)] for offset in range(0, whole, block_size))
        rest = size - whole
        if not rest:
            continue
        if filled + rest > block_size:
            blocks.append(packed)
            packed, filled = [], 0
        packed.append(Piece(file, whole, rest))
        filled += rest
    if packed:
        blocks.append(packed)
    return blocks


def size_of(pieces: Sequence[Piece]) -> int:
    """Return the size of a block."""
    return sum(piece.size for piece in pieces)

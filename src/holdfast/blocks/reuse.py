"""The memory of a block that nobody needs any more, for the next one.

The system clears memory before it gives it out: of 64 MiB that takes as long as to receive them.
Who reads one block after the other has let go of one of the same size each time.

Bytes never change, as far as anybody can see. So nobody else may have those that are written to:
BytesIO looks after that, and would make a copy, which is what is to be saved. And Python keeps the
hash of bytes in them once it was asked for, and would take it for that of what is written there.
"""

from __future__ import annotations

import io
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["memory_of"]

#: The references to a value of a mapping that nobody else has: the mapping's, and the argument.
_ALONE = 2


def memory_of(blocks: MutableMapping[str, bytes], name: str) -> io.BytesIO | None:
    """Take a block out of a mapping, and return its memory, full, to be written to.

    None, and the block stays, when somebody has it or may have its hash.
    """
    at = _hash_at()
    if at is None or sys.getrefcount(blocks[name]) != _ALONE or _number_at(blocks[name], at) != -1:
        return None
    return io.BytesIO(blocks.pop(name))


@cache
def _hash_at() -> int | None:
    """Return where in the memory of bytes their hash is, None where that cannot be told."""
    try:
        import ctypes
    except ImportError:
        return None
    if sys.implementation.name != "cpython":
        return None
    # The last field before the content, of which the size of empty bytes counts the final zero.
    at = bytes.__basicsize__ - 1 - ctypes.sizeof(ctypes.c_ssize_t)
    probe = bytes(range(100))
    unset = _number_at(probe, at) == -1
    return at if unset and hash(probe) == _number_at(probe, at) else None


def _number_at(data: bytes, at: int) -> int:
    import ctypes

    return ctypes.c_ssize_t.from_address(id(data) + at).value

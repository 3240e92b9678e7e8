"""What a volume is: a place that holds blocks, by their hashes.

A volume stores and finds bytes. It knows nothing of permissions, nor whether the bytes are what
their hash says: the service checks that, whatever it reads. Its methods block, so the service
calls them on threads, several at once; each of them is safe there. A volume is named by no path
and gives out no file descriptor, so that it may be a folder or a bucket of an object store.

Hashes are 32 lowercase hexadecimal digits; the caller has checked that. Times are nanoseconds
since the epoch; a block's time is when it was last put or touched, and decides when it may go.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from holdfast.blocks.locators import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "RESERVE",
    "BlockMissing",
    "BlockReader",
    "BlockTooNew",
    "BlockWriter",
    "Emptied",
    "Stored",
    "Volume",
    "VolumeError",
    "VolumeFull",
]

#: A volume with fewer free bytes than this is full: the largest block might not fit.
RESERVE = BLOCK


class VolumeError(Exception):
    """A volume could not do what it was asked; the text says why."""


class VolumeFull(VolumeError):
    """A volume has no room for the block."""


class BlockMissing(VolumeError):
    """A volume has no such block."""


class BlockTooNew(VolumeError):
    """A block was put or touched too late to be removed."""


class Stored(NamedTuple):
    """A block that is stored: its hash, how many bytes it has, and its time."""

    md5sum: str
    size: int
    mtime_ns: int


class Emptied(NamedTuple):
    """What left the trash: how many blocks, with how many bytes."""

    blocks: int
    size: int


class BlockReader(AbstractContextManager["BlockReader", None], Protocol):
    """An open block; a context manager that closes it."""

    #: How many bytes it had when it was opened.
    size: int

    def read(self, size: int) -> bytes:
        """Return up to so many of the next bytes; fewer only at the end, and then none."""

    def read_at_once(self, buffer: bytearray | memoryview) -> bool:
        """Fill a buffer with the next bytes if that takes no wait; tell whether it did.

        When it did not, `read` reads them. This one is called on the event loop.
        """

    def close(self) -> None:
        """Close it; once."""


class BlockWriter(AbstractContextManager["BlockWriter", None], Protocol):
    """A block on its way in, seen by nobody until `commit`.

    A context manager that gives the block up, unless it was committed.
    """

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes."""

    def commit(self) -> None:
        """Have the block stored, durably, at once and as a whole; replace one of that hash."""

    def close(self) -> None:
        """Give the block up, unless it was committed; once."""


class Volume(Protocol):
    """A place that holds blocks; see the module.

    Every method raises VolumeError for what fails, and those with a hash BlockMissing.
    """

    #: Its name among all volumes of the cluster: ``xxxxx-nyw5e-`` and 15 characters.
    uuid: str
    #: The same for two volumes whose blocks are the same ones.
    device_id: str
    #: Whether blocks can be put, touched and removed.
    writable: bool
    #: Whether `add` of a small block waits for nothing, as a rule; it may be called on the event
    #: loop then.
    quick: bool
    #: How many copies it keeps of what it is given, below its own surface.
    replication: int
    #: The names of the storage classes that it fulfils.
    classes: tuple[str, ...]

    def peek(self, md5sum: str, limit: int) -> bytes | None:
        """Return a block of at most ``limit`` bytes when that takes no wait, else None.

        This one is called on the event loop.
        """

    def open(self, md5sum: str, *, once: bool = False) -> BlockReader:
        """Open a block to be read; ``once``: nobody is likely to read it again soon."""

    def open_at_once(self, md5sum: str) -> BlockReader | None:
        """Open a block to be read where that takes no wait, as a rule; else return None.

        This one is called on the event loop.
        """

    def add(self, md5sum: str, data: bytes) -> bool:
        """Store a block in one go, unless there is one of that hash; tells whether it did.

        What `create`, `write` and `commit` do, for a small block at a fraction of the cost.
        """

    def create(self, md5sum: str, size: int = BLOCK) -> BlockWriter:
        """Begin to write a block of up to ``size`` bytes; raises VolumeFull."""

    def stat(self, md5sum: str) -> Stored:
        """Return what is known about a block."""

    def touch(self, md5sum: str) -> None:
        """Set a block's time to now."""

    def trash(self, md5sum: str, older_than: int, deadline: int) -> None:
        """Take a block away, until ``deadline`` (in seconds) into the trash; with 0 for good.

        Raises BlockTooNew when its time is not before ``older_than``.
        """

    def untrash(self, md5sum: str) -> None:
        """Bring a block back from the trash, as if it were just put."""

    def index(self, prefix: str = "") -> Iterator[Stored]:
        """Iterate over the blocks whose hashes begin with ``prefix``, in no certain order."""

    def empty(self, now: float) -> Emptied:
        """Remove for good what was in the trash beyond its deadline."""

    def free(self) -> int | None:
        """Return how many bytes are free, None when nobody knows."""

    def close(self) -> None:
        """Give back what it holds; nothing is called after that."""

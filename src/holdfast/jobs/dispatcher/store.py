"""What a store of jobs promises: the interface, its records and its errors.

A store keeps the record of every job (the call, its times, its packets, its end) and hands out
the slots of queues. The dispatcher asks it for nothing that a store shared by several dispatchers
could not do: a job belongs to the dispatcher that submitted it for as long as that one holds its
lease, and a slot of a queue is given by the store.

What is written is written in this order for each job: `Store.submit`, `Store.start`, any number of
`Store.append`, `Store.end`. Methods that return an awaitable take what they were given at once, so
two calls of one caller are done in the order of the calls, awaited or not. The awaitable ends when
the write is durable, or raises `StoreError`, and then nothing of that write has been recorded.

JSON values are kept as the bytes that came, and never looked into.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = [
    "UNKNOWN",
    "Page",
    "QueueState",
    "Record",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreInUse",
]


#: What a client asked for where an earlier version of a store did not record it.
UNKNOWN = -1


class StoreError(Exception):
    """The store cannot do what it was asked for; nothing of it has been done."""


class StoreFull(StoreError):
    """There is no space left for what was to be written."""


class StoreInUse(StoreError):
    """Another dispatcher holds the store."""


@dataclass(slots=True)
class Record:
    """Everything about a job but its packets.

    ``arguments``, ``info`` and ``queue`` (the name of the queue, in canonical form) are JSON.
    ``timeout`` and ``max_exec_time`` are in seconds, and what holds for the job; with ``asked_``
    they are what the client said of them, or `UNKNOWN`. The times are Unix seconds. ``end`` is the
    end message, which is there when ``ended`` is.
    """

    id: str
    host: str
    procedure: str
    arguments: bytes
    submitted: int
    info: bytes = b"null"
    queue: bytes | None = None
    concurrency: int = 1
    timeout: int = 600
    max_exec_time: int = 600
    started: int | None = None
    ended: int | None = None
    end: bytes | None = None
    asked_timeout: int | None = None
    asked_max_exec_time: int | None = None

    def repeats(self, other: Record) -> bool:
        """Tell whether both records come from the same request."""
        return all(getattr(self, name) == getattr(other, name) for name in _REQUESTED) and all(
            getattr(self, name) in (getattr(other, name), UNKNOWN) for name in _LIMITS
        )


# What a client says of a job, and a repeated request must say again. What holds for the job may
# be something else by then, since the dispatcher's own limits can change.
_REQUESTED = (
    "id",
    "host",
    "procedure",
    "arguments",
    "info",
    "queue",
    "concurrency",
)
_LIMITS = ("asked_timeout", "asked_max_exec_time")


@dataclass(slots=True, frozen=True)
class Page:
    """Some records in the order of submission, and where the next page begins, if there is one."""

    records: Sequence[Record]
    next: int | None


@dataclass(slots=True, frozen=True)
class QueueState:
    """A queue as it is now: which jobs hold its slots, and which wait, in order."""

    name: bytes
    concurrency: int
    running: tuple[str, ...]
    waiting: tuple[str, ...]


class Store(Protocol):
    """Where jobs are recorded."""

    async def open(self) -> None:
        """Take the lease and get ready; raise StoreInUse when another dispatcher holds it."""

    async def close(self) -> None:
        """Finish what was asked for and give the lease back."""

    # Writing.

    def submit(self, record: Record) -> Awaitable[Record | None]:
        """Record a new job; of an id that is there already, change nothing, return its record.

        A job that starts at once is submitted with its time of start.
        """

    def start(self, job_id: str, time: int) -> None:
        """Record that a job has left its queue, together with what is written next.

        Nobody waits for this: `end` tells the time again.
        """

    def append(self, job_id: str, first: int, packets: Sequence[bytes]) -> Awaitable[None]:
        """Record packets of a running job; ``first`` is the position of the first of them."""

    def end(
        self, job_id: str, message: bytes, *, started: int | None, ended: int
    ) -> Awaitable[None]:
        """Record the end of a job, after all its packets; a second end changes nothing.

        Where ``started`` is None, the time of start stays as it was recorded.
        """

    def prune(self, before: int, limit: int = 1000) -> Awaitable[int]:
        """Forget some jobs that ended before a time, at most ``limit``; return how many it were.

        It is as many as can be forgotten at once without keeping others waiting, and none only
        when there are none left.
        """

    # Reading.

    async def record(self, job_id: str) -> Record | None:
        """Return the record of a job."""

    async def count(self, job_id: str) -> int:
        """Return how many packets of a job are recorded."""

    async def packets(
        self, job_id: str, since: int, limit: int, size: int = 1 << 20
    ) -> Sequence[bytes]:
        """Return packets from a position on, at most ``limit`` and about ``size`` bytes of them.

        None are returned only where there are none.
        """

    async def list(self, *, ended: bool = True, after: int = 0, limit: int = 100) -> Page:
        """Return a page of jobs in the order of submission; ``ended``: those that ended, too.

        ``limit``: how many at most; where they are large, a page has fewer.
        """

    async def interrupted(self) -> Sequence[str]:
        """Return the jobs without an end that belong to no dispatcher, to be ended."""

    # Slots of queues. A queue is there from its first job to its last.

    def enter(self, queue: bytes, concurrency: int, job_id: str, ready: Callable[[], None]) -> bool:
        """Put a job into a queue; return whether it has a slot at once.

        If not, ``ready`` is called when it gets one. The concurrency of a queue is what the job
        said with which it began.
        """

    def leave(self, queue: bytes, job_id: str) -> None:
        """Take a job out of a queue, whether it waited there or held a slot."""

    def queues(self) -> Sequence[QueueState]:
        """Return the queues that there are."""

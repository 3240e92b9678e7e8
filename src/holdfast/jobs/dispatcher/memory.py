"""A store that forgets everything at its end, for tests and trials."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from holdfast.jobs.dispatcher.queues import LocalQueues
from holdfast.jobs.dispatcher.store import Page, Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

__all__ = ["MemoryStore"]

T = TypeVar("T")


class MemoryStore(LocalQueues):
    """Jobs in dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self._records: dict[str, Record] = {}
        self._packets: dict[str, list[bytes]] = {}
        # The numbers of jobs in the order of submission, with their ids.
        self._order: list[tuple[int, str]] = []
        self._last = 0

    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """Forget the queues; the jobs stay for as long as the object."""
        self._queues.clear()

    def submit(self, record: Record) -> Awaitable[Record | None]:
        """Record a new job; of an id that is there already, return its record."""
        known = self._records.get(record.id)
        if known is not None:
            return _done(replace(known))
        self._last += 1
        self._order.append((self._last, record.id))
        self._records[record.id] = replace(record)
        self._packets[record.id] = []
        return _done(None)

    def start(self, job_id: str, time: int) -> None:
        """Record that a job has left its queue."""
        self._records[job_id].started = time

    def append(self, job_id: str, first: int, packets: Sequence[bytes]) -> Awaitable[None]:
        """Record packets of a running job."""
        assert first == len(self._packets[job_id])
        self._packets[job_id] += packets
        return _done(None)

    def end(
        self, job_id: str, message: bytes, *, started: int | None, ended: int
    ) -> Awaitable[None]:
        """Record the end of a job."""
        record = self._records.get(job_id)
        if record is not None and record.ended is None:
            record.ended, record.end = ended, message
            record.started = record.started if started is None else started
        return _done(None)

    def prune(self, before: int, limit: int = 1000) -> Awaitable[int]:
        """Forget jobs that ended before a time."""
        old = [
            record.id
            for record in self._records.values()
            if record.ended is not None and record.ended < before
        ][:limit]
        for job_id in old:
            del self._records[job_id], self._packets[job_id]
        self._order = [place for place in self._order if place[1] in self._records]
        return _done(len(old))

    async def record(self, job_id: str) -> Record | None:
        """Return the record of a job."""
        record = self._records.get(job_id)
        return None if record is None else replace(record)

    async def count(self, job_id: str) -> int:
        """Return how many packets of a job are recorded."""
        return len(self._packets.get(job_id, ()))

    async def packets(
        self, job_id: str, since: int, limit: int, size: int = 1 << 20
    ) -> Sequence[bytes]:
        """Return packets from a position on."""
        found: list[bytes] = []
        for packet in self._packets.get(job_id, [])[since : since + limit]:
            found.append(packet)
            size -= len(packet)
            if size <= 0:
                break
        return found

    async def list(self, *, ended: bool = True, after: int = 0, limit: int = 100) -> Page:
        """Return a page of jobs in the order of submission."""
        records: list[Record] = []
        start = bisect_right(self._order, after, key=lambda place: place[0])
        for number, job_id in self._order[start:]:
            record = self._records[job_id]
            if ended or record.ended is None:
                records.append(replace(record))
                if len(records) == limit:
                    return Page(records, number)
        return Page(records, None)

    async def interrupted(self) -> Sequence[str]:
        """Return the jobs without an end."""
        return [record.id for record in self._records.values() if record.ended is None]


def _done(value: T) -> Awaitable[T]:
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future

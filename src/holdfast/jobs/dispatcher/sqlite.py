"""The store that comes with the dispatcher: one SQLite file in WAL mode.

One thread writes (`sqlite_writer`), another reads, so neither waits for the other, and the event
loop for none of them. A lock beside the file keeps a second dispatcher out; the kernel lets go of
it however the first one ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.jobs.dispatcher import sqlite_schema as schema
from holdfast.jobs.dispatcher.queues import LocalQueues
from holdfast.jobs.dispatcher.sqlite_writer import (
    Append,
    End,
    Prune,
    Start,
    Submit,
    Writer,
    failure,
)
from holdfast.jobs.dispatcher.store import Page, Record, StoreError, StoreInUse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

__all__ = ["SqliteStore"]

T = TypeVar("T")

#: How many bytes of arguments and results make a page of records.
PAGE = 1 << 20


class SqliteStore(LocalQueues):
    """Jobs in a file ``jobs.sqlite`` of a directory, which is made if it is not there."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._lock = -1
        self._writer: Writer | None = None
        self._reader: sqlite3.Connection | None = None
        self._reading: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Take the lock and open the file; raise StoreInUse when it is taken, or StoreError."""
        loop = asyncio.get_running_loop()
        self._reading = ThreadPoolExecutor(1, "store reader")
        try:
            await loop.run_in_executor(self._reading, self._open, loop)
        except BaseException as error:
            self._reading.shutdown()
            self._unlock()
            if isinstance(error, (sqlite3.Error, OSError)):
                raise StoreError(f"cannot open the jobs in {self._directory}: {error}") from error
            raise

    async def close(self) -> None:
        """Write what is left and close the file."""
        if self._lock < 0:
            return
        assert self._reading is not None
        await asyncio.get_running_loop().run_in_executor(self._reading, self._close)
        self._reading.shutdown()
        self._unlock()

    # Writing.

    def submit(self, record: Record) -> Awaitable[Record | None]:
        """Record a new job; of an id that is there already, return its record."""
        return self._put(Submit(record))

    def start(self, job_id: str, time: int) -> None:
        """Record that a job has left its queue."""
        assert self._writer is not None
        self._writer.put_silently(Start(job_id, time))

    def append(self, job_id: str, first: int, packets: Sequence[bytes]) -> Awaitable[None]:
        """Record packets of a running job."""
        return self._put(Append(job_id, first, packets))

    def end(
        self, job_id: str, message: bytes, *, started: int | None, ended: int
    ) -> Awaitable[None]:
        """Record the end of a job, after all its packets."""
        return self._put(End(job_id, started, ended, message))

    def prune(self, before: int, limit: int = 1000) -> Awaitable[int]:
        """Forget up to ``limit`` jobs that ended before a time; return how many it were."""
        return self._put(Prune(before, limit))

    def _put(self, write: Submit | Append | End | Prune) -> asyncio.Future[Any]:
        assert self._writer is not None
        return self._writer.put(write)

    # Reading.

    async def record(self, job_id: str) -> Record | None:
        """Return the record of a job."""
        row = await self._read(lambda one: one.execute(schema.FIND_JOB, (job_id,)).fetchone())
        return None if row is None else schema.to_record(row)

    async def count(self, job_id: str) -> int:
        """Return how many packets of a job are recorded."""
        return await self._read(lambda connection: _count(connection, job_id))

    async def packets(
        self, job_id: str, since: int, limit: int, size: int = 1 << 20
    ) -> Sequence[bytes]:
        """Return packets from a position on."""
        return await self._read(lambda one: _packets(one, job_id, since, limit, size))

    async def list(self, *, ended: bool = True, after: int = 0, limit: int = 100) -> Page:
        """Return a page of jobs in the order of submission."""
        statement = schema.LIST_ALL if ended else schema.LIST_UNFINISHED
        return await self._read(lambda one: _page(one, statement, after, limit))

    async def interrupted(self) -> Sequence[str]:
        """Return the jobs without an end: nobody else has had the lock since they were left."""
        rows = await self._read(lambda one: one.execute(schema.INTERRUPTED).fetchall())
        return [row[0] for row in rows]

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        reader, reading = self._reader, self._reading
        if reader is None or reading is None:
            raise StoreError("the store is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(reading, work, reader)
        except sqlite3.Error as error:
            raise failure(error) from error
        except RuntimeError as error:  # the executor was shut down
            raise StoreError("the store is closed") from error

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreInUse(f"another dispatcher uses {self._directory}") from None
        path = self._directory / "jobs.sqlite"
        # Arguments and results are for nobody else; SQLite gives its other files the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = schema.connect(path)
        try:
            schema.prepare(connection)
            self._reader = schema.connect(path, readonly=True)
            self._writer = Writer(connection, loop)
        except BaseException:
            connection.close()
            raise

    def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        # The last connection to be closed puts the log's content into the file.
        if self._writer is not None:
            self._writer.close()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _count(connection: sqlite3.Connection, job_id: str) -> int:
    found = connection.execute(schema.NUMBER, (job_id,)).fetchone()
    if found is None:
        return 0
    number = found[0]
    bounds = (schema.place(number), schema.place(number + 1))
    row = connection.execute(schema.COUNT, bounds).fetchone()
    return 0 if row is None else schema.position(row[0]) + int(row[1])


def _page(connection: sqlite3.Connection, statement: str, after: int, limit: int) -> Page:
    records: list[Record] = []
    size = 0
    with closing(connection.execute(statement, (after, limit))) as rows:
        for number, *row in rows:
            records.append(schema.to_record(row))
            # Results and arguments may have megabytes.
            size += sum(len(value) for value in row if value.__class__ is bytes)
            if len(records) >= limit or size >= PAGE:
                return Page(records, number)
    return Page(records, None)


def _packets(
    connection: sqlite3.Connection, job_id: str, since: int, limit: int, size: int
) -> list[bytes]:
    found = connection.execute(schema.NUMBER, (job_id,)).fetchone()
    packets: list[bytes] = []
    if found is None or limit <= 0:
        return packets
    number = found[0]
    bounds = (schema.place(number), schema.place(number, since), schema.place(number + 1))
    with closing(connection.execute(schema.READ_PACKETS, bounds)) as rows:
        for place, data in rows:
            batch = data.split(b"\n")
            first = schema.position(place)
            chosen = batch[max(0, since - first) :][: limit - len(packets)]
            packets += chosen
            size -= len(data)
            if len(packets) >= limit or (size <= 0 and packets):
                break
    return packets

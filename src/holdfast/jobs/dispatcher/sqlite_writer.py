"""The one thread that writes: it takes what has come together, and commits that at once.

While one transaction is on its way to the disk, the writes of the next gather, so the more there
is to do, the less each write costs. In a transaction writes are grouped by kind, in the order in
which one job's come: new jobs, starts, packets, ends.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.jobs.dispatcher import sqlite_schema as schema
from holdfast.jobs.dispatcher.store import Record, StoreError, StoreFull

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

__all__ = ["Append", "End", "Prune", "Start", "Submit", "Writer", "failure"]


class Submit(NamedTuple):
    """A new job."""

    record: Record


class Start(NamedTuple):
    """A job has left its queue."""

    job_id: str
    time: int


class Append(NamedTuple):
    """Packets of a job."""

    job_id: str
    first: int
    packets: Sequence[bytes]


class End(NamedTuple):
    """The end of a job."""

    job_id: str
    started: int | None
    ended: int
    message: bytes


class Prune(NamedTuple):
    """Forget old jobs."""

    before: int
    limit: int


Write = Submit | Start | Append | End | Prune

#: How many writes one transaction has at most.
GROUP = 2000

#: After how many rows of packets a transaction prunes no other job: they may have 100 KiB each, and
#: what else is to be written waits meanwhile.
PRUNED_ROWS = 200


class Writer:
    """Writes from a thread of its own to a connection that nobody else uses."""

    def __init__(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._queue: queue.SimpleQueue[tuple[Write, asyncio.Future[Any] | None] | None]
        self._queue = queue.SimpleQueue()
        self._closed = False
        # The numbers of jobs that have no end yet.
        self._numbers: dict[str, int] = {}
        (last,) = connection.execute(schema.LAST_NUMBER).fetchone()
        self._last = last or 0
        self._thread = threading.Thread(target=self._run, name="store writer", daemon=True)
        self._thread.start()

    def put(self, write: Write) -> asyncio.Future[Any]:
        """Take a write; the future ends when it is durable."""
        future = self._loop.create_future()
        if self._closed:
            future.set_exception(StoreError("the store is closed"))
        else:
            self._queue.put((write, future))
        return future

    def put_silently(self, write: Write) -> None:
        """Take a write for whose end nobody waits."""
        if not self._closed:
            self._queue.put((write, None))

    def close(self) -> None:
        """Write what was put, and end; blocks until then."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        ended = False
        while not ended:
            group: list[tuple[Write, asyncio.Future[Any] | None]] = []
            one = self._queue.get()
            while one is not None:
                group.append(one)
                if len(group) == GROUP:
                    break
                try:
                    one = self._queue.get_nowait()
                except queue.Empty:
                    break
            else:
                ended = True
            if group:
                self._write(group)

    def _write(self, group: list[tuple[Write, asyncio.Future[Any] | None]]) -> None:
        error: StoreError | None = None
        results: list[Any] = []
        try:
            results = self._transact([write for write, _ in group])
        except Exception as problem:
            error = failure(problem)
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                pass  # it has been rolled back already
        try:
            self._loop.call_soon_threadsafe(_settle, group, results, error)
        except RuntimeError:
            pass  # the loop was closed, and nobody waits any more

    def _transact(self, writes: list[Write]) -> list[Any]:
        """Write all or nothing; return what each write returns."""
        results: list[Any] = [None] * len(writes)
        jobs: list[tuple[Any, ...]] = []
        starts: list[tuple[int, int]] = []
        packets: list[tuple[int, int, bytes]] = []
        ends: list[tuple[int | None, int, bytes, int]] = []
        numbers: dict[str, int] = {}
        finished: list[str] = []
        new: dict[str, Record] = {}
        execute = self._connection.execute
        last = self._last
        execute("BEGIN IMMEDIATE")
        for index, write in enumerate(writes):
            if isinstance(write, Submit):
                record = write.record
                known = new.get(record.id) or self._find(record.id)
                if known is not None:
                    results[index] = known
                    continue
                last += 1
                numbers[record.id] = last
                new[record.id] = record
                jobs.append(schema.to_row(last, record))
            elif isinstance(write, Prune):
                results[index] = self._prune(write)
            else:
                number = numbers.get(write.job_id) or self._number(write.job_id)
                if not number:
                    continue  # there is no such job
                if isinstance(write, Append):
                    data = b"\n".join(write.packets)
                    packets.append((schema.place(number, write.first), len(write.packets), data))
                elif isinstance(write, End):
                    ends.append((write.started, write.ended, write.message, number))
                    finished.append(write.job_id)
                else:
                    starts.append((write.time, number))
        for statement, rows in (
            (schema.INSERT_JOB, jobs),
            (schema.UPDATE_START, starts),
            (schema.INSERT_PACKETS, packets),
            (schema.UPDATE_END, ends),
        ):
            if rows:
                self._connection.executemany(statement, rows)
        execute("COMMIT")
        self._last = last
        self._numbers.update(numbers)
        for job_id in finished:
            self._numbers.pop(job_id, None)
        return results

    def _find(self, job_id: str) -> Record | None:
        row = self._connection.execute(schema.FIND_JOB, (job_id,)).fetchone()
        return None if row is None else schema.to_record(row)

    def _number(self, job_id: str) -> int:
        number = self._numbers.get(job_id)
        if number is None:
            row = self._connection.execute(schema.NUMBER, (job_id,)).fetchone()
            number = 0 if row is None else row[0]
        return number

    def _prune(self, write: Prune) -> int:
        execute = self._connection.execute
        numbers = execute(schema.SELECT_OLD, (write.before, write.limit)).fetchall()
        pruned = rows = 0
        for (number,) in numbers:
            bounds = (schema.place(number), schema.place(number + 1))
            rows += execute(schema.PRUNE_PACKETS, bounds).rowcount
            execute(schema.PRUNE_JOB, (number,))
            pruned += 1
            if rows >= PRUNED_ROWS:
                break
        return pruned


def failure(problem: Exception) -> StoreError:
    """Return what a problem of SQLite means."""
    if isinstance(problem, StoreError):
        return problem
    code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"no space is left for the jobs: {problem}")
    return StoreError(f"the jobs cannot be recorded: {problem}")


def _settle(
    group: list[tuple[Write, asyncio.Future[Any] | None]],
    results: list[Any],
    error: StoreError | None,
) -> None:
    for index, (_, future) in enumerate(group):
        if future is None or future.done():
            continue
        if error is None:
            future.set_result(results[index])
        else:
            future.set_exception(error)

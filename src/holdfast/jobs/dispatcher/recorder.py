"""A job's packets and its end on their way into the store.

Packets go in batches: while one is being written, the next gathers, so batches grow with the load.
A store that fails is asked again and again: a job outlives a disk that is full for a while. Nobody
is told of anything before it is recorded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from holdfast.jobs.dispatcher.job import State
from holdfast.jobs.dispatcher.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.jobs.dispatcher.job import Job
    from holdfast.jobs.dispatcher.store import Store

__all__ = ["HIGH", "RETRY", "Recorder", "record_end"]

log = logging.getLogger(__name__)

#: How many bytes gather before the host is not listened to.
HIGH = 1 << 17

#: What a packet takes besides its own bytes.
OVERHEAD = 64

#: After how many seconds a store that failed is asked again.
RETRY = 1.0


class Recorder:
    """Records the packets of one job.

    ``caught_up`` is called when a batch has been taken that had grown to `full`.
    """

    __slots__ = ("_caught_up", "_finish", "_job", "_pending", "_size", "_store", "_writing")

    def __init__(self, job: Job, store: Store, caught_up: Callable[[], None]) -> None:
        self._job = job
        self._store = store
        self._caught_up = caught_up
        self._pending: list[bytes] = []
        self._size = 0
        self._writing: list[bytes] | None = None
        self._finish: Callable[[], None] | None = None

    @property
    def full(self) -> bool:
        """Tell whether the store has to catch up first."""
        return self._size >= HIGH

    def add(self, packet: bytes) -> None:
        """Take a packet; `write` is to follow."""
        self._pending.append(packet)
        self._size += len(packet) + OVERHEAD

    def write(self) -> None:
        """Write what has gathered, unless a batch is on its way already."""
        if self._writing is None and self._pending:
            self._writing, self._pending = self._pending, []
            full = self.full
            self._size = 0
            self._append()
            if full:
                self._caught_up()

    def finish(self, finished: Callable[[], None]) -> None:
        """Write what is left, then call ``finished``."""
        self._finish = finished
        self._go_on()

    def _go_on(self) -> None:
        if self._pending:
            self.write()
        elif self._writing is None and self._finish is not None:
            finish, self._finish = self._finish, None
            finish()

    def _append(self) -> None:
        assert self._writing is not None
        written = self._store.append(self._job.id, self._job.recorded, self._writing)
        asyncio.ensure_future(written).add_done_callback(self._written)

    def _written(self, future: asyncio.Future[None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            _complain(self._job, error)
            asyncio.get_running_loop().call_later(RETRY, self._append)
            return
        assert self._writing is not None
        batch, self._writing = self._writing, None
        self._job.publish(batch)
        self._go_on()


def record_end(job: Job, store: Store, end: bytes, finished: Callable[[Job], None]) -> None:
    """Record the end of a job, however often that takes, and tell everybody."""
    job.state = State.ENDING
    ended = int(time.time())
    message = end.rstrip(b"\n")

    def ask() -> None:
        written = store.end(job.id, message, started=job.started, ended=ended)
        asyncio.ensure_future(written).add_done_callback(answered)

    def answered(future: asyncio.Future[None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            _complain(job, error)
            asyncio.get_running_loop().call_later(RETRY, ask)
            return
        finished(job)
        job.finish(message + b"\n")

    ask()


def _complain(job: Job, error: BaseException) -> None:
    if isinstance(error, StoreError):
        log.error("job %s waits for the store: %s", job.id, error)
    else:
        log.error("job %s waits for the store", job.id, exc_info=error)

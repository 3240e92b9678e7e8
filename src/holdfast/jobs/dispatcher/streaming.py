"""Packets of one job on their way to one client.

A stream is *live* as long as the client takes what comes: it is handed the packets when they are
recorded, from memory, the same bytes for all followers. When the client's buffer is full, the
stream falls behind and keeps nothing but its position; when the client takes data again, it
catches up from the store. So the slowest of clients costs neither the job nor the memory anything.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from holdfast.jobs.dispatcher.store import StoreError
from holdfast.jobs.endings import error_end, packet_line
from holdfast.wire.jsonlines import encode

if TYPE_CHECKING:
    from holdfast.jobs.dispatcher.job import Job
    from holdfast.jobs.dispatcher.store import Store

__all__ = ["Client", "ResultWaiter", "Stream"]

log = logging.getLogger(__name__)

# How much is fetched at a time.
_PACKETS = 4096
_BYTES = 1 << 16

_PRUNED = encode(error_end("invalid_jobid", "the job was pruned meanwhile"))


class Client(Protocol):
    """The client as a stream sees it."""

    @property
    def paused(self) -> bool:
        """Whether its buffer is full."""

    def write(self, data: bytes) -> None:
        """Send something."""

    def done(self) -> None:
        """Go on to its next request."""

    def break_off(self) -> None:
        """Close the connection, so that what was not said does not look like the end."""


class ResultWaiter:
    """Sends a job's end to a client when it is there."""

    __slots__ = ("_client", "_job")

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
        self._job = job

    @property
    def waits(self) -> bool:
        """Whether it waits for something to happen."""
        return True

    def begin(self) -> None:
        """Begin to wait."""
        if self._job.end:
            self.ended()
        else:
            self._job.add_waiter(self)

    def ended(self) -> None:
        """Send the end."""
        self._client.write(self._job.end)
        self._client.done()

    def resumed(self) -> None:
        """Do nothing: there is nothing more to send."""

    def close(self) -> None:
        """Wait no more."""
        self._job.discard_waiter(self)


class Stream:
    """Sends a job's packets to a client: those there are, and with ``job`` those to come.

    ``stop`` and ``last``: behind which packet the stream ends, and with which line; both are
    known from the beginning when there is no job to follow.
    """

    __slots__ = ("_client", "_id", "_job", "_last", "_position", "_stop", "_store", "_task")

    def __init__(
        self,
        client: Client,
        store: Store,
        job_id: str,
        position: int,
        *,
        job: Job | None = None,
        stop: int = 0,
        last: bytes = b"",
    ) -> None:
        self._client = client
        self._store = store
        self._id = job_id
        self._position = position
        self._job = job
        self._stop = stop
        self._last = last
        self._task: asyncio.Task[None] | None = None

    @property
    def waits(self) -> bool:
        """Whether it waits for something to happen."""
        return self._job is not None

    def begin(self) -> None:
        """Begin to send."""
        if self._job is None:
            self.resumed()
        elif self._job.end:
            self.ended()
        else:
            self._job.add_follower(self)
            self.resumed()

    def resumed(self) -> None:
        """Send what there is, if the client takes it."""
        if self._task is not None or self._client.paused:
            return
        if self._position < self._goal:
            self._task = asyncio.get_running_loop().create_task(self._catch_up())
        elif self._job is None:
            self._client.write(self._last)
            self._client.done()

    def close(self) -> None:
        """Send no more."""
        if self._job is not None:
            self._job.discard_follower(self)
        if self._task is not None:
            self._task.cancel()

    # Called by the job.

    @property
    def live(self) -> bool:
        """Whether the client takes what comes next."""
        return self._task is None and not self._client.paused

    def packets(self, first: int, count: int, lines: bytes) -> None:
        """Send what was just recorded."""
        if self._position == first:
            self._client.write(lines)
            self._position += count
        else:  # it wants some of them, or none
            self.resumed()

    def ended(self) -> None:
        """Send what is left, and the end."""
        assert self._job is not None
        self._stop, self._last, self._job = self._job.recorded, self._job.end, None
        self.resumed()

    @property
    def _goal(self) -> int:
        return self._stop if self._job is None else self._job.recorded

    async def _catch_up(self) -> None:
        try:
            while not self._client.paused and (left := self._goal - self._position) > 0:
                limit = min(left, _PACKETS)
                packets = await self._store.packets(self._id, self._position, limit, _BYTES)
                if not packets:
                    self._give_up("the job was pruned meanwhile")
                    self._stop, self._last = 0, _PRUNED
                    break
                position = self._position
                self._position += len(packets)
                numbers = range(position, self._position)
                self._client.write(b"".join(map(packet_line, numbers, packets)))
        except StoreError as error:
            # An error would look like that of the job. The client asks again, for the rest.
            self._give_up(str(error))
            self._client.break_off()
            return
        finally:
            self._task = None
        self.resumed()

    def _give_up(self, reason: str) -> None:
        log.warning("a stream of job %s ends early: %s", self._id, reason)
        if self._job is not None:
            self._job.discard_follower(self)
            self._job = None

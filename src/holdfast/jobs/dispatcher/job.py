"""A job that has no end yet, as the dispatcher has it in memory, and those who wait for it.

A job that waits in its queue keeps little here: what it takes to run it is read from the store
when its turn comes.
"""

from __future__ import annotations

import asyncio
import sys
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from holdfast.jobs.endings import packet_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.jobs.dispatcher.running import Run

__all__ = ["Follower", "Job", "State", "Waiter"]


class State(Enum):
    """How far a job has come."""

    SUBMITTING = "submitting"  # its record is on its way to the disk
    WAITING = "waiting"  # in its queue
    RUNNING = "running"
    ENDING = "ending"  # its end is on its way to the disk
    ENDED = "ended"


class Waiter(Protocol):
    """Whoever waits for the end of a job."""

    def ended(self) -> None:
        """Take notice that the job has ended: `Job.end` says how."""


class Follower(Waiter, Protocol):
    """Whoever wants the packets of a job as they are recorded."""

    @property
    def live(self) -> bool:
        """Whether it wants those that come next; otherwise it will fetch them itself."""

    def packets(self, first: int, count: int, lines: bytes) -> None:
        """Take packets as lines; ``first`` is the position of the first of them."""


class Job:
    """A job without an end.

    ``recorded``: how many packets are in the store. ``end``: the end message as a line, once it
    is recorded.
    """

    __slots__ = (
        "_followers",
        "_waiters",
        "end",
        "host",
        "id",
        "procedure",
        "queue",
        "recorded",
        "run",
        "slot",
        "started",
        "state",
    )

    def __init__(self, id: str, host: str, procedure: str, queue: bytes | None) -> None:
        self.id = id
        # Thousands of jobs may wait that call the same.
        self.host = sys.intern(host)
        self.procedure = sys.intern(procedure)
        self.queue = queue
        self.state = State.SUBMITTING
        #: Whether the job has a slot of its queue.
        self.slot = queue is None
        self.started: int | None = None
        self.recorded = 0
        self.run: Run | None = None
        self.end = b""
        # Dictionaries keep the order of those who came. Few jobs have any of them.
        self._waiters: dict[Waiter, None] | None = None
        self._followers: dict[Follower, None] | None = None

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state.value}, {self.recorded} packets>"

    def add_waiter(self, waiter: Waiter) -> None:
        """Tell someone of the end."""
        if self._waiters is None:
            self._waiters = {}
        self._waiters[waiter] = None

    def discard_waiter(self, waiter: Waiter) -> None:
        """Forget someone who waited."""
        if self._waiters is not None:
            self._waiters.pop(waiter, None)

    def add_follower(self, follower: Follower) -> None:
        """Tell someone of packets and the end."""
        if self._followers is None:
            self._followers = {}
        self._followers[follower] = None

    def discard_follower(self, follower: Follower) -> None:
        """Forget someone who followed."""
        if self._followers is not None:
            self._followers.pop(follower, None)

    def publish(self, packets: Sequence[bytes]) -> None:
        """Give packets that have just been recorded to those who follow."""
        first = self.recorded
        count = len(packets)
        self.recorded += count
        live = [one for one in self._followers or () if one.live]
        if live:
            # One piece of memory for all of them.
            lines = b"".join(map(packet_line, range(first, first + count), packets))
            for follower in live:
                follower.packets(first, count, lines)

    def finish(self, end: bytes) -> None:
        """Tell everybody that the job has ended."""
        self.state = State.ENDED
        self.end = end
        waiters, self._waiters = self._waiters, None
        followers, self._followers = self._followers, None
        for waiter in [*(waiters or ()), *(followers or ())]:
            waiter.ended()

    async def wait(self) -> None:
        """Wait for the end."""
        if self.state is State.ENDED:
            return
        waiter = _FutureWaiter()
        self.add_waiter(waiter)
        try:
            await waiter.future
        finally:
            self.discard_waiter(waiter)


class _FutureWaiter:
    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

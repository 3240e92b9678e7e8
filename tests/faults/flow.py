"""One direction of a proxied connection, and what a fault does to it.

A flow never blocks: it takes what its source has, keeps it until it is due, and gives it
to its sink as fast as the fault and the sink allow. `due` tells when there is something
to do without being asked by a socket.
"""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

QUEUE_LIMIT = 1 << 20
"""Bytes that a flow holds before it stops reading, as a router's queue would."""

RECEIVE_SIZE = 1 << 18
SHORTEST_PAUSE = 0.01
"""Seconds of a throttled rate that are sent in one piece."""


@dataclass(frozen=True)
class Fault:
    """What happens to a connection.

    Args:
        delay: Seconds that each piece is held back.
        rate: Bytes per second that pass.
        cut_after: Close after this number of bytes. For 0: once there is a byte to pass.
        reset_after: Reset after this number of bytes, alike.
        truncate_after: Swallow what follows this number of bytes and keep the connection.
        direction: Which way all of the above is meant; each way has its own count.
        black_hole: Accept and say nothing: neither way passes anything.
        drop: Reset at once when the connection was accepted.
    """

    delay: float = 0.0
    rate: float | None = None
    cut_after: int | None = None
    reset_after: int | None = None
    truncate_after: int | None = None
    direction: Literal["response", "request", "both"] = "response"
    black_hole: bool = False
    drop: bool = False


NO_FAULT = Fault()


class Outcome(Enum):
    """What is to become of the connection after a flow has moved bytes."""

    GO_ON = auto()
    CUT = auto()
    RESET = auto()


class Flow:
    """Bytes on their way from one socket to another."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        """Connect two sockets, one way."""
        self._source = source
        self._sink = sink
        self._fault = NO_FAULT
        self._queue: deque[tuple[float, memoryview]] = deque()
        self._queued = 0
        self._passed = 0
        self._next = 0.0
        self._ended = False
        self.finished = False
        self.blocked = False

    def set_fault(self, fault: Fault) -> None:
        """Apply a fault, or none, from here on; its counts begin at zero."""
        self._fault = fault
        self._passed = 0
        self._next = 0.0

    @property
    def wants_bytes(self) -> bool:
        """Tell whether the source should be read."""
        return not self._ended and self._queued < QUEUE_LIMIT

    @property
    def ended(self) -> bool:
        """Tell whether the source has sent its end."""
        return self._ended

    @property
    def due(self) -> float | None:
        """Return when the next piece may leave, if one waits for its time."""
        if not self._queue or self.blocked or self._fault.black_hole:
            return None
        return max(self._queue[0][0] + self._fault.delay, self._next)

    def waits(self, now: float) -> bool:
        """Tell whether something is kept for later."""
        return (due := self.due) is not None and due > now

    def fill(self, now: float) -> int:
        """Read what the source has, and return how many bytes that was."""
        try:
            data = self._source.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return 0
        if data:
            self._queue.append((now, memoryview(data)))
            self._queued += len(data)
        else:
            self._ended = True
        return len(data)

    def move(self, now: float) -> Outcome:
        """Pass on what is due, and the end after the last byte."""
        outcome = Outcome.GO_ON
        while outcome is Outcome.GO_ON and (due := self.due) is not None and due <= now:
            outcome = self._pass_piece(now)
        if self._ended and not self._queue and not self.finished and not self._fault.black_hole:
            self.finished = True
            if outcome is Outcome.GO_ON:
                self._sink.shutdown(socket.SHUT_WR)
        return outcome

    def _pass_piece(self, now: float) -> Outcome:
        fault = self._fault
        piece = self._queue[0][1]
        limit = self._limit()
        if fault.rate is not None:
            piece = piece[: max(1, int(fault.rate * SHORTEST_PAUSE))]
        if limit is not None:
            piece = piece[: max(0, limit - self._passed)]
        if piece:
            try:
                sent = self._sink.send(piece)
            except BlockingIOError:
                self.blocked = True
                return Outcome.GO_ON
            self._take(sent)
            self._passed += sent
            if fault.rate is not None:
                self._next = max(now, self._next) + sent / fault.rate
        if limit is None or self._passed < limit:
            return Outcome.GO_ON
        if limit == fault.reset_after:
            return Outcome.RESET
        if limit == fault.cut_after:
            return Outcome.CUT
        while self._queue:
            self._take(len(self._queue[0][1]))
        return Outcome.GO_ON

    def _limit(self) -> int | None:
        fault = self._fault
        limits = (fault.cut_after, fault.reset_after, fault.truncate_after)
        return min((limit for limit in limits if limit is not None), default=None)

    def _take(self, size: int) -> None:
        self._queued -= size
        since, piece = self._queue[0]
        if size == len(piece):
            self._queue.popleft()
        else:
            self._queue[0] = (since, piece[size:])

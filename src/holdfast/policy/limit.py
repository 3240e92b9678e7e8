"""The concurrency limit (bulkhead): so many calls at once, and a queue in order of arrival."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.errors import LimitExceeded
from holdfast.policy.checks import at_least

if TYPE_CHECKING:
    from holdfast.ops import Program

__all__ = ["Limit", "Limiter"]


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``calls`` at once; ``queue`` more may wait for their turn."""

    calls: int = 100
    queue: int = 100

    def __post_init__(self) -> None:
        at_least(self, 1, "calls")
        at_least(self, 0, "queue")


class Limiter:
    """The state of a `Limit`, and a count of calls in flight even without one.

    Safe among threads. A slot that is given back goes straight to who waits longest, so nobody
    who comes later can take it.
    """

    __slots__ = ("_calls", "_lock", "_queue", "in_flight", "spec")

    def __init__(self, spec: Limit | None) -> None:
        self.spec = spec
        self.in_flight = 0
        self._calls = spec.calls if spec is not None else 1 << 62
        self._lock = threading.Lock()
        self._queue: deque[ops.Signal] | tuple[()] = ()  # a deque once somebody waits

    def __repr__(self) -> str:
        return f"<Limiter {self.in_flight} in flight, {len(self._queue)} waiting>"

    @property
    def waiting(self) -> int:
        """How many calls wait for a slot."""
        return len(self._queue)

    def try_acquire(self) -> bool:
        """Take a slot if one is free."""
        with self._lock:
            if self.in_flight < self._calls:
                self.in_flight += 1
                return True
            return False

    def acquire(self, deadline: float) -> Program[None]:
        """Take a slot, waiting for one until the deadline.

        Raises LimitExceeded when the queue is full, TimeoutError at the deadline.
        """
        with self._lock:
            if self.in_flight < self._calls:
                self.in_flight += 1
                return
            assert self.spec is not None
            if len(self._queue) >= self.spec.queue:
                raise LimitExceeded(
                    f"{self.spec.calls} calls are in flight and {self.spec.queue} wait already"
                )
            if not isinstance(self._queue, deque):
                self._queue = deque()
            turn = ops.Signal()
            self._queue.append(turn)
        got = False
        try:
            yield ops.Wait(turn, deadline)
            got = True
        finally:
            if not got:
                self._leave(turn)

    def _leave(self, turn: ops.Signal) -> None:
        """Stop waiting; a slot that was already handed over goes on to the next."""
        with self._lock:
            if isinstance(self._queue, deque) and turn in self._queue:
                self._queue.remove(turn)
                return
        self.release()

    def release(self) -> None:
        """Give a slot back."""
        with self._lock:
            if not isinstance(self._queue, deque) or not self._queue:
                self.in_flight -= 1
                return
            turn = self._queue.popleft()
        turn.fire()

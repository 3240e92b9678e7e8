"""The concurrency limit (bulkhead): so many calls at once, and a queue in order of arrival."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.errors import LimitExceeded
from holdfast.policy.adaptive import AdaptiveLimit, algorithm_of
from holdfast.policy.checks import at_least
from holdfast.policy.specs import Spec

if TYPE_CHECKING:
    from holdfast.ops import Program
    from holdfast.policy.adaptive import Algorithm

__all__ = ["Limit", "Limiter"]

#: More than there can be.
_UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True, repr=False)
class Limit(Spec):
    """At most ``calls`` at once; ``queue`` more may wait for their turn."""

    calls: int = 100
    queue: int = 100

    def __post_init__(self) -> None:
        at_least(self, 1, "calls")
        at_least(self, 0, "queue")


class Limiter:
    """The state of a `Limit` or an `AdaptiveLimit`; without one, a count of calls in flight.

    Safe among threads. A slot that is given back goes straight to who waits longest, so nobody
    who comes later can take it. ``adaptive`` is the algorithm's state, None where the limit is
    fixed. Where a limit was lowered, calls in flight may be more than it until enough have ended;
    none is let in meanwhile.
    """

    __slots__ = ("_calls", "_lock", "_queue", "adaptive", "in_flight", "spec")

    def __init__(self, spec: Limit | AdaptiveLimit | None) -> None:
        self.spec = spec
        self.in_flight = 0
        self.adaptive: Algorithm | None = None
        self._calls = _UNLIMITED
        if isinstance(spec, AdaptiveLimit):
            self.adaptive = algorithm_of(spec)
            self._calls = self.adaptive.limit
        elif spec is not None:
            self._calls = spec.calls
        self._lock = threading.Lock()
        self._queue: deque[ops.Signal] | tuple[()] = ()  # a deque once somebody waits

    def __repr__(self) -> str:
        of = f" of {self._calls}" if self.adaptive is not None else ""
        return f"<Limiter {self.in_flight}{of} in flight, {len(self._queue)} waiting>"

    @property
    def limit(self) -> int | None:
        """How many calls may be in flight now; None when that is not limited."""
        return self._calls if self._calls != _UNLIMITED else None

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
                    f"{self.in_flight} calls are in flight and {self.spec.queue} wait already"
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
            # Above a limit that was lowered, nobody gets the slot.
            if not self._queue or self.in_flight > self._calls:
                self.in_flight -= 1
                return
            assert isinstance(self._queue, deque)
            turn = self._queue.popleft()
        turn.fire()

    def observe(self, seconds: float, dropped: bool, now: float) -> int | None:
        """Adapt to a call that took so many seconds; return the new limit if that changed it.

        ``dropped``: the call was lost to overload: a time limit, a refusal, 429 or 503. To be
        called while the call still has its slot. A call that tells nothing of the host's load,
        such as one that was cancelled, should not be observed.
        """
        adaptive = self.adaptive
        if adaptive is None:
            return None
        turns: list[ops.Signal] = []
        with self._lock:
            limit = adaptive.update(seconds, dropped, max(1, self.in_flight), now)
            if limit == self._calls:
                return None
            self._calls = limit
            while self._queue and self.in_flight < limit:
                assert isinstance(self._queue, deque)
                turns.append(self._queue.popleft())
                self.in_flight += 1
        for turn in turns:
            turn.fire()
        return limit

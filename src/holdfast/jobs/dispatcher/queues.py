"""Queues of one process: who holds a slot, who is next.

A queue exists from its first job to its last, and lets as many jobs run at a time as that first
job said. Jobs get their slots in the order in which they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.jobs.dispatcher.store import QueueState

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LocalQueues"]


class _Queue:
    __slots__ = ("concurrency", "running", "waiting")

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.running: set[str] = set()
        # A dictionary keeps the order, and a job in the middle is taken out at no cost.
        self.waiting: dict[str, Callable[[], None]] = {}


class LocalQueues:
    """The queues of a store that serves one dispatcher."""

    def __init__(self) -> None:
        self._queues: dict[bytes, _Queue] = {}

    def enter(self, queue: bytes, concurrency: int, job_id: str, ready: Callable[[], None]) -> bool:
        """Put a job into a queue; return whether it has a slot at once."""
        state = self._queues.get(queue)
        if state is None:
            state = self._queues[queue] = _Queue(concurrency)
        if len(state.running) < state.concurrency and not state.waiting:
            state.running.add(job_id)
            return True
        state.waiting[job_id] = ready
        return False

    def leave(self, queue: bytes, job_id: str) -> None:
        """Take a job out of a queue, whether it waited there or held a slot."""
        state = self._queues.get(queue)
        if state is None or (
            state.waiting.pop(job_id, None) is None and job_id not in state.running
        ):
            return
        state.running.discard(job_id)
        if not state.running and not state.waiting:
            del self._queues[queue]
            return
        while state.waiting and len(state.running) < state.concurrency:
            following = next(iter(state.waiting))
            ready = state.waiting.pop(following)
            state.running.add(following)
            ready()

    def queues(self) -> list[QueueState]:
        """Return the queues that there are."""
        return [
            QueueState(name, state.concurrency, tuple(state.running), tuple(state.waiting))
            for name, state in self._queues.items()
        ]

"""The copies of a block that is being written: how many there are, and who is asked next.

A state machine without I/O. *Wanted* are copies in all, and of each storage class. A task is
taken only as long as those that are confirmed, and those that are on their way, are fewer: so
there are never more than asked for, and each failure makes room for one more service.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdfast.blocks.service import KeepService

__all__ = ["KeepWriterQueue", "Task"]


class Task(NamedTuple):
    """A service that is asked for a number of copies, of some storage classes."""

    service: KeepService
    copies: int
    classes: tuple[str, ...]


class KeepWriterQueue:
    """Counts the copies of one block, and tells which service to ask next. Safe among threads.

    ``copies``: how many are wanted; ``classes``: the storage classes in each of which that many
    are wanted.
    """

    def __init__(self, copies: int, classes: Iterable[str] = ()) -> None:
        self.wanted_copies = copies
        self.successful_copies = 0
        self.wanted_storage_classes = tuple(dict.fromkeys(classes))
        self.confirmed_storage_classes = dict.fromkeys(self.wanted_storage_classes, 0)
        #: The body of the last answer that told of a copy.
        self.response: str | None = None
        self._waiting: deque[tuple[KeepService, int | None]] = deque()
        self._under_way: list[Task] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"<KeepWriterQueue: {self.successful_copies} of {self.wanted_copies} copies, "
            f"{len(self._under_way)} under way, {len(self._waiting)} waiting>"
        )

    def put(self, service: KeepService, most: int | None = 1) -> None:
        """Add a service to those that wait, which is asked for at most so many copies."""
        with self._lock:
            self._waiting.append((service, most))

    def drop_waiting(self) -> None:
        """Forget the services that wait."""
        with self._lock:
            self._waiting.clear()

    def get_next_task(self) -> Task | None:
        """Take the next service; None when enough is under way, or nobody is left."""
        with self._lock:
            missing = self._missing()
            if missing <= 0 or not self._waiting:
                return None
            service, most = self._waiting.popleft()
            copies = missing if most is None else min(missing, most)
            task = Task(service, copies, tuple(self._pending_classes()))
            self._under_way.append(task)
            return task

    def write_success(
        self, task: Task, response: str, replicas: int, confirmed: Mapping[str, int]
    ) -> None:
        """Count what a service has stored."""
        with self._lock:
            self._under_way.remove(task)
            self.successful_copies += replicas
            self.response = response
            for name, copies in confirmed.items():
                if name in self.confirmed_storage_classes:
                    self.confirmed_storage_classes[name] += copies

    def write_fail(self, task: Task) -> None:
        """Take note that a service has stored nothing."""
        with self._lock:
            self._under_way.remove(task)

    def pending_copies(self) -> int:
        """Return how many copies are not confirmed yet."""
        return max(self.wanted_copies - self.successful_copies, 0)

    def pending_classes(self) -> list[str]:
        """Return the storage classes of which there are not enough copies yet."""
        with self._lock:
            return self._pending_classes()

    def satisfied_classes(self) -> list[str]:
        """Return the storage classes of which there are enough copies."""
        pending = self.pending_classes()
        return [name for name in self.wanted_storage_classes if name not in pending]

    @property
    def satisfied(self) -> bool:
        """Whether there is as much as was asked for."""
        return not self.pending_copies() and not self.pending_classes()

    def _pending_classes(self) -> list[str]:
        wanted = self.wanted_copies
        return [name for name, count in self.confirmed_storage_classes.items() if count < wanted]

    def _missing(self) -> int:
        """Return how many copies more to ask for, should all go well that is under way."""
        confirmed = min([self.successful_copies, *self.confirmed_storage_classes.values()])
        return self.wanted_copies - confirmed - sum(task.copies for task in self._under_way)

"""The parallel writing of one block to given services, under the names of the Arvados SDK.

`KeepClient.put` runs the same program itself; these are for programs that pick the services.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from holdfast.blocks.copies import KeepWriterQueue
from holdfast.blocks.core import block_of
from holdfast.blocks.requests import checked_classes
from holdfast.blocks.timeouts import DEFAULT_TIMEOUT, seconds_of, timeout_of
from holdfast.blocks.writing import stored, write_all
from holdfast.drivers import blocking
from holdfast.http.bodies import BytesBody

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast import ops
    from holdfast.blocks.copies import Task
    from holdfast.blocks.service import KeepService
    from holdfast.ops import Program

__all__ = ["KeepWriterThread", "KeepWriterThreadPool"]


class KeepWriterThread(threading.Thread):
    """A thread that writes a block to the services of a queue, until there are enough copies."""

    def __init__(
        self,
        queue: KeepWriterQueue,
        data: ops.Buffer | str,
        data_hash: str,
        timeout: float | tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(name=f"holdfast-put-{data_hash[:8]}", daemon=True)
        self.queue = queue
        self._data_hash = data_hash
        self._body = BytesBody(block_of(data))
        self._timeout = timeout_of(seconds_of(timeout, DEFAULT_TIMEOUT))

    def run(self) -> None:
        """Write side by side to as many services as are needed."""
        blocking.run(write_all(self.queue, self._write))

    def do_task(self, service: KeepService, service_root: str = "") -> tuple[str, int] | None:
        """Write one copy to a service: returns its answer and its copies, None if it failed."""
        self.queue.put(service)
        task = self.queue.get_next_task()
        if task is None:
            return None
        if not blocking.run(self._write(task)):
            self.queue.write_fail(task)
            return None
        text, copies, classes = stored(task)
        self.queue.write_success(task, text, copies, classes)
        return text, copies

    def _write(self, task: Task) -> Program[bool]:
        fields = task.service.fields.wanting(task.copies, task.classes)
        return (yield from task.service.write(self._data_hash, self._body, self._timeout, fields))


class KeepWriterThreadPool:
    """Writes a block to as many of its services as it takes.

    ``copies``: how many are wanted; ``max_service_replicas``: how many one service is asked for,
    None for any number; ``timeout`` as of `KeepClient`; ``classes``: storage classes.
    """

    def __init__(
        self,
        data: ops.Buffer | str,
        data_hash: str,
        copies: int,
        max_service_replicas: int | None,
        timeout: float | tuple[float, ...] | None = None,
        classes: Iterable[str] = (),
    ) -> None:
        self.queue = KeepWriterQueue(copies, checked_classes(classes))
        self.total_task_nr = 0
        self._most = max_service_replicas
        self._thread = KeepWriterThread(self.queue, data, data_hash, timeout)

    def add_task(self, ks: KeepService, service_root: str = "") -> None:
        """Add a service to be asked after those that were added before."""
        self.queue.put(ks, self._most)
        self.total_task_nr += 1

    def join(self) -> None:
        """Write, and return when there are enough copies or nobody is left to ask."""
        self._thread.start()
        self._thread.join()

    def done(self) -> int:
        """Return how many copies were stored."""
        return self.queue.successful_copies

    def response(self) -> str | None:
        """Return the last answer that told of a copy."""
        return self.queue.response

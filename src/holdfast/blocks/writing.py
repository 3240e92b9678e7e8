"""Put: as many services as there are copies to be stored are sent the block side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.blocks.copies import KeepWriterQueue
from holdfast.blocks.errors import KeepWriteError
from holdfast.blocks.operation import Operation
from holdfast.blocks.requests import TAKEN, checked_classes
from holdfast.http.bodies import BytesBody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.blocks.copies import Task
    from holdfast.blocks.core import KeepCore
    from holdfast.blocks.placement import Service, Services
    from holdfast.http.limits import Timeout
    from holdfast.ops import Program

__all__ = ["Writing", "stored", "write_all"]


#: How long the first answers are waited for one after the other, in seconds.
SOON = 0.05


def write_all(
    queue: KeepWriterQueue,
    write: Callable[[Task], Program[bool]],
    quickly: Callable[[list[Task]], Program[list[Task]]] | None = None,
) -> Program[None]:
    """Have the services of a queue write, as many at a time as are needed, until it is enough.

    ``write`` sends the block to the service of a task. ``quickly`` has a small block written to
    several services at hardly more than the cost of one; it returns the tasks that are left.
    """
    tasks = []
    while (task := queue.get_next_task()) is not None:
        tasks.append(task)
    if quickly is not None and len(tasks) > 1:
        tasks = yield from quickly(tasks)
    if tasks:
        yield from ops.all_of([_write_on(queue, write, task) for task in tasks])


def _write_on(
    queue: KeepWriterQueue, write: Callable[[Task], Program[bool]], task: Task | None
) -> Program[None]:
    """Write one copy, and then as many more as are missing because some have failed."""
    while task is not None:
        wrote = False
        try:
            wrote = yield from write(task)
        finally:
            _count(queue, task, wrote)
        task = queue.get_next_task()


def _count(queue: KeepWriterQueue, task: Task, wrote: bool) -> None:
    if wrote:
        queue.write_success(task, *stored(task))
    else:
        queue.write_fail(task)


def stored(task: Task) -> tuple[str, int, dict[str, int]]:
    """Return what a service answered: its text, the copies, and the copies by storage class."""
    service = task.service
    text = service.content.decode("latin-1").strip()
    copies = _number(service.header("x-keep-replicas-stored"), 1)
    classes: dict[str, int] = {}
    if not task.classes:
        return text, copies, classes
    for part in (service.header("x-keep-storage-classes-confirmed") or "").split(","):
        name, mark, count = part.partition("=")
        if mark:
            classes[name.strip()] = _number(count, 0)
    return text, copies, classes


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


class Writing(Operation[str]):
    """The storing of a block; its result is the locator that the last service answered with."""

    def __init__(
        self,
        core: KeepCore,
        md5sum: str,
        data: ops.Buffer,
        copies: int,
        classes: Iterable[str],
        retries: int,
        request_id: str | None,
    ) -> None:
        super().__init__(core, retries, request_id)
        self.queue = KeepWriterQueue(copies, checked_classes(classes))
        self._md5sum = md5sum
        self._body = BytesBody(data)
        self._timeouts: dict[str, Timeout] = {}

    def ordered(self, services: Services) -> Sequence[Service]:
        """Return those that can be written to, by weight."""
        return services.to_write(self._md5sum)

    def round(self) -> Program[bool]:
        """Write until there are enough copies, or nobody is left to ask."""
        queue = self.queue
        queue.drop_waiting()
        for service, one in self.candidates():
            self._timeouts[service.root] = self.timeout(service)
            queue.put(one, service.copies)
        quickly = self._quickly if len(self._body.data) <= TAKEN else None
        try:
            yield from write_all(queue, self._write, quickly)
        finally:
            for one in self.asked.values():
                one.abandon()
        return queue.satisfied

    def _write(self, task: Task) -> Program[bool]:
        service = task.service
        if self.core.clock() >= self.deadline:
            self.queue.drop_waiting()
            return False
        self.asked.setdefault(service.root, service)
        fields = self.fields.wanting(task.copies, task.classes)
        timeout = self._timeouts[service.root]
        return (yield from service.write(self._md5sum, self._body, timeout, fields, self.deadline))

    def _quickly(self, tasks: list[Task]) -> Program[list[Task]]:
        """Send to all, and then wait for all, in turn; returns the tasks that need more than that.

        Over kept connections the whole of it is done before programs of their own would have
        begun. Who does not answer soon, or not well, must not keep the others waiting.
        """
        queue, md5sum, body = self.queue, self._md5sum, self._body
        soon = min(self.core.clock() + SOON, self.deadline)
        for task in tasks:
            service = task.service
            self.asked.setdefault(service.root, service)
            fields = self.fields.wanting(task.copies, task.classes)
            timeout = self._timeouts[service.root]
            yield from service.begin(md5sum, body, timeout, fields, self.deadline, soon)
        left = []
        for task in tasks:
            wrote = yield from task.service.answered(md5sum, body, soon)
            if wrote is None:
                left.append(task)
            else:
                _count(queue, task, wrote)
        while (another := queue.get_next_task()) is not None:
            left.append(another)
        return left

    def result(self) -> str:
        """Return the locator."""
        return self.queue.response or f"{self._md5sum}+{self._body.length}"

    def failure(self) -> KeepWriteError:
        """Return the error with how much was stored, and what each service said."""
        queue = self.queue
        if not self.asked:
            text = f"failed to write {self._md5sum}: no Keep service is available"
            return KeepWriteError(text, request_id=self.request_id)
        text = (
            f"failed to write {self._md5sum} after {self.attempts()} "
            f"(wanted {queue.wanted_copies} copies but wrote {queue.successful_copies}"
        )
        if pending := queue.pending_classes():
            text += f"; too few in the storage classes {', '.join(pending)}"
        return KeepWriteError(f"{text})", self.errors(), "service", self.request_id)

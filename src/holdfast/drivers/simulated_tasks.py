"""Programs in progress in the simulated driver, alone and in groups."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from holdfast import ops

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.drivers.simulated import World

__all__ = ["EndlessWait", "Group", "Task"]

_ON_STREAMS = (ops.RoundTrip, ops.Send, ops.Receive, ops.ReceiveInto)


class EndlessWait(RuntimeError):
    """A program waits for what nothing will ever do."""


class Task:
    """A program in progress.

    ``done`` tells that it is over, ``cancelled`` that it was closed before its end.
    """

    __slots__ = (
        "alarm",
        "asynchronous",
        "awaited",
        "cancelled",
        "children",
        "closing",
        "deadline",
        "done",
        "error",
        "group",
        "limit",
        "number",
        "on_done",
        "operation",
        "origin",
        "program",
        "reason",
        "running",
        "send",
        "source",
        "target",
        "tries",
        "turn",
        "value",
        "world",
    )

    def __init__(
        self,
        world: World,
        program: ops.Program[Any],
        source: str,
        number: int,
        on_done: Callable[[Task], object] | None,
        group: Group | None = None,
    ) -> None:
        self.world = world
        self.program = program
        self.send = program.send
        self.source = source
        self.number = number
        self.on_done = on_done
        self.group = group
        self.done = False
        self.cancelled = False
        self.running = False
        self.asynchronous = False  # whether what a function returns is awaited
        self.turn = 0  # events of earlier turns are void
        self.value: Any = None  # the result, or what is to be sent into the program
        self.error: BaseException | None = None  # the same of errors
        self.operation: Any = None
        self.deadline = inf  # of the operation
        self.alarm = inf  # when it is looked whether the operation took too long
        self.children: Group | None = None
        self.awaited: Any = None  # what a function returned
        self.closing = False  # cancelled while it runs
        self.reason: BaseException | None = None
        # Of the operation in progress: the most to receive; who connects whereto, how often.
        self.limit = 0
        self.origin = self.target = ""
        self.tries = 0

    def __repr__(self) -> str:
        return f"<Task {self.number}: {self.described()}>"

    def result(self) -> Any:
        """Return the program's result, or raise what it raised.

        Raises RuntimeError while the program runs, and when it was closed before its end.
        """
        if not self.done:
            raise RuntimeError(f"the program still runs: {self.described()}")
        if self.error is not None:
            raise self.error
        if self.cancelled:
            raise RuntimeError("the program was cancelled")
        return self.value

    def cancel(self, error: BaseException | None = None) -> None:
        """Close the program where it waits, or throw an error into it.

        What it runs at the same time is closed first. A program that runs is stopped at its next
        operation.
        """
        if self.done:
            return
        self.reason = error
        if self.running:
            self.closing = True
            return
        self.closing = False
        self.turn += 1
        self.deadline = inf
        self.unpark()
        if self.children is not None:
            group, self.children = self.children, None
            group.close()
        if error is not None:
            self.world.throw(self, error)
            return
        self.cancelled = True
        self.value = self.error = None
        try:
            self.program.close()
        finally:
            self._finish()

    def described(self) -> str:
        """Say what the program is and what it waits for."""
        name = getattr(self.program, "__qualname__", "a program")
        operation = self.operation
        if self.done:
            return f"{name} is over"
        if operation is None:
            return f"{name} has not begun"
        kind = type(operation).__name__
        if isinstance(operation, _ON_STREAMS):
            where: Any = operation.stream
            return f"{name} waits in {kind}, {where!r}"
        if isinstance(operation, ops.Connect):
            return f"{name} waits in Connect to {self.target}"
        if self.children is not None:
            inner = "; ".join(child.described() for child in self.children.tasks if not child.done)
            return f"{name} waits in {kind} of [{inner}]"
        return f"{name} waits in {kind}"

    # What the driver calls.

    def begin(self, _: None) -> None:
        """Take the first step."""
        if not self.done and self.turn == 0:
            self.world.step(self, None)

    def resume(self, turn: int) -> None:
        """Go on with what was kept for the program in ``value``, unless its turn is over."""
        if turn == self.turn:
            value, self.value = self.value, None
            self.world.step(self, value)

    def fail(self, turn: int) -> None:
        """Go on with the error that was kept for the program, unless its turn is over."""
        if turn == self.turn:
            error, self.error = self.error, None
            assert error is not None
            self.world.throw(self, error)

    def ring(self, at: float) -> None:
        """Look whether the operation took too long."""
        if self.alarm != at:  # an earlier one was set meanwhile
            return
        self.alarm = inf
        if self.done:
            self.world.stale -= 1
            return
        if self.deadline == inf:
            return
        if self.deadline > at:
            self.world.until(self, self.deadline)
            return
        self.unpark()
        self.world.throw(self, TimeoutError())

    def unpark(self) -> None:
        """Have nobody tell the task any more what it waited for."""
        operation = self.operation
        if isinstance(operation, _ON_STREAMS):
            stream: Any = operation.stream
            if stream.waiter is self:
                stream.waiter = None
            if stream.sender is self:
                stream.sender = None
        elif isinstance(operation, ops.Wait):
            operation.signal.listen(None)
        elif self.awaited is not None:
            awaited, self.awaited = self.awaited, None
            awaited.cancel()

    def ended(self, error: BaseException) -> None:
        """Note how the program ended: StopIteration is its return."""
        if isinstance(error, StopIteration):
            self.value = error.value
            self._finish()
            return
        if error.__traceback__ is not None:
            # The driver's own frame leads to this task, and so back to the error.
            error.__traceback__ = error.__traceback__.tb_next
        self.value = None
        self.error = error
        self._finish()
        if not isinstance(error, Exception) and error is not self.reason and self.group is None:
            raise error  # an interrupt is for whoever runs the world

    def _finish(self) -> None:
        self.done = True
        self.operation = None
        if self.alarm < inf:
            self.world.forget_alarm()
        if self.group is not None:
            self.group.over(self)
        elif self.on_done is not None:
            self.on_done(self)


class Group:
    """The programs of an ``All`` or ``First``; ``parent`` is the task that asked for it."""

    __slots__ = ("_first", "_over", "left", "parent", "tasks")

    def __init__(self, parent: Task, first: bool) -> None:
        self.parent = parent
        self.tasks: list[Task] = []
        self.left = 0
        self._first = first
        self._over = False

    def over(self, task: Task) -> None:
        """Note that one is over, and let the parent go on when that was all it takes."""
        if self._over:
            return
        self.left -= 1
        parent, error = self.parent, task.error
        if error is not None and not isinstance(error, Exception):
            self.close()
            parent.children = None
            parent.world.throw(parent, error)
        elif self._first and error is None:
            self.close()
            parent.children = None
            parent.world.later(parent, (self.tasks.index(task), task.value))
        elif self.left == 0:
            self._over = True
            parent.children = None
            results: list[Any] = [
                one.value if one.error is None else one.error for one in self.tasks
            ]
            if self._first:
                errors = ExceptionGroup("every program failed", results)
                parent.world.later(parent, error=errors)
            else:
                parent.world.later(parent, results)

    def close(self) -> None:
        """Close those that still run."""
        self._over = True
        for task in self.tasks:
            with suppress(Exception):  # what goes wrong in a loser's clean-up is not the winner's
                task.cancel()

"""Programs in progress on a Twisted reactor.

Theory of operation: a `Task` runs its program until an operation has to wait. What it then waits
for is an object of its own (a stream, a timer, a Deferred, other tasks), which goes on with the
task when it is over, straight from the reactor's event and without a Deferred in between. To give
such a wait up is to tell this object, once; it never speaks to the task again. A task never runs
twice at a time: what is asked of one that runs is done when it next waits.
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError

from holdfast import ops

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.drivers.twisted import Driver

__all__ = ["PARKED", "Group", "Task"]

#: What performing an operation returns when the task waits.
PARKED: Any = object()

#: How many operations a task may do in one go, without having to wait.
_TURN = 64


class Waiting(Protocol):
    """What a task waits for."""

    def give_up(self) -> None:
        """End it, and leave the task alone."""


class Task:
    """A program in progress; ``over`` is called at its end, with its result or its exception."""

    __slots__ = (
        "_closing",
        "_context",
        "_over",
        "_program",
        "_running",
        "done",
        "driver",
        "waiting",
    )

    def __init__(
        self,
        driver: Driver,
        program: ops.Program[Any],
        over: Callable[[Any, BaseException | None], object],
    ) -> None:
        self.driver = driver
        self.done = False
        self.waiting: Waiting | None = None
        self._program = program
        self._over = over
        self._running = False
        self._closing = False  # cancelled while it runs
        # Of its own, as a coroutine's: what a function sets here is seen by the next one only.
        self._context = copy_context()

    def begin(self) -> None:
        """Take the first step."""
        self._enter(self._program.send, None)

    def resume(self, value: Any) -> None:
        """Go on with an operation's result."""
        self._enter(self._program.send, value)

    def fail(self, error: BaseException) -> None:
        """Go on with an operation's failure."""
        self._enter(self._program.throw, error)

    def go_on(self, function: Callable[[], Any]) -> None:
        """Go on with what a function returns or raises, or wait again."""
        try:
            value = function()
        except BaseException as error:
            self.fail(error)
            return
        if value is not PARKED:
            self.resume(value)

    def cancel(self) -> None:
        """Close the program where it waits, after what it runs at the same time.

        It is closed rather than told of a ``CancelledError``, which is an ``Exception`` in
        Twisted: a program would take it for one more failure, and perhaps try again.
        """
        if self.done:
            return
        self._closing = True
        if self._running:
            return
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.give_up()
        self._close()

    def _close(self) -> None:
        if self.done:  # what was given up has cancelled the task, too
            return
        ending: BaseException = CancelledError()
        self._running = True
        try:
            self._context.run(self._program.close)
        except BaseException as error:
            ending = error
        self._end(None, ending)

    def _enter(self, step: Callable[[Any], ops.Operation], value: Any) -> None:
        self.waiting = None
        self._context.run(self._go, step, value)
        if self._closing:
            self.cancel()

    def _go(self, step: Callable[[Any], ops.Operation], value: Any) -> None:
        """Run until an operation has to wait, or the program is over."""
        send, throw = self._program.send, self._program.throw
        perform = self.driver.perform
        self._running = True
        try:
            for _ in range(_TURN):
                try:
                    operation = step(value)
                except StopIteration as stop:
                    self._end(stop.value, None)
                    return
                except BaseException as error:
                    self._end(None, error)
                    return
                if self._closing:
                    break
                step = send
                try:
                    value = perform[operation.__class__](self, operation)
                except BaseException as error:
                    value = error
                    step = throw
                if value is PARKED or self._closing:
                    break
            else:
                self.waiting = _Breath(self, partial(self._enter, step, value))
            self._running = False
        finally:
            value = None  # an exception must not keep its own frame alive

    def _end(self, result: Any, error: BaseException | None) -> None:
        self.done = True
        self._running = False
        over = self._over
        del self._over
        over(result, error)


class _Breath:
    """A turn of the reactor for others, while the task could go on."""

    __slots__ = ("_call",)

    def __init__(self, task: Task, go_on: Callable[[], None]) -> None:
        self._call = task.driver.reactor.callLater(0, go_on)

    def give_up(self) -> None:
        self._call.cancel()


class Group:
    """The programs of an ``All`` or ``First``, and the task that asked for them."""

    __slots__ = ("_first", "_left", "_parent", "_results", "_starting", "_tasks", "_winner")

    def __init__(self, parent: Task, operation: ops.All | ops.First) -> None:
        self._first = isinstance(operation, ops.First)
        self._parent: Task | None = parent
        self._tasks = [
            Task(parent.driver, program, partial(self._over, index))
            for index, program in enumerate(operation.programs)
        ]
        if self._first and not self._tasks:
            raise ValueError("First needs a program")
        self._results: list[Any] = [None] * len(self._tasks)
        self._left = len(self._tasks)
        self._winner: tuple[int, Any] | None = None
        self._starting = True

    def begin(self) -> Any:
        """Start the programs; return the operation's result when they are over already."""
        for task in self._tasks:
            if not task.done:  # somebody has won before it began
                task.begin()
        self._starting = False
        if not self._left:
            return self._outcome()
        assert self._parent is not None
        self._parent.waiting = self
        return PARKED

    def give_up(self) -> None:
        """Close every program that still runs."""
        self._parent = None
        for task in self._tasks:
            task.cancel()

    def _over(self, index: int, result: Any, error: BaseException | None) -> None:
        self._left -= 1
        if self._winner is None:
            self._results[index] = result if error is None else error
            if self._first and error is None and self._parent is not None:
                self._winner = (index, result)
                for task in self._tasks:
                    task.cancel()
        # The winner has to wait for losers that are running: they go on when this returns.
        if not self._left and not self._starting and self._parent is not None:
            parent, self._parent = self._parent, None
            parent.go_on(self._outcome)

    def _outcome(self) -> Any:
        if not self._first:
            return self._results
        if self._winner is None:
            raise BaseExceptionGroup("every program failed", self._results)
        return self._winner

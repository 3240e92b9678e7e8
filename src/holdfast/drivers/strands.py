"""Programs in progress: what `holdfast.drivers.turns` runs, and what it knows of each."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from holdfast import ops

if TYPE_CHECKING:
    from holdfast.drivers.lookups import Lookup

__all__ = ["Group", "Strand", "Task"]

T = TypeVar("T")


class Strand:
    """One program in progress: a task's own, or one of a group's."""

    __slots__ = (
        "children",
        "events",
        "fileno",
        "group",
        "index",
        "lookup",
        "number",
        "operation",
        "program",
        "task",
    )

    def __init__(self, program: ops.Program[Any], group: Group | None, index: int = 0) -> None:
        self.program = program
        self.group = group
        self.index = index
        self.number = -1
        self.operation: Any = None  # that it waits for
        self.fileno = -1
        self.events = 0
        self.lookup: Lookup | None = None
        self.children: Group | None = None
        self.task: Task[Any] | None = None  # of an outermost one

    @property
    def outermost(self) -> Strand:
        """The strand that has asked for this one, or for who has asked."""
        strand = self
        while strand.group is not None:
            strand = strand.group.parent
        return strand


class Group:
    """An ``All`` or ``First`` in progress; ``parent`` is the strand that asked for it."""

    __slots__ = ("first", "left", "parent", "results", "strands")

    def __init__(self, operation: ops.All | ops.First, parent: Strand) -> None:
        self.first = isinstance(operation, ops.First)
        self.parent = parent
        self.strands = [Strand(p, self, i) for i, p in enumerate(operation.programs)]
        self.results: list[Any] = [None] * len(self.strands)
        self.left = len(self.strands)


class Canceller(Protocol):
    """What ends a task before its time."""

    def cancel(self, task: Task[Any]) -> None:
        """Close the task's program."""


class Task(Generic[T]):
    """An outermost program: in progress, or over.

    A program that was cancelled is over with ``concurrent.futures.CancelledError``.
    """

    __slots__ = ("__weakref__", "_error", "_result", "_runner", "done", "strand")

    def __init__(self, program: ops.Program[T], runner: Canceller) -> None:
        #: Whether the program is over, by itself or because it was cancelled.
        self.done = False
        self.strand: Strand | None = Strand(program, None)
        self.strand.task = self
        self._runner: Canceller | None = runner
        self._result: Any = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        state = "in progress"
        if self.done:
            state = "returned" if self._error is None else f"raised {type(self._error).__name__}"
        return f"<Task {state}>"

    @property
    def cancelled(self) -> bool:
        """Whether it was ended before its program was over."""
        return isinstance(self._error, CancelledError)

    def result(self) -> T:
        """Return what the program returned, or raise what it raised.

        Raises RuntimeError while it is not over.
        """
        if not self.done:
            raise RuntimeError("the program is not over yet")
        if self._error is None:
            return self._result  # type: ignore[no-any-return]
        try:
            raise self._error
        finally:
            del self  # an exception must not keep its own frame alive

    def cancel(self) -> None:
        """Close the program, which has given back what it holds when this returns.

        From within that program itself, it is closed when it next waits. One that is over stays
        as it is.
        """
        if self._runner is not None:
            self._runner.cancel(self)

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Be over; called by the runner."""
        self.done = True
        self._result = result
        self._error = error
        if self.strand is not None:
            self.strand.task = None  # nor will a traceback that leads to it lead back here
        self.strand = self._runner = None

"""Several programs on one thread: each runs until it would have to wait, then the next one.

Theory of operation: a *strand* is one program in progress. It is *ready* (in a queue, with what
is to be sent or thrown into it) or *parked* with the operation that it waits for, under a number
of its own that also orders equal deadlines. What ends the wait (a socket, a signal, a deadline)
takes the strand out of ``_parked``; a late end finds nothing there and is ignored.

Two drivers stand on it. The blocking one alternates `step` and `wait`, until the one task that it
has is over. The stepped one alternates `look`, which does not wait, and `step`.
"""

from __future__ import annotations

import heapq
import selectors
from collections import deque
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import count
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast import ops
from holdfast.drivers.bells import RUNG, Bell
from holdfast.drivers.lookups import Lookup
from holdfast.drivers.sockets import READ, TRY, WRITE, abandon, events_of, socket_of
from holdfast.drivers.strands import Group, Strand, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Turns"]

T = TypeVar("T")

#: How many operations a strand may do in one go, without having to wait.
_TURN = 64

#: How many deadlines that nobody waits for any more are kept, at least.
_STALE = 64

_EVENTS = {READ: selectors.EVENT_READ, WRITE: selectors.EVENT_WRITE}


class Turns:
    """The loop of strands, for one thread; what it holds is given back by `close`.

    ``clock`` returns the time of all deadlines. `wait` needs one that goes on by itself.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._selector: selectors.BaseSelector | None = None  # once a socket is to be waited for
        self._ready: deque[tuple[Strand, Any, bool]] = deque()
        self._parked: dict[int, Strand] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._numbers = count()
        self._tasks: dict[Task[Any], None] = {}  # in the order of their starts
        self._running: Strand | None = None
        self._cancelled: list[Task[Any]] = []  # by their own programs
        self._closing = False
        self._listens = False  # whether a signal was ever waited for
        self._bell = Bell()

    def __len__(self) -> int:
        return len(self._tasks)

    def run(self, operation: ops.All | ops.First) -> Any:
        """Run the operation's programs and return what the operation returns."""
        task = self.start(_answer(operation))
        try:
            while True:
                # Those that become ready meanwhile come after a look at the sockets and the clock.
                self.step()
                if task.done:
                    return task.result()
                self.wait()
        finally:
            del task  # the frame may outlive this, in a traceback
            self.close()

    def start(self, program: ops.Program[T]) -> Task[T]:
        """Have a program run from the next `step` on."""
        task = Task(program, self)
        assert task.strand is not None
        self._tasks[task] = None
        self._ready.append((task.strand, None, False))
        return task

    def cancel(self, task: Task[Any]) -> None:
        """Close a task's program: at once, or when it next waits, if it is what asks for it."""
        strand = task.strand
        if strand is None:
            return
        if self._running is not None and self._running.outermost is strand:
            self._cancelled.append(task)
            return
        self._settle(task, None, CancelledError())
        self._end([strand])

    def close(self) -> None:
        """Cancel every task, and give back what is held."""
        for task in list(self._tasks):
            self.cancel(task)
        if self._running is not None:
            self._closing = True
            return
        self._closing = False
        selector, self._selector = self._selector, None
        if selector is not None:
            selector.close()
        self._bell.close()
        self._deadlines.clear()

    @property
    def running(self) -> bool:
        """Whether a strand is in the middle of its turn."""
        return self._running is not None

    @property
    def due(self) -> float:
        """When a strand can go on, as far as time and signals tell; -inf is now."""
        if self._ready or self._bell.rung:
            return -inf
        while self._deadlines and self._deadlines[0][1] not in self._parked:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else inf

    def step(self) -> None:
        """Give each strand that is ready its turn; those that become ready have to wait."""
        try:
            for _ in range(len(self._ready)):
                if not self._ready:
                    break  # the winner of a First has ended the others
                strand, value, raised = self._ready.popleft()
                self._running = strand
                self._turn(strand, value, raised)
                if self._cancelled:
                    self._end_cancelled()
        finally:
            self._running = None
            if self._cancelled or self._closing:
                self._end_cancelled()

    def look(self) -> None:
        """See who can go on, without waiting."""
        if self._selector is not None and self._selector.get_map():
            self._select(0)
        self._awake()

    def wait(self) -> None:
        """Wait until at least one parked strand can go on, or pretend to."""
        if self._ready:
            self.look()
            return
        if self._listens:
            self._bell.hang(self._selecting())  # before the look at what has happened by then
        timeout = None
        due = self.due
        if due < inf:
            timeout = max(min(due - self._clock(), 3600.0), 0)
        self._select(timeout)
        self._awake()

    def _turn(self, strand: Strand, value: Any, raised: bool) -> None:
        """Run one strand until it is parked, over, or has done enough for others to go on."""
        for _ in range(_TURN):
            try:
                step = strand.program.throw if raised else strand.program.send
                operation = step(value)
            except StopIteration as stop:
                self._over(strand, stop.value, None)
                return
            except Exception as error:
                self._over(strand, None, error)
                return
            except BaseException as error:  # such as KeyboardInterrupt: it ends all of the task
                self._abort(strand.outermost, error)
                raise
            try:
                parked, value = self._begin(strand, operation)
                if parked:
                    return
                raised = False
            except BaseException as error:
                value, raised = error, True
        self._ready.append((strand, value, raised))

    def _over(self, strand: Strand, result: Any, error: Exception | None) -> None:
        group = strand.group
        if group is None:
            if strand.task is not None:
                self._settle(strand.task, result, error)
            return
        group.left -= 1
        parent = group.parent
        if group.first and error is None:
            self._resume(parent, (strand.index, result))
            self._end(group.strands)
            return
        group.results[strand.index] = error if error is not None else result
        if group.left == 0:
            if group.first:
                self._resume(parent, ExceptionGroup("every program failed", group.results), True)
            else:
                self._resume(parent, group.results)

    def _abort(self, outermost: Strand, error: BaseException) -> None:
        if outermost.task is not None:
            self._settle(outermost.task, None, error)
        self._end([outermost])

    def _settle(self, task: Task[Any], result: Any, error: BaseException | None) -> None:
        del self._tasks[task]
        task.settle(result, error)

    def _end_cancelled(self) -> None:
        """Do what a program has asked for that was running then."""
        self._running = None
        while self._cancelled:
            self.cancel(self._cancelled.pop())
        if self._closing:
            self.close()

    def _begin(self, strand: Strand, operation: Any) -> tuple[bool, Any]:
        """Begin an operation: (False, its result), or (True, None) when the strand is parked."""
        kind = operation.__class__
        if kind in TRY:
            if operation.deadline <= self._clock():
                raise TimeoutError
            try:
                return False, TRY[kind](operation)
            except BlockingIOError:
                fileno = socket_of(operation)
                self._park(strand, operation, operation.deadline)
                strand.events = _EVENTS[events_of(operation)]
                selector = self._selector or self._selecting()
                selector.register(fileno, strand.events, strand.number)
                strand.fileno = fileno
                return True, None
        if kind is ops.Invoke:
            return False, operation.function(*operation.arguments)
        if kind is ops.All or kind is ops.First:
            if not operation.programs:
                if kind is ops.First:
                    raise ValueError("First needs a program")
                return False, []
            strand.children = group = Group(operation, strand)
            self._ready.extend((child, None, False) for child in group.strands)
            return True, None
        if kind is ops.Sleep:
            until = operation.until
            self._park(strand, operation, -inf if ops.instant and until < inf else until)
            return True, None
        if kind is ops.Resolve:
            lookup = Lookup(operation.host, operation.port)
            if lookup.signal.fired:
                return False, lookup.result()
            strand.lookup = lookup
            signal = lookup.signal
        else:
            signal = operation.signal
        self._park(strand, operation, operation.deadline)
        self._listens = True
        number = strand.number
        ring = self._bell.ring
        if signal.listen(lambda: ring(number)):
            ring(number)
        return True, None

    def _park(self, strand: Strand, operation: Any, deadline: float) -> None:
        strand.operation = operation
        strand.number = number = next(self._numbers)
        self._parked[number] = strand
        if deadline < inf:
            if len(self._deadlines) > 2 * len(self._parked) + _STALE:
                self._deadlines = [item for item in self._deadlines if item[1] in self._parked]
                heapq.heapify(self._deadlines)
            heapq.heappush(self._deadlines, (deadline, number))

    def _selecting(self) -> selectors.BaseSelector:
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        return self._selector

    def _select(self, timeout: float | None) -> None:
        selector = self._selector or self._selecting()
        for key, _ in selector.select(timeout):
            if key.data == RUNG:
                self._bell.quiet()
            else:
                self._retry(self._parked[key.data])

    def _awake(self) -> None:
        """Have those go on whose signal was fired, or whose time has come."""
        while self._bell.rung:
            strand = self._parked.get(self._bell.rung.popleft())
            if strand is not None:
                self._signal_fired(strand)
        if self._deadlines:
            self._expire()

    def _retry(self, strand: Strand) -> None:
        operation = strand.operation
        try:
            result = TRY[operation.__class__](operation)
        except BlockingIOError:
            events = _EVENTS[events_of(operation)]
            if events != strand.events:  # all is sent, the answer is still to come
                strand.events = events
                self._selector.modify(strand.fileno, events, strand.number)  # type: ignore[union-attr]
            return
        except Exception as error:
            self._resume(strand, error, True)
        else:
            self._resume(strand, result)

    def _signal_fired(self, strand: Strand) -> None:
        if strand.lookup is None:
            self._resume(strand, None)
            return
        try:
            result = strand.lookup.result()
        except Exception as error:
            self._resume(strand, error, True)
        else:
            self._resume(strand, result)

    def _expire(self) -> None:
        now = self._clock()
        while self._deadlines and self._deadlines[0][0] <= now:
            strand = self._parked.get(heapq.heappop(self._deadlines)[1])
            if strand is None:
                continue
            if strand.operation.__class__ is ops.Sleep:
                self._resume(strand, None)
            else:
                operation = strand.operation
                self._unpark(strand)
                abandon(operation)
                self._resume(strand, TimeoutError(), True)

    def _resume(self, strand: Strand, value: Any, raised: bool = False) -> None:
        self._unpark(strand)
        strand.children = None
        self._ready.append((strand, value, raised))

    def _unpark(self, strand: Strand) -> None:
        self._parked.pop(strand.number, None)
        if strand.fileno >= 0:
            # A connect that failed has closed its socket, which left the selector's map as it was.
            self._selector.unregister(strand.fileno)  # type: ignore[union-attr]
            strand.fileno = -1
        elif strand.lookup is not None:
            strand.lookup.signal.listen(None)
        elif isinstance(strand.operation, ops.Wait):
            strand.operation.signal.listen(None)
        strand.lookup = strand.operation = None

    def _end(self, strands: Iterable[Strand]) -> None:
        """End strands in the middle, innermost first."""
        ended = set()
        for strand in strands:
            if strand.children is not None:
                self._end(strand.children.strands)
                strand.children = None
            operation = strand.operation
            self._unpark(strand)
            if operation is not None:
                abandon(operation)
            with suppress(Exception):  # what goes wrong in a loser's clean-up is not the winner's
                strand.program.close()
            ended.add(id(strand))
        self._ready = deque(item for item in self._ready if id(item[0]) not in ended)


def _answer(operation: ops.All | ops.First) -> ops.Program[Any]:
    return (yield operation)

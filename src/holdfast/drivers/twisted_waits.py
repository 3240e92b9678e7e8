"""What a task waits for on a Twisted reactor, other than bytes: a time, a signal, a Deferred."""

from __future__ import annotations

import logging
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from holdfast.drivers.twisted_tasks import PARKED

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from holdfast import ops
    from holdfast.drivers.twisted_tasks import Task

__all__ = ["Following", "Listening", "Timed"]

_log = logging.getLogger("holdfast")


class Timed:
    """A wait that ends at a deadline, at the latest; as it is, a sleep."""

    def __init__(self, task: Task, deadline: float) -> None:
        self.task: Task | None = task  # None once it is over
        self.driver = task.driver
        self.deadline = deadline
        self._alarm: Any = None

    def begin(self) -> Any:
        """Have the task wait."""
        assert self.task is not None
        self.task.waiting = self
        if self.deadline < inf:
            self._set()
        return PARKED

    def end(self) -> Task:
        """Let it be over and return the task, which is to go on."""
        task, self.task = self.task, None
        assert task is not None
        task.waiting = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        return task

    def give_up(self) -> None:
        """Leave the task alone."""
        self.end()

    def expire(self) -> None:
        """Go on at the deadline."""
        self.end().resume(None)

    def _set(self) -> None:
        remaining = max(self.deadline - self.driver.clock(), 0.0)
        self._alarm = self.driver.reactor.callLater(remaining, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        # The reactor's clock is the wall's, which is not the one of deadlines.
        if self.deadline > self.driver.clock():
            self._set()
        else:
            self.expire()


class Listening(Timed):
    """A wait for a signal; ``result`` then gives what the task goes on with."""

    def __init__(
        self, task: Task, signal: ops.Signal, deadline: float, result: Callable[[], Any]
    ) -> None:
        super().__init__(task, deadline)
        self._signal = signal
        self._result = result
        self._thread = get_ident()

    def begin(self) -> Any:
        """Have the task wait, unless it has happened."""
        if self._signal.listen(self._tell):
            return self._result()
        return super().begin()

    def give_up(self) -> None:
        """Listen no more."""
        self._signal.listen(None)
        self.end()

    def expire(self) -> None:
        """Raise TimeoutError in the task."""
        if self._signal.listen(None):
            return  # it has happened after all, and `_fired` is on its way
        self.end().fail(TimeoutError())

    def _tell(self) -> None:
        """Have the task go on, in a turn of the reactor; called from any thread."""
        if get_ident() == self._thread:
            self.driver.reactor.callLater(0, self._fired)
        else:
            self.driver.reactor.callFromThread(self._fired)

    def _fired(self) -> None:
        if self.task is not None:
            self.end().go_on(self._result)


class Following(Timed):
    """A wait for the Deferred that a function of the user's returned."""

    def __init__(self, task: Task, deferred: Deferred[Any], deadline: float) -> None:
        super().__init__(task, deadline)
        self._deferred = deferred
        self._beginning = True
        self._outcome: Any = PARKED
        self._expired = False

    def begin(self) -> Any:
        """Have the task wait, unless the Deferred has fired."""
        self._deferred.addBoth(self._settle)
        self._beginning = False
        if self._outcome is PARKED:
            return super().begin()
        if isinstance(self._outcome, Failure):
            assert self._outcome.value is not None
            raise self._outcome.value
        return self._outcome

    def give_up(self) -> None:
        """Cancel the Deferred."""
        self.end()
        try:
            self._deferred.cancel()
        except Exception:
            _log.exception("a Deferred could not be cancelled")

    def expire(self) -> None:
        """Cancel the Deferred, and raise TimeoutError in the task.

        What a Deferred does after it was cancelled is not waited for: the deadline holds.
        """
        self._expired = True
        error: Exception = TimeoutError()
        try:
            self._deferred.cancel()
        except Exception as failed:
            error = failed
        if self.task is not None:
            self.end().fail(error)

    def _settle(self, result: Any) -> Any:
        """Take what the Deferred fires with."""
        failed = isinstance(result, Failure)
        if self.task is None:
            # Given up: what else went wrong is nobody's, and Twisted says so in its log.
            return result if failed and not result.check(CancelledError) else None
        if self._beginning:
            self._outcome = result
        elif not failed:
            self.end().resume(result)
        elif self._expired and result.check(CancelledError):
            self.end().fail(TimeoutError())
        else:
            self.end().fail(result.value)
        return None

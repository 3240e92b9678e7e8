"""The stepped driver: programs run in the turns that the caller's own loop gives them.

A program is started, and goes on whenever its owner says so::

    stepper = Stepper()
    task = stepper.start(program)
    while not task.done:
        stepper.service()
        ...  # whatever else the loop has to do
    result = task.result()

No call blocks or sleeps, and time is what the given clock says, so a loop under simulated time
has its programs there, too. A thread exists only while a host name is looked up that is neither an
address nor ``localhost``; see `holdfast.drivers.lookups`.
"""

from __future__ import annotations

import random as random_module
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.drivers.strands import Task
from holdfast.drivers.turns import Turns
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast import ops

__all__ = ["Stepper", "Task"]

T = TypeVar("T")


class Stepper(Closing):
    """Runs programs, one non-blocking turn at each `service`. Belongs to one thread.

    ``clock`` returns the time, in seconds, by which deadlines are meant and sleeps end; ``random``
    numbers from 0 to 1. As a cluster's driver, `Cluster(hosts, driver=stepper)`, it has the
    cluster's methods return tasks; ``cluster.core.upkeep.program()`` is the owner's to start.

    Use it as a context manager, or `close` it. After that it may be used again.
    """

    #: Whether `run` returns before the program is over.
    later = True
    #: Whether a cluster keeps its hosts up to date by threads.
    upkeep = False

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        *,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self.clock = clock
        self.random = random
        self._turns = Turns(clock)

    def __len__(self) -> int:
        """Return how many programs are in progress."""
        return len(self._turns)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Stepper: {len(self)} in progress>"

    @property
    def due(self) -> float:
        """When the next `service` has something to do, by the clock; -inf is now.

        It is for a loop that would wait, or for a clock that jumps. What a socket or another
        thread brings may come before.
        """
        return self._turns.due

    def start(self, program: ops.Program[T]) -> Task[T]:
        """Begin a program at the next `service`, and return it as a task."""
        return self._turns.start(program)

    run = start  # for clusters

    async def arun(self, program: ops.Program[Any]) -> Any:
        """Refuse: in a coroutine there is an event loop, which needs no steps."""
        program.close()
        raise TypeError("an AsyncCluster runs in an event loop: a Stepper drives a Cluster")

    def service(self) -> None:
        """Take one turn: see what has come, and let each program that can go on do so.

        Programs do no more than some dozen operations each, so that none holds up the caller's
        loop. What a program raises is in its task; but for a KeyboardInterrupt and the like, which
        end the program and are raised here. Raises RuntimeError within a program's own turn.
        """
        if self._turns.running:
            raise RuntimeError("service() was called by a program that it is running")
        self._turns.look()
        self._turns.step()

    def close(self) -> None:
        """Cancel what is in progress, and give everything back."""
        self._turns.close()

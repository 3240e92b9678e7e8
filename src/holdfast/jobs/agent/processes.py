"""Processes for calls: enough of them ahead of need, from a parent that is replaced when it dies.

A call takes a process that waits already, or waits for the next. The parent is asked for another
as soon as one is taken. When it dies, calls go on, and a new one is started: at once for the first
time, and then with growing pauses. Until it has loaded, calls wait; when it cannot load, they get
the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.jobs.agent.parent import LoadError, Offered, Parent, Spare

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Processes", "Taker"]

logger = logging.getLogger("holdfast.jobs.agent")

#: Seconds before a parent is started that follows one which died young, at first and at most.
PAUSE = 0.5
PAUSE_MOST = 30.0


class Taker(Protocol):
    """Who needs a process."""

    def run(self, spare: Spare) -> None:
        """Take the process."""

    def refuse(self, type: str, message: str) -> None:
        """Hear that there is none."""


class Processes:
    """Gives processes to calls."""

    def __init__(self, settings: dict[str, Any], spares: int, load_time: float) -> None:
        self.settings = settings
        self.spares = spares
        self.load_time = load_time
        #: The procedures, by name.
        self.offered: Mapping[str, Offered] = {}
        #: Why there are no processes, when there cannot be any.
        self.broken: str | None = None
        self._loop = asyncio.get_running_loop()
        self._parents: set[Parent] = set()
        self._current: Parent | None = None
        self._waiting: deque[Taker] = deque()
        self._idle: deque[Spare] = deque()
        self._coming = 0
        self._pause = 0.0
        self._again: asyncio.TimerHandle | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closed = False

    async def load(self) -> None:
        """Load the procedures in a new parent, from which all calls come from now on.

        What runs goes on. Raises LoadError, and leaves everything as it was.
        """
        parent = Parent(self, dict(self.settings))
        try:
            parent.start()
        except OSError as error:
            raise LoadError(f"no process to load the procedures: {error}") from None
        offered = await parent.load(self.load_time)
        if self._closed:
            parent.kill()
            return
        self._drop()
        self._parents.add(parent)
        self._current = parent
        self.offered = offered
        self.broken = None
        self._ask()

    def _drop(self) -> None:
        """Let the present parent and its idle processes go."""
        if self._current is not None:
            self._current.retire()
            self._current = None
        while self._idle:
            self._idle.popleft().close()
        self._coming = 0

    def take(self, taker: Taker) -> None:
        """Give a process to who needs one, now or when there is one."""
        if self._idle:
            spare = self._idle.popleft()
            self._ask()
            taker.run(spare)
        elif self.broken is not None:
            taker.refuse("procedure_loading_error", self.broken)
        else:
            self._waiting.append(taker)
            self._ask()

    def leave(self, taker: Taker) -> None:
        """Forget one who waits."""
        try:
            self._waiting.remove(taker)
        except ValueError:
            pass

    def _ask(self) -> None:
        """Ask for as many processes as are missing, if they are enough to be made together."""
        if self._current is None:
            return
        missing = self.spares + len(self._waiting) - len(self._idle) - self._coming
        if missing >= max(1, self.spares // 2):
            self._coming += missing
            self._current.fork(missing)

    # What parents say.

    def came(self, spare: Spare) -> None:
        """Give a process to who has waited longest."""
        if spare.parent is not self._current:
            spare.close()
            return
        self._coming -= 1
        self._pause = 0.0
        if self._waiting:
            self._waiting.popleft().run(spare)
        else:
            self._idle.append(spare)

    def failed(self, parent: Parent, error: OSError) -> None:
        """Tell who has waited longest that there is no process."""
        if parent is not self._current:
            return
        self._coming -= 1
        logger.error("no process for a call: %s", error)
        if self._waiting:
            self._waiting.popleft().refuse("system_error", f"no process: {error.strerror}")
            self._ask()
        # Idle ones are asked for again when the next call comes.

    def lost(self, parent: Parent) -> None:
        """Replace a parent that has died."""
        self._parents.discard(parent)
        if parent is not self._current:
            return
        self._drop()
        if self._closed:
            return
        logger.error("the parent of the calls has died; starting another one")
        self._again = self._loop.call_later(self._pause, self._restart)
        self._pause = min(PAUSE_MOST, max(PAUSE, 2 * self._pause))

    def _restart(self) -> None:
        self._starting = self._loop.create_task(self._reload())

    async def _reload(self) -> None:
        if self._current is not None or self._closed:
            return  # it was reloaded meanwhile
        try:
            await self.load()
        except LoadError as error:
            logger.error("there can be no calls: %s", error)
            self.broken = str(error)
            while self._waiting:
                self._waiting.popleft().refuse("procedure_loading_error", self.broken)
            if not self._closed:
                self._again = self._loop.call_later(self._pause, self._restart)
                self._pause = min(PAUSE_MOST, max(PAUSE, 2 * self._pause))

    async def close(self, seconds: float) -> None:
        """End all processes, and wait for that."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        if self._starting is not None:
            self._starting.cancel()
        self._drop()
        await asyncio.gather(*(parent.close(seconds) for parent in list(self._parents)))

"""Simulated programs awaited from asyncio: virtual time in step with an event loop."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.drivers.simulated_tasks import EndlessWait

if TYPE_CHECKING:
    from holdfast import ops
    from holdfast.drivers.simulated import World
    from holdfast.drivers.simulated_tasks import Task

__all__ = ["Bridge"]

#: Turns of the event loop in which nothing is asked of the world before its time goes on: what an
#: answer sets off (tasks that end, groups of them, whoever awaits those) takes a few.
_GRACE = 10

#: Seconds, real ones, between two looks at the world while only the event loop can go on.
_PAUSE = 0.001


class Bridge:
    """Lets the events of a world happen in the turns of an event loop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[Task, asyncio.Future[None]] = {}
        self._outside = 0  # tasks that wait for what a function of the user's returned
        self._quiet = 0

    async def run(self, program: ops.Program[Any], source: str) -> Any:
        """Run a program in the world and await its end."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._waiting.clear()
            self._outside = 0
        future = loop.create_future()
        task = self._world.start(program, self._over, source=source)
        task.asynchronous = True
        if not self._waiting:
            loop.call_soon(self._turn, loop)
        self._waiting[task] = future
        self._quiet = 0
        try:
            await future
        except BaseException as error:
            self._waiting.pop(task, None)
            task.cancel(error if isinstance(error, asyncio.CancelledError) else None)
            raise
        return task.result()

    def wait(self, task: Task, awaitable: Any) -> None:
        """Await what a function returned, and go on with the task then."""
        turn = task.turn
        task.awaited = future = asyncio.ensure_future(awaitable)
        self._outside += 1

        def over(future: asyncio.Future[Any]) -> None:
            self._outside -= 1
            error = None if future.cancelled() else future.exception()
            if task.turn != turn:
                return
            task.awaited = None
            if future.cancelled():
                task.world.later(task, error=asyncio.CancelledError())
            elif error is not None:
                task.world.later(task, error=error)
            else:
                task.world.later(task, future.result())

        future.add_done_callback(over)

    def _over(self, task: Task) -> None:
        future = self._waiting.pop(task, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the events of this instant happen, or after some quiet turns those of the next."""
        if not self._waiting or loop is not self._loop:
            return
        world = self._world
        try:
            if world.next <= world.now:
                self._quiet = 0
                while world.next <= world.now:
                    world.happen()
            elif self._quiet < _GRACE:
                self._quiet += 1
            elif self._outside and len(self._waiting) <= self._outside:
                loop.call_later(_PAUSE, self._turn, loop)
                return
            else:
                self._quiet = 0
                if world.next == inf:
                    raise self._endless()
                world.happen()
        except BaseException as error:
            waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        if self._waiting:
            loop.call_soon(self._turn, loop)

    def _endless(self) -> Exception:
        return EndlessWait("; ".join(self._world.waits(task) for task in self._waiting))

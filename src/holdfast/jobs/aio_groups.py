"""One procedure on many hosts, in asyncio: the jobs' results as they end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from holdfast.drivers.asyncio import run as run_program
from holdfast.jobs.aio_calls import AsyncRemoteCall
from holdfast.jobs.asking import arguments_of
from holdfast.jobs.groups import BaseGroup, BaseGroupProcedure, Outcome, Run
from holdfast.jobs.remote import refuse_dunder
from holdfast.lifetimes import AsyncClosing

if TYPE_CHECKING:
    from typing import Self

__all__ = ["AsyncGroup", "AsyncGroupProcedure", "AsyncGroupResults"]


class AsyncGroup(BaseGroup):
    """Several servers; any attribute is a procedure to be called on all of them."""

    def __getattr__(self, procedure: str) -> AsyncGroupProcedure:
        refuse_dunder(self, procedure)
        return AsyncGroupProcedure(self, procedure)


class AsyncGroupProcedure(BaseGroupProcedure):
    """A procedure on several servers."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> AsyncGroupResults:
        """Call the procedure on all servers; returns an asynchronous iterator over the results.

        To be called in a running event loop; see `GroupProcedure.__call__`.
        """
        return AsyncGroupResults(self._group, self._name, arguments_of(args, kwargs))


class AsyncGroupResults(AsyncClosing):
    """An asynchronous iterator over `Outcome` triples, in the order in which jobs end."""

    def __init__(
        self, group: BaseGroup, procedure: str, arguments: list[Any] | dict[str, Any]
    ) -> None:
        # None is the end, an exception what made an end of it all.
        results: asyncio.Queue[Outcome | BaseException | None] = asyncio.Queue()
        run = Run(group, procedure, arguments, results.put_nowait, AsyncRemoteCall.at)
        self._results = results
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(_run(run, results))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        if self._over:
            raise StopAsyncIteration
        result = await self._results.get()
        if isinstance(result, Outcome):
            return result
        self._over = True
        if result is None:
            raise StopAsyncIteration
        raise result

    async def all(self) -> list[Outcome]:
        """Return all results that are left, as a list."""
        return [result async for result in self]

    async def aclose(self) -> None:
        """Submit no more jobs, and wait for none; those that were submitted go on."""
        self._over = True
        self._task.cancel()
        await asyncio.wait([self._task])

    def __del__(self) -> None:
        if "_task" in self.__dict__ and not self._task.done() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)


async def _run(run: Run, results: asyncio.Queue[Outcome | BaseException | None]) -> None:
    """Run the calls until they are over; whoever iterates learns of what goes wrong."""
    try:
        await run_program(run.program())
    except Exception as error:
        results.put_nowait(error)
    else:
        results.put_nowait(None)

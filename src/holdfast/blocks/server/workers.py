"""Threads for what blocks, at a fraction of what a hop to asyncio's executor and back costs."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.blocks.server.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Job", "Lane", "Workers", "over"]

T = TypeVar("T")


class Job(asyncio.Future[T]):
    """The result of a function on a thread. Whoever waits for it is cancelled when it is there.

    So what the function uses may be closed by whoever waited, however the waiting has ended.
    """

    def cancel(self, msg: Any | None = None) -> bool:
        """Refuse: the task that waits is cancelled once this is done."""
        return False


class Workers:
    """Threads that run functions for the running event loop.

    ``count``: how many threads at most; they are started as they are needed.
    """

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._count = count
        self._threads: list[threading.Thread] = []
        self._started = 0  # jobs that are not over
        self._jobs: SimpleQueue[tuple[Job[Any], Callable[..., Any], Any] | None] = SimpleQueue()
        # What is done, for the loop to take: one wake-up serves all that gather before it.
        self._done: deque[tuple[Job[Any], Any, BaseException | None]] = deque()
        self._woken = False
        self._closed = False
        #: How much of a block is worth a hop.
        self.parts = Parts()

    def run(self, function: Callable[..., T], *args: Any) -> Job[T]:
        """Have a function run on a thread; return the future of its result."""
        job = self.job()
        if self._closed:  # what a request that is being given up still has to clean up
            self.perform(job, function, args)
            return job
        if len(self._threads) < min(self._started, self._count):
            thread = threading.Thread(target=self._work, name="holdfast-blocks", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put((job, function, args))
        return job

    def job(self) -> Job[Any]:
        """Return the future of what somebody is going to `perform`."""
        self._started += 1
        return Job(loop=self._loop)

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None:
            self.perform(*entry)
            del entry  # nothing of it must stay alive until the next one

    def perform(self, job: Job[Any], function: Callable[..., Any], args: Any) -> None:
        """Run a function, and have the loop told its result: on a thread."""
        try:
            self._done.append((job, function(*args), None))
        except BaseException as error:
            self._done.append((job, None, error))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed, so nobody waits
                pass

    def _deliver(self) -> None:
        self._woken = False  # before, so that what comes now wakes anew
        while self._done:
            job, result, failure = self._done.popleft()
            self._started -= 1
            if failure is None:
                job.set_result(result)
            else:
                job.set_exception(failure)

    def close(self) -> None:
        """End the threads, after what they have to do."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()


async def over(jobs: Iterable[Job[Any]]) -> None:
    """Wait until jobs are done, whatever comes of them: to close what they use.

    Who is cancelled meanwhile is so at the end.
    """
    cancelled: asyncio.CancelledError | None = None
    for job in jobs:
        try:
            with suppress(Exception):  # the first error is why there is something to close
                await job
        except asyncio.CancelledError as error:  # which comes when the job is done
            cancelled = error
    if cancelled is not None:
        raise cancelled


class Lane:
    """Functions that run one after the other, in their order, and on whichever thread.

    Several can be given at once, so that the next one begins without a word from the loop.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._jobs: deque[tuple[Job[Any], Callable[..., Any], Any]] = deque()
        self._running = False

    def run(self, function: Callable[..., T], *args: Any) -> Job[T]:
        """Have a function run after those before it; return the future of its result."""
        job = self._workers.job()
        with self._lock:
            self._jobs.append((job, function, args))
            begin, self._running = not self._running, True
        if begin:
            self._workers.run(self._work)
        return job

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._running = False
                    return
                entry = self._jobs.popleft()
            self._workers.perform(*entry)
            del entry

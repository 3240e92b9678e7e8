"""The calls of the demonstration: from threads and from asyncio, at an even pace."""

from __future__ import annotations

import asyncio
import itertools
import threading
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from holdfast.cli.demo.callers import Answer, AsyncCaller, Caller, checked
from holdfast.cli.demo.tally import Phase, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Pace", "Source", "Traffic"]


class Pace:
    """Numbers the calls and says when each is due, so that they do not come faster than ``rate``.

    ``rate`` is calls a second, 0 for as fast as they go; ``first`` the number of the first call.
    Who calls takes the next number, waits for its time and makes the call. When all are late,
    calls follow one another.
    """

    def __init__(self, rate: float, first: int, clock: Callable[[], float] = monotonic) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._first = first
        self._numbers = itertools.count(first)
        self._lock = threading.Lock()
        self._clock = clock
        self._began = clock()

    def next(self) -> tuple[int, float]:
        """Return the next number, and the seconds to wait before its call."""
        with self._lock:
            number = next(self._numbers)
        due = self._began + (number - self._first) * self._interval
        return number, due - self._clock()


class Source:
    """One client's calls, by ``count`` threads or tasks, and what they came to."""

    def __init__(self, name: str, count: int, pace: Pace) -> None:
        self.name = name
        self.count = count
        self.pace = pace
        self.tallies: list[Tally] = []

    def worker(self) -> Tally:
        """Return the tally of one more worker."""
        tally = Tally()
        self.tallies.append(tally)
        return tally


class Traffic:
    """All calls, of all clients, while they are made.

    ``phase`` is set by who kills the servers, and read by who calls them.
    """

    def __init__(self) -> None:
        self.phase = Phase.BEFORE
        self.sources: list[Source] = []
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._callers: list[Caller] = []
        # Now, because importing uvloop takes longer than the calls that would wait for it.
        self._loop_factory = _loop_factory()

    @property
    def tallies(self) -> list[Tally]:
        """The tallies of every worker."""
        return [tally for source in self.sources for tally in source.tallies]

    def by_threads(self, caller: Caller, count: int, pace: Pace) -> None:
        """Begin to call from so many threads."""
        source = Source(f"{caller.name}, {count} threads", count, pace)
        self.sources.append(source)
        self._callers.append(caller)
        for _ in range(count):
            self._start(self._work, caller, pace, source.worker())

    def by_tasks(self, callers: Sequence[tuple[AsyncCaller, int, Pace]]) -> None:
        """Begin to call from the tasks of one event loop, in a thread of its own.

        Each caller comes with how many tasks it has, and their pace.
        """
        work = []
        for caller, count, pace in callers:
            source = Source(f"{caller.name}, {count} tasks", count, pace)
            self.sources.append(source)
            work.append((caller, source))
        self._start(self._run_loop, work)

    def end(self) -> None:
        """Begin no further call."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for the end of all calls, which `end` brings about, and close the clients."""
        for thread in self._threads:
            thread.join()
        while self._callers:
            self._callers.pop().close()

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        # Daemons: should a second Ctrl-C end the waiting for them, they do not keep the process.
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self, caller: Caller, pace: Pace, tally: Tally) -> None:
        while not self._stopping.is_set():
            number, wait = pace.next()
            if wait > 0 and self._stopping.wait(wait):
                return
            phase = self.phase
            began = perf_counter()
            outcome: Answer | Exception
            try:
                outcome = caller.call(number)
            except Exception as error:  # whatever it is, the caller saw it
                outcome = error
            self._take(tally, number, phase, perf_counter() - began, outcome)

    def _run_loop(self, work: Sequence[tuple[AsyncCaller, Source]]) -> None:
        async def all_of_it() -> None:
            async with asyncio.TaskGroup() as group:
                for caller, source in work:
                    tally = source.worker()
                    for _ in range(source.count):
                        group.create_task(self._work_async(caller, source.pace, tally))
            for caller, _ in work:
                await caller.close()

        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            runner.run(all_of_it())

    async def _work_async(self, caller: AsyncCaller, pace: Pace, tally: Tally) -> None:
        while not self._stopping.is_set():
            number, wait = pace.next()
            if wait > 0:
                await asyncio.sleep(wait)
                if self._stopping.is_set():
                    return
            phase = self.phase
            began = perf_counter()
            outcome: Answer | Exception
            try:
                outcome = await caller.call(number)
            except Exception as error:  # whatever it is, the caller saw it
                outcome = error
            self._take(tally, number, phase, perf_counter() - began, outcome)

    def _take(
        self, tally: Tally, number: int, began: Phase, seconds: float, outcome: Answer | Exception
    ) -> None:
        """Count a call that is over."""
        phase = Phase.of(began, self.phase)
        try:
            if isinstance(outcome, Exception):
                raise outcome
            port = checked(number, outcome)
        except Exception as error:
            attempts = len(getattr(error, "attempts", ()))
            tally.lost(phase, seconds, attempts, f"{type(error).__name__}: {error}")
        else:
            tally.answered(phase, seconds, outcome.attempts, port)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop

"""Run contestants in interleaved rounds, so that the machine's moods meet all of them alike.

A round runs every contestant once, in a shuffled order, for a number of calls found beforehand by
trying. A figure is the median over the rounds. A ratio of two contestants is the median of the
ratios in each round, never the ratio of two medians: within a round the two ran close together.
"""

import gc
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter, process_time

Run = Callable[[int], float | None]
"""Make so many calls; return for how many seconds something was done that is no part of them."""


@dataclass(frozen=True)
class Contestant:
    """Somebody who does the work: `open` gives a function that makes so many calls."""

    name: str
    open: Callable[[], AbstractContextManager[Run]]
    ours: bool = False


@dataclass
class Row:
    """What was measured of one contestant."""

    name: str
    ours: bool = False
    problem: str = ""
    calls: int = 0
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Tell whether it took part and could not do the work."""
        return self.problem.startswith("failed")

    @property
    def rate(self) -> float | None:
        """Return calls per second, the median over the rounds."""
        return median(self.rates) if self.rates else None

    @property
    def cpu_us(self) -> float | None:
        """Return microseconds of this process's CPU time a call, the median over the rounds."""
        return median(self.cpu) * 1e6 if self.cpu else None

    def ratio(self, other: "Row") -> float | None:
        """Return how many times the other's rate this one reached, by the median round."""
        if not self.rates or len(self.rates) != len(other.rates):
            return None
        return median(a / b for a, b in zip(self.rates, other.rates, strict=True))


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    seconds: float
    """What one contestant's part of a round should take."""


def progress(text: str) -> None:
    """Show one line about where the run is, on standard error."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def progress_ends() -> None:
    """Take the progress line away."""
    if sys.stderr.isatty():
        print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def measure(
    title: str, contestants: Sequence[Contestant], effort: Effort, step: int = 1
) -> list[Row]:
    """Measure every contestant, `step` calls or a multiple of that at a time."""
    rows = [Row(contestant.name, contestant.ours) for contestant in contestants]
    with ExitStack() as stack:
        running: list[tuple[Row, Run]] = []
        for row, contestant in zip(rows, contestants, strict=True):
            progress(f"{title}: warming up {row.name}")
            with excused(row, contestant.ours):
                run = stack.enter_context(contestant.open())
                row.calls = enough(run, effort.seconds, step)
                running.append((row, run))
        gc.collect()
        # What the contestants' packages left behind would be walked in each full collection.
        gc.freeze()
        try:
            play(title, running, effort)
        finally:
            gc.unfreeze()
    return rows


def play(title: str, running: list[tuple[Row, Run]], effort: Effort) -> None:
    """Play the rounds."""
    for number in range(effort.rounds):
        random.shuffle(running)
        for row, run in running:
            progress(f"{title}: round {number + 1} of {effort.rounds}, {row.name}")
            if row.problem:
                continue
            gc.collect()
            with excused(row, row.ours):
                wall, cpu = perf_counter(), process_time()
                aside = run(row.calls) or 0.0
                cpu, wall = process_time() - cpu - aside, perf_counter() - wall - aside
                row.rates.append(row.calls / wall)
                row.cpu.append(cpu / row.calls)


@contextmanager
def excused(row: Row, ours: bool) -> Iterator[None]:
    """Note in the row that a contestant is missing or has failed, and let the others go on."""
    try:
        yield
    except ImportError as missing:
        # A peer may be missing; what is measured may not.
        row.problem = f"failed: {missing}" if ours else "not installed"
    except Exception as error:
        row.problem = f"failed: {type(error).__name__}: {error}"
        row.rates.clear()
        row.cpu.clear()


def enough(run: Run, seconds: float, step: int) -> int:
    """Find how many calls take about so many seconds, warming the contestant up."""
    run(step)
    calls = step
    while True:
        start = perf_counter()
        run(calls)
        elapsed = perf_counter() - start
        if elapsed > seconds / 8:
            return max(step, round(calls * seconds / elapsed / step) * step)
        calls *= 2

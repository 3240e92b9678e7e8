"""Nested deadlines: a call within a call has no more time than the outer one."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["OUTER", "deadline", "inherited", "remaining"]

#: The deadline around the code that runs, and the clock that it is a time of.
OUTER: ContextVar[tuple[float, Callable[[], float]] | None] = ContextVar(
    "holdfast_deadline", default=None
)


@contextmanager
def deadline(seconds: float, *, clock: Callable[[], float] = monotonic) -> Iterator[float]:
    """Give every call in the ``with`` block at most so many seconds, all together.

    Returns the deadline, a time of ``clock``. An outer deadline that is nearer holds on. It goes
    where context variables go: into coroutines, tasks and ``asyncio.to_thread``. Raises
    ValueError unless ``seconds`` is above 0.
    """
    given: object = seconds
    if isinstance(given, bool) or not isinstance(given, (float, int)) or not given > 0:
        raise ValueError(f"deadline: seconds must be above 0, not {seconds!r}")
    until = min(clock() + seconds, inherited(clock))
    token = OUTER.set((until, clock))
    try:
        yield until
    finally:
        OUTER.reset(token)


def inherited(clock: Callable[[], float] = monotonic) -> float:
    """Return the deadline around the code that runs, infinity without one."""
    outer = OUTER.get()
    # A deadline of another clock, a virtual one perhaps, says nothing here.
    return outer[0] if outer is not None and outer[1] == clock else inf


def remaining(clock: Callable[[], float] = monotonic) -> float:
    """Return how many seconds are left of the deadline around the code that runs."""
    return inherited(clock) - clock()

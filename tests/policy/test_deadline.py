import asyncio
from math import inf
from typing import Any

import pytest

from holdfast.policy import deadline, remaining
from holdfast.policy.deadline import inherited


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_nearer_deadline_holds() -> None:
    """A deadline within another one cannot be later, and ends with its block."""
    clock = Clock()
    with deadline(5.0, clock=clock) as outer:
        assert outer == inherited(clock) == 105.0
        with deadline(9.0, clock=clock) as inner:
            assert inner == 105.0
        with deadline(1.0, clock=clock):
            assert remaining(clock) == 1.0
            clock.now += 0.25
            assert remaining(clock) == 0.75
        assert inherited(clock) == 105.0
    assert inherited(clock) == inf


def test_a_deadline_of_another_clock_says_nothing() -> None:
    """A virtual deadline does not hold for calls in real time."""
    with deadline(5.0, clock=Clock()):
        assert inherited() == inf


@pytest.mark.parametrize("seconds", [0, -1, True, float("nan"), "5", None])
def test_it_takes_seconds(seconds: Any) -> None:
    """A time that is none is refused, by name."""
    with pytest.raises(ValueError, match="seconds must be above 0"), deadline(seconds):
        pass


def test_tasks_inherit_it() -> None:
    """A task has the deadline of the code that made it."""
    clock = Clock()

    async def child() -> float:
        return inherited(clock)

    async def main() -> tuple[float, float]:
        with deadline(5.0, clock=clock):
            task = asyncio.create_task(child())
        return await task, inherited(clock)

    assert asyncio.run(main()) == (105.0, inf)

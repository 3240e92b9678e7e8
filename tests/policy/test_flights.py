"""Calls that share a flight, one program at a time."""

from __future__ import annotations

import traceback
from math import inf
from typing import Any

import pytest

from holdfast import ops
from holdfast.drivers.simulated import World
from holdfast.errors import DeadlineExceeded
from holdfast.policy import Flights


class Key:
    """A key whose hash changes, as that of an argument may."""

    value = 1

    def __hash__(self) -> int:
        return self.value


def fails(world: World, seconds: float, error: Exception) -> ops.Program[None]:
    """Fail after a time."""
    yield ops.Sleep(world.now + seconds)
    raise error


def test_each_who_waited_has_an_error_of_its_own() -> None:
    """One that many raise would collect the frames of all of them."""
    world, flights, error = World(), Flights(), OSError(5, "gone")
    tasks = [
        world.start(flights.share("a", lambda: fails(world, 1, error), inf)) for _ in range(50)
    ]
    world.advance(1)
    errors: list[Any] = [task.error for task in tasks]
    assert len({id(one) for one in errors}) == 50
    assert {(type(one), one.args) for one in errors} == {(OSError, (5, "gone"))}
    assert max(len(traceback.extract_tb(one.__traceback__)) for one in errors) < 10


def test_an_error_that_cannot_be_copied_is_shared() -> None:
    """Whatever arguments its class wants."""

    class Particular(Exception):
        def __init__(self, one: int, other: int) -> None:
            super().__init__(f"{one} and {other}")

    world, flights, error = World(), Flights(), Particular(1, 2)
    tasks = [world.start(flights.share("a", lambda: fails(world, 1, error), inf)) for _ in "ab"]
    world.advance(1)
    assert [task.error for task in tasks] == [error, error]


def test_who_has_ceased_to_wait_is_forgotten() -> None:
    """A call that hangs for long does not remember all who had no patience with it."""
    world, flights = World(), Flights()

    def endless() -> ops.Program[None]:
        yield ops.Sleep(1e9)

    world.start(flights.share("a", endless, inf))
    world.advance(0)
    (flight,) = flights._flights.values()
    tasks = [world.start(flights.share("a", endless, 1.0)) for _ in range(10)]
    tasks[0].cancel()
    world.advance(2)
    assert all(isinstance(task.error, DeadlineExceeded) for task in tasks[1:])
    assert not flight.waiting


@pytest.mark.parametrize("changed", [1, 2])
def test_a_key_that_changes_leaves_nobody_waiting(changed: int) -> None:
    """The arguments of a function are whatever its user likes."""
    world, flights, key = World(), Flights(), Key()

    def call() -> ops.Program[str]:
        yield ops.Sleep(world.now + 1)
        return "done"

    tasks = [world.start(flights.share(key, call, inf)) for _ in "ab"]
    world.advance(0.5)
    key.value = changed
    world.advance(0.5)
    assert [task.result() for task in tasks] == [("done", False), ("done", True)]

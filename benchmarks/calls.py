"""The benchmark of `fault_tolerant` around nothing: `python -m benchmarks calls`.

Beside it, what people stack by hand for the same: retries by stamina, a circuit breaker by
pybreaker or aiobreaker, and for coroutines ``asyncio.timeout``. Nanoseconds a call; the time of a
row includes the call of the function itself, which the row of the bare call shows alone.
"""

from __future__ import annotations

import asyncio
from functools import partial, wraps
from typing import Any

from benchmarks import machine
from benchmarks.policy import FULL, PACKAGES, QUICK, Costs, Measured, awaited, called, policy_report
from benchmarks.policy_peers import (
    BARE,
    SECONDS,
    Entry,
    Function,
    aiobreaker,
    nested,
    pybreaker,
    stamina,
)
from benchmarks.report import Report
from benchmarks.results import Goal
from benchmarks.rounds import Contestant, Effort, measure, progress_ends

__all__ = ["calls", "calls_report"]

OURS = "fault_tolerant"
#: What a call may cost at most, as a share of what it costs in the stack.
SHARE = 0.5


class CallCosts(Costs):
    """Everything that one run found."""

    def as_json(self) -> dict[str, Any]:
        """Return one object for programs."""
        return {**super().as_json(), "benchmark": "calls"}


def fault_tolerant(function: Function) -> Function:
    """Guard the function by `fault_tolerant`, with its defaults."""
    from holdfast.calls import fault_tolerant as decorate

    decorated: Function = decorate(function)
    return decorated


def timeout(function: Function) -> Function:
    """Limit the time by asyncio's own means."""

    @wraps(function)
    async def limited() -> Any:
        async with asyncio.timeout(SECONDS):
            return await function()

    return limited


def entries(asynchronous: bool) -> list[Entry]:
    """List who takes part; the first row is the function alone."""
    ours = Entry(OURS, "holdfast: fault_tolerant", fault_tolerant, ours=True, together=True)
    if asynchronous:
        stack = nested(timeout, stamina, aiobreaker)
        peer = Entry(OURS, "asyncio.timeout + stamina + aiobreaker", stack, together=True)
    else:
        stack = nested(stamina, pybreaker)
        peer = Entry(OURS, "stamina + pybreaker", stack, together=True)
    return [Entry(BARE, BARE, lambda function: function), ours, peer]


def calls(quick: bool) -> Costs:
    """Measure both kinds of functions, in some seconds, or in a tenth of that when `quick`."""
    effort = QUICK if quick else FULL
    about = machine.machine(machine.take_cores())
    groups = [
        measured("sync", "Around a plain function that does nothing", effort),
        measured("async", "Around a coroutine that does nothing", effort),
    ]
    progress_ends()
    about["load_after"] = machine.load()
    return CallCosts(
        groups, [goal(group) for group in groups], about, machine.versions(PACKAGES), effort
    )


def calls_report(costs: Costs) -> Report:
    """Return what a person reads."""
    return policy_report(costs)


def measured(key: str, title: str, effort: Effort) -> Measured:
    """Measure all that guard one kind of function."""
    taking_part = entries(asynchronous=key == "async")
    opened = awaited if key == "async" else called
    contestants = [
        Contestant(entry.name, partial(opened, entry.decorate), ours=entry.ours)
        for entry in taking_part
    ]
    return Measured(key, title, taking_part, measure(key, contestants, effort))


def goal(group: Measured) -> Goal:
    """Compare ours with the stack."""
    entry, row = group.pairs[-1]
    return Goal(
        f"{group.key}: fault_tolerant / {entry.name}", group.cost(entry, row), SHARE, at_most=True
    )

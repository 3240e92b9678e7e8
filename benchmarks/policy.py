"""The benchmark of policies around a function that does nothing: `python -m benchmarks policy`.

Nanoseconds a call, of each policy alone and of all together, for plain functions and coroutines,
beside the packages that people decorate functions with. The time of a row includes the call of
the function itself and the turn of the loop, which the row of the bare call shows alone.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from statistics import quantiles
from typing import Any

from benchmarks import machine
from benchmarks.policy_peers import DEFAULT, Decorator, Entry, Function, entries
from benchmarks.report import MISSING, Report, Table, goals_table, number, outcome, times
from benchmarks.results import Goal
from benchmarks.rounds import Contestant, Effort, Row, Run, measure, progress_ends

FULL = Effort(rounds=21, seconds=0.03)
QUICK = Effort(rounds=5, seconds=0.01)
PACKAGES = ("holdfast", "stamina", "tenacity", "pybreaker", "aiobreaker", "purgatory", "hyx")
#: What a peer's name must be for the whole stack to be compared with it.
MOST_USED = "stamina.retry"


@dataclass(frozen=True)
class Measured:
    """All rows of plain functions, or of coroutines."""

    key: str
    title: str
    entries: Sequence[Entry]
    rows: Sequence[Row]

    @property
    def pairs(self) -> list[tuple[Entry, Row]]:
        """Return each entry with what was measured of it."""
        return list(zip(self.entries, self.rows, strict=True))

    @property
    def bare(self) -> Row:
        """Return the row of the function alone."""
        return self.rows[0]

    def ours(self, policy: str) -> Row | None:
        """Return our row of a policy, None where we have none."""
        return next((row for one, row in self.pairs if one.ours and one.policy == policy), None)

    def cost(self, entry: Entry, row: Row) -> float | None:
        """Return our cost as a multiple of a peer's for the same policy, None for our own rows."""
        ours = self.ours(entry.policy)
        return None if entry.ours or ours is None else row.ratio(ours)

    def goals(self) -> Iterator[Goal]:
        """Compare each policy of ours alone with each peer alone, and the stack with stamina."""
        for entry, row in self.pairs:
            if entry.ours or self.ours(entry.policy) is None:
                continue
            name = f"{self.key}: holdfast's {entry.policy} / {entry.name}"
            yield Goal(name, self.cost(entry, row), 1.0, at_most=True)
            if entry.name == MOST_USED and (stack := self.ours(DEFAULT)) is not None:
                name = f"{self.key}: holdfast's {DEFAULT} / {entry.name} alone"
                yield Goal(name, row.ratio(stack), 1.0, at_most=True)

    def table(self) -> Table:
        """Build the table of a terminal and of the README."""
        return Table(
            self.title,
            ["", "ns a call", "over the bare call", "× the bare call", "holdfast costs"],
            [self.line(entry, row) for entry, row in self.pairs],
        )

    def line(self, entry: Entry, row: Row) -> list[str]:
        """Write one row."""
        name = f"**{entry.name}**" if entry.ours else entry.name
        if row.problem:
            return [name, outcome(row.problem), "", "", ""]
        cost = self.cost(entry, row)
        return [
            name,
            number(nanoseconds(row)),
            number(over(row, self.bare)) if row is not self.bare else MISSING,
            times(self.bare.ratio(row)),
            times(cost) if cost is not None else "",
        ]

    def as_json(self) -> list[dict[str, Any]]:
        """Return the rows as they are printed for programs."""
        return [self.row_as_json(entry, row) for entry, row in self.pairs]

    def row_as_json(self, entry: Entry, row: Row) -> dict[str, Any]:
        """Return one row as it is printed for programs."""
        spread = [1e9 / rate for rate in quantiles(row.rates, n=4)] if len(row.rates) > 1 else []
        return {
            "group": self.key,
            "policy": entry.policy,
            "name": entry.name,
            "ours": entry.ours,
            "together": entry.together,
            "problem": row.problem or None,
            "unit": "ns a call",
            "ns": nanoseconds(row),
            "ns_quartiles": sorted(spread[::2]),
            "ns_over_bare": over(row, self.bare),
            "times_bare": self.bare.ratio(row),
            "holdfast_costs": self.cost(entry, row),
            "calls_a_round": row.calls,
            "rounds": len(row.rates),
        }


@dataclass(frozen=True)
class Costs:
    """Everything that one run found."""

    groups: Sequence[Measured]
    goals: Sequence[Goal]
    machine: dict[str, Any]
    versions: dict[str, str]
    effort: Effort

    @property
    def failed(self) -> bool:
        """Tell whether one who takes part could not do the work."""
        return any(row.failed for group in self.groups for row in group.rows)

    def as_json(self) -> dict[str, Any]:
        """Return one object for programs."""
        return {
            "benchmark": "policy",
            "machine": self.machine,
            "versions": self.versions,
            "effort": {"rounds": self.effort.rounds, "seconds": self.effort.seconds},
            "rows": [row for group in self.groups for row in group.as_json()],
            "targets": [goal.as_json() for goal in self.goals],
        }


def policy(quick: bool) -> Costs:
    """Measure everything, in about a minute, or in a tenth of that when `quick`."""
    effort = QUICK if quick else FULL
    about = machine.machine(machine.take_cores())
    groups = [
        measured("sync", "Around a plain function that does nothing", effort),
        measured("async", "Around a coroutine that does nothing", effort),
    ]
    progress_ends()
    about["load_after"] = machine.load()
    goals = [goal for group in groups for goal in group.goals()]
    return Costs(groups, goals, about, machine.versions(PACKAGES), effort)


def policy_report(costs: Costs) -> Report:
    """Return what a person reads."""
    where, versions = costs.machine, dict(costs.versions)
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Report(
        [*(group.table() for group in costs.groups), goals_table(costs.goals)],
        f"{where['cpu']}, {where['cores']} cores, {where['kernel']}{machine.busy(where)}. "
        f"Medians of {costs.effort.rounds} interleaved rounds; every ratio is the median of the "
        f"rounds' own. No call fails, waits or meets another. {packages}.",
        [
            f"{group.title}: {row.name} {row.problem}"
            for group in costs.groups
            for row in group.rows
            if row.failed
        ],
    )


def measured(key: str, title: str, effort: Effort) -> Measured:
    """Measure all that guard one kind of function."""
    taking_part = entries(asynchronous=key == "async")
    opened = awaited if key == "async" else called
    contestants = [
        Contestant(entry.name, partial(opened, entry.decorate), ours=entry.ours)
        for entry in taking_part
    ]
    return Measured(key, title, taking_part, measure(key, contestants, effort))


@contextmanager
def called(decorate: Decorator) -> Iterator[Run]:
    """Call a plain function that does nothing."""

    def nothing() -> None:
        """Return at once."""

    function = decorate(nothing)

    def run(calls: int) -> None:
        for _ in repeat(None, calls):
            function()

    yield run


@contextmanager
def awaited(decorate: Decorator) -> Iterator[Run]:
    """Await a coroutine that does nothing, one after the other on one loop."""

    async def nothing() -> None:
        """Return at once."""

    async def decorated() -> Function:
        # Some decorators want the loop on which their function will run.
        return decorate(nothing)

    async def many(function: Function, calls: int) -> None:
        for _ in repeat(None, calls):
            await function()

    with asyncio.Runner() as runner:
        function = runner.run(decorated())
        yield lambda calls: runner.run(many(function, calls))


def nanoseconds(row: Row) -> float | None:
    """Return the time of one call."""
    return None if row.rate is None else 1e9 / row.rate


def over(row: Row, bare: Row) -> float | None:
    """Return the time that a call takes longer than without a policy."""
    mine, least = nanoseconds(row), nanoseconds(bare)
    return None if mine is None or least is None else mine - least

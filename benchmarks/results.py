"""What a run found: groups of rows that did the same work, and whether the targets were met."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from benchmarks.memory import Footprint
from benchmarks.rounds import Row


@dataclass(frozen=True)
class Group:
    """Rows that did the same work."""

    key: str
    title: str
    rows: Sequence[Row]
    unit: str = "calls/s"
    units: float = 1.0
    """How many of `unit` one call is."""
    cpu_unit: str = "CPU µs a call"
    cpu_us: float = 1.0
    """How many microseconds one `cpu_unit` is, for what one call was in the measurement."""
    each: str = ""
    """The name of a column for the time of one call, if there should be one."""
    each_seconds: float = 1.0
    """How many seconds one unit of that column is."""
    has_ceiling: bool = True
    """Whether the first row is what the others cannot pass."""

    def row(self, name: str) -> Row:
        """Return the row of that name."""
        return next(row for row in self.rows if row.name == name)

    def rate(self, row: Row) -> float | None:
        """Return a row's rate in the group's unit."""
        return None if row.rate is None else row.rate * self.units

    def cpu(self, row: Row) -> float | None:
        """Return a row's CPU time in the group's unit."""
        return None if row.cpu_us is None else row.cpu_us / self.cpu_us

    def time(self, row: Row) -> float | None:
        """Return how long one call took, in the unit of the column `each`."""
        return None if row.rate is None else 1 / row.rate / self.each_seconds

    def as_json(self) -> list[dict[str, Any]]:
        """Return the rows as they are printed for programs."""
        return [self.row_as_json(row) for row in self.rows]

    def row_as_json(self, row: Row) -> dict[str, Any]:
        """Return one row as it is printed for programs."""
        spread = quantiles(row.rates, n=4) if len(row.rates) > 1 else []
        ours = [other for other in self.rows if other.ours and other is not row]
        return {
            "group": self.key,
            "name": row.name,
            "problem": row.problem or None,
            "unit": self.unit,
            "rate": self.rate(row),
            "rate_quartiles": [value * self.units for value in spread[::2]],
            "cpu_unit": self.cpu_unit,
            "cpu": self.cpu(row),
            "of_first": row.ratio(self.rows[0]),
            "holdfast_is": {other.name: other.ratio(row) for other in ours},
            "calls_a_round": row.calls,
            "rounds": len(row.rates),
        }


@dataclass(frozen=True)
class Goal:
    """A figure that the project has promised to reach."""

    name: str
    value: float | None
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Tell whether the figure is there and on the right side of its bound."""
        if self.value is None:
            return False
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def as_json(self) -> dict[str, Any]:
        """Return the target as it is printed for programs."""
        return {
            "name": self.name,
            "value": self.value,
            "bound": self.bound,
            "at_most": self.at_most,
            "met": self.met,
        }


@dataclass(frozen=True)
class Results:
    """Everything that one run found."""

    groups: Sequence[Group]
    footprints: Sequence[Footprint]
    goals: Sequence[Goal]
    machine: dict[str, Any]
    versions: dict[str, str]
    effort: dict[str, Any] = field(default_factory=dict)
    benchmark: str = "rest"

    @property
    def failed(self) -> bool:
        """Tell whether a contestant that takes part could not do the work."""
        rows = [row.failed for group in self.groups for row in group.rows]
        return any(rows) or any(footprint.failed for footprint in self.footprints)

    def as_json(self) -> dict[str, Any]:
        """Return one object for programs."""
        rows = [row for group in self.groups for row in group.as_json()]
        rows += [
            {
                "group": "memory",
                "name": footprint.name,
                "problem": footprint.problem or None,
                "unit": "bytes a kept connection",
                "python": footprint.python,
                "resident": footprint.resident,
            }
            for footprint in self.footprints
        ]
        return {
            "benchmark": self.benchmark,
            "machine": self.machine,
            "versions": self.versions,
            "effort": self.effort,
            "rows": rows,
            "targets": [goal.as_json() for goal in self.goals],
        }

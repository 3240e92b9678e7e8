"""What a simulation came to: for each variant its periods, its phases and its faults."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.simulation.metrics import Period

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Outcome", "Report", "Shade"]


@dataclass(frozen=True, slots=True)
class Shade:
    """A fault as it is shown: what, and from when to when in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Outcome:
    """What one variant came to.

    ``name`` is empty when the scenario has no variants. ``periods`` follow each other through the
    whole run. ``warmup`` seconds at the beginning are left out of the phases. ``requests`` is how
    many requests reached the hosts, ``wasted`` how many of them were worked on for nobody.
    """

    name: str
    periods: tuple[Period, ...]
    shades: tuple[Shade, ...]
    warmup: float
    duration: float
    clients: int
    hosts: int
    requests: int
    wasted: int

    @property
    def whole(self) -> Period:
        """The whole run as one period."""
        return Period.of(self.periods)

    @property
    def phases(self) -> dict[str, Period]:
        """The time ``before`` the first fault, ``during`` faults, and ``after`` the last one.

        Without faults, the ``whole`` run. The warm-up is in none of them, and a period that is
        partly in a fault is in ``during``.
        """
        measured = [period for period in self.periods if period.start >= self.warmup]
        phases: dict[str, list[Period]] = {}
        start = min((shade.start for shade in self.shades), default=inf)
        end = max((shade.end for shade in self.shades), default=inf)
        for period in measured:
            if not self.shades:
                name = "whole"
            elif period.end <= start:
                name = "before"
            else:
                name = "during" if period.start < end else "after"
            phases.setdefault(name, []).append(period)
        return {name: Period.of(periods) for name, periods in phases.items()}

    def coarser(self, seconds: float) -> Sequence[Period]:
        """Return the periods put together into longer ones of about so many seconds."""
        each = max(round(seconds / self.periods[0].seconds), 1)
        return [
            Period.of(self.periods[first : first + each])
            for first in range(0, len(self.periods), each)
        ]

    def as_json(self) -> dict[str, Any]:
        """Return an object for JSON."""
        return {
            "name": self.name,
            "duration": self.duration,
            "clients": self.clients,
            "hosts": self.hosts,
            "requests": self.requests,
            "wasted": self.wasted,
            "whole": self.whole.as_json(),
            "phases": {name: period.as_json() for name, period in self.phases.items()},
            "faults": [
                {
                    "label": shade.label,
                    "start": shade.start,
                    "end": shade.end if shade.end < inf else None,
                }
                for shade in self.shades
            ],
            "periods": [period.as_json() for period in self.periods],
        }


@dataclass(frozen=True)
class Report:
    """What all variants of a scenario came to, in the order of the file."""

    title: str
    description: str
    seed: int
    outcomes: tuple[Outcome, ...]

    def outcome(self, name: str) -> Outcome:
        """Return the outcome of a variant."""
        return next(outcome for outcome in self.outcomes if outcome.name == name)

    def as_json(self) -> dict[str, Any]:
        """Return one object for JSON, the same for the same scenario and seed."""
        return {
            "title": self.title,
            "description": self.description,
            "seed": self.seed,
            "variants": [outcome.as_json() for outcome in self.outcomes],
        }

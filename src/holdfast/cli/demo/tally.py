"""What the callers saw: counts and latencies, by phase."""

from __future__ import annotations

from array import array
from collections import Counter
from enum import IntEnum
from math import ceil
from typing import TYPE_CHECKING

from holdfast.console.report import Figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Phase", "Tally", "figures"]

#: So many lost calls of each worker are told in words.
_TOLD = 3


class Phase(IntEnum):
    """When a call was made; one that overlaps the outage at all belongs to it."""

    BEFORE = 0
    DURING = 1
    AFTER = 2

    @classmethod
    def of(cls, began: Phase, ended: Phase) -> Phase:
        """Return the phase of a call that began in one phase and ended in another."""
        return began if began is ended else cls.DURING


class _Counts:
    """The calls of one phase."""

    __slots__ = ("attempts", "errors", "latencies", "retries", "servers")

    def __init__(self) -> None:
        self.latencies = array("d")  # seconds, one for each call
        self.attempts = 0
        self.retries = 0
        self.errors = 0
        self.servers: Counter[int] = Counter()  # answers by port

    def add(self, seconds: float, attempts: int) -> None:
        """Count a call that is over."""
        self.attempts += attempts
        self.retries += max(0, attempts - 1)  # one that was refused at once took no attempt
        self.latencies.append(seconds)


class Tally:
    """The calls of one worker, which alone writes here; anyone may read."""

    def __init__(self) -> None:
        self.phases = {phase: _Counts() for phase in Phase}
        self.losses: list[str] = []

    def answered(self, phase: Phase, seconds: float, attempts: int, port: int) -> None:
        """Count a call that got the right answer."""
        counts = self.phases[phase]
        counts.servers[port] += 1
        counts.add(seconds, attempts)

    def lost(self, phase: Phase, seconds: float, attempts: int, why: str) -> None:
        """Count a call whose caller saw an error or a wrong answer."""
        counts = self.phases[phase]
        counts.errors += 1
        counts.add(seconds, attempts)
        if len(self.losses) < _TOLD and why not in self.losses:
            self.losses.append(why)

    @property
    def calls(self) -> int:
        """How many calls are over."""
        return sum(len(counts.latencies) for counts in self.phases.values())

    @property
    def retries(self) -> int:
        """How many attempts these calls took besides the first ones."""
        return sum(counts.retries for counts in self.phases.values())

    @property
    def errors(self) -> int:
        """How many calls were lost."""
        return sum(counts.errors for counts in self.phases.values())

    def answers(self, port: int, phases: Iterable[Phase] = Phase) -> int:
        """Return how many calls the server on a port answered."""
        return sum(self.phases[phase].servers[port] for phase in phases)


def figures(
    name: str,
    tallies: Iterable[Tally],
    servers: dict[int, str],
    phases: Sequence[Phase] = tuple(Phase),
) -> Figures:
    """Return the figures of tallies together; ``servers`` names those on the ports."""
    parts = [tally.phases[phase] for tally in tallies for phase in phases]
    latencies = sorted(seconds for part in parts for seconds in part.latencies)
    return Figures(
        name=name,
        calls=len(latencies),
        attempts=sum(part.attempts for part in parts),
        retries=sum(part.retries for part in parts),
        errors=sum(part.errors for part in parts),
        p50=_quantile(latencies, 0.5) * 1000,
        p99=_quantile(latencies, 0.99) * 1000,
        max=_quantile(latencies, 1.0) * 1000,
        servers={host: sum(part.servers[port] for part in parts) for port, host in servers.items()},
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that a share of all does not exceed (nearest rank)."""
    if not ordered:
        return 0.0
    return ordered[ceil(share * len(ordered)) - 1]

"""A simulated server as a queue with workers, as queueing theory has it: G/G/c/K."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from holdfast.simulation.distributions import Constant, Distribution, distribution

__all__ = ["Service"]


@dataclass(frozen=True, slots=True)
class Service:
    """A server as a queue: so many workers, so long a queue, so long a request takes.

    ``time``: seconds or a distribution, of one request at one worker. ``workers``: how many work
    at the same time. ``queue``: how many requests wait for one; further ones are answered 503 at
    once. ``errors``: the share of requests that end in ``status``, after ``error_time`` when that
    is not None. ``abandoned``: what becomes of a request whose client went away: ``"waste"``, it
    is worked on all the same, as most servers do; or ``"drop"``, the work ends at once.
    """

    time: Distribution | float = field(default_factory=lambda: Constant(0.01))
    workers: int = 8
    queue: int = 100
    errors: float = 0.0
    status: int = 500
    error_time: Distribution | float | None = None
    abandoned: Literal["waste", "drop"] = "waste"
    body: bytes = b""

    def __post_init__(self) -> None:
        _check("workers", self.workers, 1)
        _check("queue", self.queue, 0)
        _check("errors", self.errors, 0, 1, float)
        _check("status", self.status, 200, 599)
        if self.abandoned not in ("waste", "drop"):
            raise ValueError(f"Service.abandoned must be 'waste' or 'drop', not {self.abandoned!r}")
        for name in ("time", "error_time"):
            value = getattr(self, name)
            if value is None and name == "error_time":
                continue
            try:
                object.__setattr__(self, name, distribution(value))
            except ValueError as error:
                raise ValueError(f"Service.{name}: {error}") from None

    @property
    def time_of_errors(self) -> Distribution:
        """How long a request takes that ends in an error."""
        return distribution(self.time if self.error_time is None else self.error_time)


def _check(name: str, value: Any, least: int, most: float = inf, kind: type = int) -> None:
    fits = isinstance(value, kind | int) and not isinstance(value, bool)
    if not fits or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        bound = f"from {least} on" if most == inf else f"from {least} to {most:g}"
        raise ValueError(f"Service.{name} must be {what} {bound}, not {value!r}")

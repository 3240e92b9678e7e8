"""Outlier ejection: an endpoint that keeps failing is left out for a while."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from holdfast.policy.checks import at_least, positive, share

__all__ = ["Ejection", "Health"]


@dataclass(frozen=True, slots=True)
class Ejection:
    """When endpoints are ejected (after Envoy's outlier detection).

    An endpoint is out after ``failures`` in a row, for ``base`` seconds times the number of its
    ejections, at most ``cap``. Then one probe decides. At most a share of ``most`` of the
    endpoints are out at once, though always one may be. When fewer than a share of ``panic`` are
    in, ejection is ignored: better a try than none.
    """

    failures: int = 5
    base: float = 30.0
    cap: float = 300.0
    most: float = 0.5
    panic: float = 0.5

    def __post_init__(self) -> None:
        at_least(self, 1, "failures")
        positive(self, "base", "cap")
        share(self, "most", "panic")


class Health:
    """One endpoint's record; its `EndpointSet` guards and judges it."""

    __slots__ = ("ejections", "failures", "out_until", "probation", "probing", "returned_at")

    def __init__(self) -> None:
        self.failures = 0  # in a row
        self.ejections = 0
        self.out_until = -inf
        self.probation = False  # was ejected, and has not succeeded since
        self.probing = False  # the probe is under way
        self.returned_at = -inf

    def ready_at(self, now: float) -> float:
        """Return when the endpoint may be chosen; infinity while a probe decides."""
        return inf if self.probing else max(self.out_until, now)

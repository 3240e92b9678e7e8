"""Outlier ejection: an endpoint that keeps failing, or is far worse than others, is left out."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from holdfast.policy.checks import above, at_least, positive, share
from holdfast.policy.specs import Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Ejection", "Health", "Sample", "outliers"]

T = TypeVar("T")

#: How many standard deviations (of a Poisson distribution) above what was to be expected an
#: endpoint's failures have to be. Where all fail now and then by chance, some of hundreds of
#: endpoints are always 1.9 deviations below the mean, and would be ejected without a reason.
CHANCE = 4.0


@dataclass(frozen=True, slots=True, repr=False)
class Ejection(Spec):
    """When endpoints are ejected (after Envoy's outlier detection).

    An endpoint is out after ``failures`` in a row, for ``base`` seconds times the number of its
    ejections, at most ``cap``. Then one probe decides. At most a share of ``most`` of the
    endpoints are out at once, though always one may be. When fewer than a share of ``panic`` are
    in, ejection is ignored: better a try than none.

    Every ``sweep`` seconds the endpoints that had at least ``least_calls`` calls since the last
    sweep are compared, if they are ``least_endpoints`` or more. Out is whose success rate is more
    than ``deviations`` standard deviations below the mean (which a single one can be from five
    endpoints on, for 1.9), with ``failures`` failures or more, and more than chance explains. With
    ``latency``, out is also whose mean latency is more than that many times the median of all;
    for this a tenth of ``least_calls`` is enough. None turns either off.
    """

    failures: int = 5
    base: float = 30.0
    cap: float = 300.0
    most: float = 0.5
    panic: float = 0.5
    deviations: float | None = 1.9
    least_endpoints: int = 5
    least_calls: int = 100
    latency: float | None = None
    sweep: float = 10.0

    def __post_init__(self) -> None:
        at_least(self, 1, "failures", "least_calls")
        at_least(self, 2, "least_endpoints")  # one is never worse than the others
        positive(self, "base", "cap", "sweep")
        share(self, "most", "panic")
        if self.deviations is not None:
            positive(self, "deviations")
        if self.latency is not None:
            above(self, 1, "latency")

    @property
    def sweeps(self) -> bool:
        """Whether endpoints are compared at all."""
        return self.deviations is not None or self.latency is not None


class Health:
    """One endpoint's record; its `EndpointSet` guards and judges it."""

    __slots__ = (
        "ejections",
        "failed",
        "failing",
        "failures",
        "out_until",
        "probation",
        "probing",
        "returned_at",
        "seconds",
    )

    def __init__(self) -> None:
        self.failures = 0  # in a row
        self.ejections = 0
        self.out_until = -inf
        self.probation = False  # was ejected, and has not succeeded since
        self.probing = False  # the probe is under way
        self.returned_at = -inf
        self.failing = False  # by active checks
        self.failed = 0  # calls since the last sweep
        self.seconds = 0.0  # that calls since the last sweep took together

    def ready_at(self, now: float) -> float:
        """Return when the endpoint may be chosen; infinity while a probe or a check decides."""
        return inf if self.probing or self.failing else max(self.out_until, now)

    @property
    def well(self) -> bool:
        """Whether neither ejection nor active checks have anything against it."""
        return not self.probation and not self.failing


class Sample(NamedTuple):
    """What came of the calls of one endpoint since the last sweep."""

    calls: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """The share of calls that succeeded."""
        return 1 - self.failed / self.calls

    @property
    def latency(self) -> float:
        """The mean latency, in seconds."""
        return self.seconds / self.calls


def outliers(ejection: Ejection, samples: Sequence[tuple[T, Sample]]) -> list[tuple[T, str]]:
    """Return whose samples differ too much from the others', the worst first, and how."""
    found: dict[int, tuple[T, str]] = {}
    if ejection.deviations is not None:
        compared = [(one, s) for one, s in samples if s.calls >= ejection.least_calls]
        if len(compared) >= ejection.least_endpoints:
            rates = [sample.rate for _, sample in compared]
            mean = fmean(rates)
            deviation = sqrt(fmean((rate - mean) ** 2 for rate in rates))
            least = mean - ejection.deviations * deviation
            for one, sample in sorted(compared, key=lambda item: item[1].rate):
                expected = sample.calls * (1 - mean)
                chance = max(expected + CHANCE * sqrt(expected), ejection.failures - 1)
                if sample.rate < least and sample.failed > chance:
                    cause = f"success rate {sample.rate:.4g}, the mean is {mean:.4g}"
                    found[id(one)] = one, cause
    if ejection.latency is not None:
        enough = max(1, ejection.least_calls // 10)
        compared = [(one, s) for one, s in samples if s.calls >= enough]
        if len(compared) >= ejection.least_endpoints:
            middle = median(sample.latency for _, sample in compared)
            for one, sample in sorted(compared, key=lambda item: -item[1].latency):
                if sample.latency > ejection.latency * middle:
                    cause = f"mean latency {sample.latency:.3g} s, the median is {middle:.3g} s"
                    found.setdefault(id(one), (one, cause))
    return list(found.values())

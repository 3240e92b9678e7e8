"""Slow start: an endpoint that is new, or is back, gets its share of calls by and by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.policy.checks import positive, share
from holdfast.policy.specs import Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cluster.balancing.balancer import Chance
    from holdfast.cluster.endpoints import Endpoint

__all__ = ["SlowStart"]


@dataclass(frozen=True, slots=True, repr=False)
class SlowStart(Spec):
    """How an endpoint warms up, as in Envoy's slow start mode.

    For ``seconds`` after it was added or came back, it accepts a pick with a probability that grows
    evenly from ``least`` to 1; otherwise another one is picked. So it works with every balancer.
    """

    seconds: float = 30.0
    least: float = 0.1

    def __post_init__(self) -> None:
        positive(self, "seconds")
        share(self, "least")

    def accepts(self, endpoint: Endpoint, now: float, random: Chance) -> bool:
        """Tell whether an endpoint takes a call that it was picked for."""
        age = now - endpoint.since
        if age >= self.seconds:
            return True
        return random() < self.least + (1 - self.least) * max(age, 0.0) / self.seconds

    def warm(self, endpoints: Sequence[Endpoint], now: float) -> list[Endpoint]:
        """Return those that have warmed up."""
        warmed = now - self.seconds
        return [endpoint for endpoint in endpoints if endpoint.since <= warmed]

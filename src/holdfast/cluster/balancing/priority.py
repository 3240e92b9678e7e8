"""Endpoints in groups, of which one is used."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from holdfast.cluster.balancing.balancer import Chance, introduce, is_keyed
from holdfast.policy.checks import share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cluster.balancing.names import BalancerTypes
    from holdfast.cluster.endpoints import Endpoint

__all__ = ["Priority"]

#: Seconds after which the groups are judged again though ``ready`` is the same: while health is
#: ignored (panic), it does not tell who recovers.
_STALE = 1.0


class Priority:
    """Endpoints of the first group that is healthy enough; ``inner`` picks one of them.

    Endpoints of one `priority` are a group, 0 is the first. A group is healthy enough while a share
    of ``enough`` of its endpoints may be called: 0.7, as Envoy's priority levels have an
    overprovisioning factor of 1.4, of which it is the reciprocal. When no group is, all endpoints
    are used that are ready, of whichever group: together they carry most.
    """

    def __init__(self, inner: BalancerTypes = "p2c", enough: float = 0.7) -> None:
        from holdfast.cluster.balancing.names import balancer_of  # it imports this module

        self.inner = balancer_of(inner)
        self.enough = enough
        share(self, "enough")
        self.observes = self.inner.observes
        self.keyed = is_keyed(self.inner)
        self._every: Sequence[Endpoint] = ()
        self._healthy: tuple[int, ...] = ()
        self._choice: tuple[Sequence[Endpoint], float, Sequence[Endpoint]] = (), 0.0, ()

    def members(self, every: Sequence[Endpoint], version: int) -> None:
        """Take note of the groups, and tell the inner balancer."""
        introduce(self.inner, every, version)
        self._every = every
        self._choice = (), 0.0, ()

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return one of the group."""
        seen, until, group = self._choice
        if seen is not ready or now >= until:
            lasting = isinstance(ready, tuple)
            if lasting:
                self._healthy = self.healthy(self._every or ready, ready, now)
            chosen = self.group(ready)
            # The same tuple while it is the same group: inner balancers know it.
            group = group if lasting and chosen == group else chosen
            if lasting:
                self._choice = ready, now + _STALE, group
        return self.inner.pick(group, now, random, key)

    def healthy(
        self, every: Sequence[Endpoint], ready: Sequence[Endpoint], now: float
    ) -> tuple[int, ...]:
        """Return the priorities of the groups that are healthy enough, the first one first."""
        sizes = Counter(endpoint.priority for endpoint in every)
        # In a panic those that are ejected are ready, too, which makes no group healthy.
        well = Counter(
            endpoint.priority for endpoint in ready if endpoint.ready_at(now, False) <= now
        )
        return tuple(
            priority
            for priority in sorted(sizes)
            if well[priority] and well[priority] >= self.enough * sizes[priority]
        )

    def group(self, ready: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Return those of the first group that is healthy enough, or else all of ``ready``."""
        for priority in self._healthy:
            group = [endpoint for endpoint in ready if endpoint.priority == priority]
            if group:  # none of it may be left for a retry
                if len(group) == len(ready):
                    return ready
                return tuple(group) if isinstance(ready, tuple) else group
        return ready

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Tell the inner balancer."""
        self.inner.observe(endpoint, seconds, now)

    def __repr__(self) -> str:
        return f"Priority({self.inner!r}, enough={self.enough:g})"

"""Balancers that leave it to chance."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from holdfast.cluster.balancing.balancer import Chance, Unobserving
from holdfast.cluster.balancing.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cluster.endpoints import Endpoint

__all__ = ["Random", "WeightedRandom"]

#: How often `WeightedRandom` draws one that is not ready before it weighs those that are.
_DRAWS = 16


class Random(Unobserving):
    """Any endpoint, all with the same probability."""

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return one at random."""
        return ready[int(random() * len(ready))]

    def __repr__(self) -> str:
        return "Random()"


class WeightedRandom(Unobserving):
    """Any endpoint, with a probability in proportion to its weight.

    A. J. Walker's alias method (1977), with the tables of M. D. Vose, "A Linear Algorithm For
    Generating Random Numbers With a Given Distribution" (1991): each pick is O(1). Those that are
    not ready are drawn again, so that the tables stay when one comes or goes.
    """

    def __init__(self) -> None:
        self._standing = Standing()
        self._table = _alias_table(())

    def members(self, every: Sequence[Endpoint], version: int) -> None:
        """Make the tables anew."""
        self._table = _alias_table(every)

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return one at random, by weight."""
        table = self._table
        among = self._standing.among(ready)
        count = len(table)
        for _ in range(_DRAWS if count else 0):
            place = random() * count
            share, endpoint, other = table[int(place)]
            if place % 1 >= share:
                endpoint = other
            if endpoint in among:
                return endpoint
        sums = list(accumulate(endpoint.weight for endpoint in ready))
        mark = random() * sums[-1]
        for endpoint, total in zip(ready, sums, strict=True):
            if mark < total:
                return endpoint
        return ready[-1]  # what rounding left

    def __repr__(self) -> str:
        return "WeightedRandom()"


def _alias_table(every: Sequence[Endpoint]) -> list[tuple[float, Endpoint, Endpoint]]:
    """Return, for each of as many equal parts, two endpoints and the first one's share of it."""
    count = len(every)
    total = sum(endpoint.weight for endpoint in every)
    left = [endpoint.weight * count / total for endpoint in every]
    table = [(1.0, endpoint, endpoint) for endpoint in every]
    small = [place for place, share in enumerate(left) if share < 1]
    large = [place for place, share in enumerate(left) if share >= 1]
    while small and large:
        less, more = small.pop(), large[-1]
        table[less] = (left[less], every[less], every[more])
        left[more] -= 1 - left[less]
        if left[more] < 1:
            small.append(large.pop())
    return table  # what remains is 1 but for rounding

"""Consistent hashing on a ring."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import chain
from typing import TYPE_CHECKING

from holdfast.cluster.balancing.hashing import MASK, Hashing, mixed
from holdfast.policy.checks import at_least

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.cluster.endpoints import Endpoint

__all__ = ["Ring"]

#: How many of a point's lowest bits tell whose it is, instead of where.
_BITS = 24
_OWNER = (1 << _BITS) - 1
_PLACE = MASK ^ _OWNER

#: The golden ratio of 2^64, by which SplitMix64 counts.
_STEP = 0x9E3779B97F4A7C15


class Ring(Hashing):
    """The endpoint that has the next point on a ring after the key's.

    D. Karger and others, "Consistent Hashing and Random Trees" (1997), with several points for
    each endpoint as in I. Stoica and others, "Chord" (2001), and libketama: ``points`` for one of
    mean weight, so that shares differ by some 1/√points of the mean. There are at most ``most``
    points on the ring, so that it does not take long to make: from 2,600 endpoints on each has
    fewer. A pick is O(log n).
    """

    def __init__(self, points: int = 100, most: int = 1 << 18) -> None:
        super().__init__()
        self.points = points
        self.most = most
        at_least(self, 1, "points", "most")
        self._table: tuple[array[int], Sequence[Endpoint]] = array("Q"), ()

    def build(self, numbers: dict[Endpoint, int]) -> None:
        """Put the endpoints' points in order."""
        # By name, so that two points at one place are in the same order for every client.
        owners = sorted(numbers, key=lambda endpoint: endpoint.name)
        total = sum(endpoint.weight for endpoint in owners)
        points: list[int] = []
        steps: list[int] = []  # as in `ranked`, a point is a product
        for owner, endpoint in enumerate(owners):
            share = endpoint.weight / total
            # The first ones stay the same however many there are: so few keys move.
            count = round(min(self.points * len(owners), self.most) * share) or 1
            while len(steps) < count:
                steps.append(mixed(len(steps) * _STEP & MASK, 0) | 1)
            number = numbers[endpoint] | 1
            points += [number * step & _PLACE | owner for step in steps[:count]]
        points.sort()
        self._table = array("Q", points), owners

    def walk(self, number: int) -> Iterator[Endpoint]:
        """Yield the owners of the points from the key's on, once around."""
        points, owners = self._table
        first = bisect_left(points, number)
        for place in chain(range(first, len(points)), range(first)):
            yield owners[points[place] & _OWNER]

    def __repr__(self) -> str:
        return f"Ring(points={self.points})"

"""Maglev's consistent hashing."""

from __future__ import annotations

from itertools import chain, cycle, islice
from math import ceil, isqrt
from typing import TYPE_CHECKING, Any

from holdfast.cluster.balancing.balancer import Chance
from holdfast.cluster.balancing.hashing import Hashing, mixed
from holdfast.policy.checks import at_least, wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.cluster.endpoints import Endpoint

__all__ = ["Maglev"]

#: Makes a second number of an endpoint's first.
_SECOND = 0x9E3779B97F4A7C15


class Maglev(Hashing):
    """The endpoint that the key's place in a table names.

    D. E. Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer"
    (2016): endpoints take turns to claim places of the table, each in an order of its own; with
    turns in proportion to weights, as in Envoy. ``size``: of the table, a prime number; shares are
    even within a percent while it is 100 times the number of endpoints. A pick is O(1); a few more
    keys than needed move when the members change.
    """

    def __init__(self, size: int = 65537) -> None:
        super().__init__()
        self.size = size
        at_least(self, 3, "size")
        if not size % 2 or any(size % factor == 0 for factor in range(3, isqrt(size) + 1, 2)):
            raise wrong(self, "size", "must be a prime number", size)
        self._table: list[Endpoint] = []

    def build(self, numbers: dict[Endpoint, int]) -> None:
        """Fill the table."""
        size = self.size
        # By name, so that every client has the same table.
        owners = sorted(numbers, key=lambda endpoint: endpoint.name)
        places = [numbers[owner] % size for owner in owners]
        skips = [mixed(numbers[owner], _SECOND) % (size - 1) + 1 for owner in owners]
        table: list[Endpoint | None] = [None] * size
        for turn in _turns([owner.weight for owner in owners], size):
            place, skip = places[turn], skips[turn]
            while table[place] is not None:
                place += skip
                if place >= size:
                    place -= size
            table[place] = owners[turn]
            places[turn] = place
        self._table = [owner for owner in table if owner is not None]

    def walk(self, number: int) -> Iterator[Endpoint]:
        """Yield the owners of the table's places from the key's on, once around."""
        table = self._table
        first = number % len(table) if table else 0
        for place in chain(range(first, len(table)), range(first)):
            yield table[place]

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return the key's endpoint, or the next in the table that is ready."""
        table = self._table
        number = self.number(key, random)
        if table and (endpoint := table[number % len(table)]) in self._standing.among(ready):
            return endpoint
        return self.first(number, ready)

    def __repr__(self) -> str:
        return f"Maglev(size={self.size})"


def _turns(weights: Sequence[float], size: int) -> Iterable[int]:
    """Return whose turn it is, by place, as often as there are places in the table."""
    if not weights:
        return ()
    if min(weights) == max(weights):
        return islice(cycle(range(len(weights))), size)
    part = size / sum(weights)
    turns = sorted(
        ((turn + 0.5) / weight, owner)
        for owner, weight in enumerate(weights)
        for turn in range(ceil(weight * part))
    )
    return [owner for _, owner in turns[:size]]

"""Balancers that take turns."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

from holdfast.cluster.balancing.balancer import Chance, Unobserving
from holdfast.cluster.balancing.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cluster.endpoints import Endpoint

__all__ = ["RoundRobin", "WeightedRoundRobin"]


class RoundRobin(Unobserving):
    """One after the other, in the order of the hosts.

    L. Kleinrock's analysis of time sharing (1964) gave it its name; weights do not count.
    """

    def __init__(self) -> None:
        self._turns = itertools.count()

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return the next one."""
        return ready[next(self._turns) % len(ready)]

    def __repr__(self) -> str:
        return "RoundRobin()"


@dataclass(slots=True)
class _Turns:
    """When it is an endpoint's turn, in virtual time, in which a weight of 1 has one a unit."""

    endpoint: Endpoint
    weight: float
    order: int
    start: float = 0.0
    taken: int = 0

    @property
    def due(self) -> float:
        # Not a sum of steps: each turn is exact to the last bit, so that those of equal share
        # never drift apart. The half puts the turns in the middle of their parts, which spreads
        # them as evenly as nginx's smooth weighted round robin does.
        return self.start + (self.taken + 0.5) / self.weight

    def begin(self, time: float) -> None:
        """Count the turns from now on."""
        self.start = time
        self.taken = 0

    def reweigh(self, weight: float, time: float) -> None:
        """Change the weight; what is left of the wait for the next turn changes with it."""
        left = max(self.due - time, 0.0) * self.weight / weight
        self.weight = weight
        self.begin(time + left - 0.5 / weight)


class WeightedRoundRobin(Unobserving):
    """Turns in proportion to the weights, spread evenly (smooth).

    Earliest deadline first, as in Envoy and gRPC: each endpoint has its next turn in a heap, so
    that a pick is O(log n). With whole weights each endpoint has exactly its weight's number of
    turns in every cycle. One that is not ready when its turn comes waits outside of the heap, and
    goes on when it is back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._standing = Standing()
        self._turns: dict[Endpoint, _Turns] = {}
        self._heap: list[tuple[float, int, _Turns]] = []
        self._waiting: dict[Endpoint, _Turns] = {}
        self._seen: Sequence[Endpoint] = ()
        self._time = 0.0

    def members(self, every: Sequence[Endpoint], version: int) -> None:
        """Keep the turns of those that stay."""
        with self._lock:
            self._join(every)

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return the one whose turn it is."""
        with self._lock:
            if not self._turns:
                self._join(ready)
            among = self._standing.among(ready)
            lasting = isinstance(ready, tuple)
            if lasting and ready is not self._seen:
                self._seen = ready
                self._resume(among)
            heap = self._heap
            passed: list[tuple[float, int, _Turns]] = []
            picked: Endpoint | None = None
            while heap:
                due, order, turns = heap[0]
                if turns.endpoint in among:
                    self._time = due
                    turns.taken += 1
                    heapreplace(heap, (turns.due, order, turns))
                    picked = turns.endpoint
                    break
                passed.append(heappop(heap))
            for turn in passed:
                if lasting:
                    self._waiting[turn[2].endpoint] = turn[2]
                else:
                    heappush(heap, turn)
            # For a moment, when all have changed, nobody who is ready may be a member.
            return picked or ready[int(random() * len(ready))]

    def _join(self, every: Sequence[Endpoint]) -> None:
        before, waiting = self._turns, self._waiting
        self._turns, self._waiting, self._heap = {}, {}, []
        for order, endpoint in enumerate(every):
            turns = before.get(endpoint)
            if turns is None:
                turns = _Turns(endpoint, endpoint.weight, order, self._time)
            elif turns.weight != endpoint.weight:
                turns.reweigh(endpoint.weight, self._time)
            turns.order = order
            self._turns[endpoint] = turns
            if endpoint in waiting:
                self._waiting[endpoint] = turns
            else:
                self._heap.append((turns.due, order, turns))
        heapify(self._heap)

    def _resume(self, among: frozenset[Endpoint]) -> None:
        """Give those that are back their turns again."""
        if self._waiting:
            back = [endpoint for endpoint in self._waiting if endpoint in among]
            for endpoint in back:
                turns = self._waiting.pop(endpoint)
                turns.begin(self._time)
                heappush(self._heap, (turns.due, turns.order, turns))

    def __repr__(self) -> str:
        return "WeightedRoundRobin()"

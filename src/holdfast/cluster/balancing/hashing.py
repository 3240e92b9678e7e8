"""What balancers by key have in common: hashes, and the way past those that are not ready.

Theory of operation. Keys and names become numbers of 64 bits, by BLAKE2b: Python's own hash of a
string differs from process to process, and all clients are to send a key to the same endpoint. A
balancer walks through its endpoints in an order that the key decides, and takes the first one that
is ready. As an endpoint that is out is only passed over, the keys of the others stay where they
are; its own keys are spread over all others, and come home when it is back.

Where a walk meets too many in a row that are not ready, the rest are ranked (see `ranked`), which
is as consistent, and costs O(of those that are ready).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING, Any

from holdfast.cluster.balancing.balancer import Chance, Unobserving
from holdfast.cluster.balancing.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.cluster.endpoints import Endpoint

__all__ = ["Hashing", "mixed", "number_of", "ranked"]

MASK = (1 << 64) - 1

#: Odd numbers whose bits are well mixed: the multipliers of SplitMix64's finalizer (variant 13 of
#: D. Stafford, "Better Bit Mixing").
ONE, OTHER = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

#: How many in a row that are not ready are passed over, before the others are ranked.
_PATIENCE = 128


def number_of(key: str | bytes | bytearray | int) -> int:
    """Return the number, below 2^64, that a key or a name stands for, everywhere the same.

    Raises TypeError for a key of another type: what it prints may differ between processes.
    """
    if isinstance(key, str):
        data = key.encode("utf-8", "surrogatepass")
    elif isinstance(key, int):
        data = b"%d" % key
    elif isinstance(key, (bytes, bytearray)):
        data = bytes(key)
    else:
        raise TypeError(f"a balancing key must be str, bytes or int, not {type(key).__name__}")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


#: For keys, of which a few are often the most of all. Typed, as 1 and 1.0 are equal.
_known = lru_cache(maxsize=4096, typed=True)(number_of)


def mixed(one: int, other: int) -> int:
    """Return a number below 2^64 that two such numbers decide, as if by chance."""
    number = (one ^ other) * ONE & MASK
    number = (number ^ number >> 32) * OTHER & MASK
    return number ^ number >> 31


class Hashing(Unobserving, ABC):
    """The base of balancers that send the same key to the same endpoint.

    Endpoints are known by their names. A pick without a key is one with a random key.
    """

    keyed = True

    def __init__(self) -> None:
        self._standing = Standing()
        self._numbers: dict[Endpoint, int] = {}

    def members(self, every: Sequence[Endpoint], version: int) -> None:
        """Make the table anew."""
        before = self._numbers
        numbers = {
            endpoint: before[endpoint] if endpoint in before else number_of(endpoint.name)
            for endpoint in every
        }
        self.build(numbers)
        self._numbers = numbers

    def build(self, numbers: dict[Endpoint, int]) -> None:
        """Make the table of the endpoints, whose names' numbers are given."""

    @abstractmethod
    def walk(self, number: int) -> Iterable[Endpoint]:
        """Return endpoints in the order of a key's number; repetitions do no harm."""

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return the key's endpoint, or the next in its order that is ready."""
        return self.first(self.number(key, random), ready)

    def first(self, number: int, ready: Sequence[Endpoint]) -> Endpoint:
        """Return the first one of ``ready`` in the order of a key's number."""
        among = self._standing.among(ready)
        for passed, endpoint in enumerate(self.walk(number)):
            if endpoint in among:
                return endpoint
            if passed >= _PATIENCE:
                break
        return next(self.ranked(number, ready))

    def number(self, key: Any, random: Chance) -> int:
        """Return the number of a key, or of chance where there is no key."""
        try:
            return _known(key) if key is not None else int(random() * 2**64)
        except TypeError:  # it cannot be hashed for the cache, which bytearrays cannot
            return number_of(key)

    def order(self, number: int, ready: Sequence[Endpoint]) -> Iterator[Endpoint]:
        """Yield all of ``ready``, each once, in the order of a key's number."""
        among = self._standing.among(ready)
        seen: set[Endpoint] = set()
        passed = 0
        for endpoint in self.walk(number):
            if endpoint in among and endpoint not in seen:
                yield endpoint
                seen.add(endpoint)
                passed = 0
                if len(seen) == len(among):
                    return
            elif passed >= _PATIENCE:
                break
            else:
                passed += 1
        yield from self.ranked(number, [one for one in ready if one not in seen])

    def ranked(self, number: int, endpoints: Sequence[Endpoint]) -> Iterator[Endpoint]:
        """Yield endpoints by their ranks for a number."""
        return ranked(number, endpoints, *self.marks(endpoints))

    def marks(self, endpoints: Sequence[Endpoint]) -> tuple[list[int], list[float] | None]:
        """Return the numbers of endpoints, and their weights unless these are all the same."""
        known = self._numbers
        numbers = [known[one] if one in known else number_of(one.name) for one in endpoints]
        weights = [endpoint.weight for endpoint in endpoints]
        return numbers, weights if min(weights, default=0) != max(weights, default=0) else None


def ranked(
    number: int,
    endpoints: Sequence[Endpoint],
    numbers: Iterable[int],
    weights: Iterable[float] | None,
) -> Iterator[Endpoint]:
    """Yield endpoints by their ranks for a number, the highest first (rendezvous hashing).

    The first one costs O(n), all others together O(n log n).
    """
    if not endpoints:
        return
    # Multiply-shift hashing, with a multiplier of its own for each endpoint: the quickest there is,
    # and good enough, as both numbers are well mixed (M. Dietzfelbinger and others, "A Reliable
    # Randomized Algorithm for the Closest-Pair Problem", 1997). What counts are the highest bits.
    ranks: list[float] = [number * (one | 1) & MASK for one in numbers]
    if weights is not None:
        # 52 bits and a half: never 0, nor 1 when rounded, whose logarithm is 0.
        ranks = [
            -weight / log(((int(rank) >> 12) + 0.5) * 2**-52)
            for weight, rank in zip(weights, ranks, strict=True)
        ]
    first = ranks.index(max(ranks))
    yield endpoints[first]
    for place in sorted(range(len(ranks)), key=ranks.__getitem__, reverse=True):
        if place != first:
            yield endpoints[place]

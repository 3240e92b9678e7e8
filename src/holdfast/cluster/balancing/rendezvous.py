"""Rendezvous hashing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.cluster.balancing.hashing import Hashing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.cluster.endpoints import Endpoint

__all__ = ["Rendezvous"]


class Rendezvous(Hashing):
    """The endpoint that ranks highest for the key: exactly fair, and no key moves in vain.

    D. G. Thaler and C. V. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998),
    also known as highest random weight; with weights by J. Resch, "New Hashing Algorithms for
    Data Storage" (2015). There is no table, so a pick is O(n): some 2 ms among 10,000
    endpoints, where `Ring` and `Maglev` are quicker.
    """

    def __init__(self) -> None:
        super().__init__()
        self._latest: tuple[Sequence[Endpoint], tuple[list[int], list[float] | None]]
        self._latest = (), ([], None)

    def build(self, numbers: dict[Endpoint, int]) -> None:
        """Forget what was known of those that are ready: weights may have changed."""
        self._latest = (), ([], None)

    def walk(self, number: int) -> Iterable[Endpoint]:
        """Return nobody: all are ranked."""
        return ()

    def first(self, number: int, ready: Sequence[Endpoint]) -> Endpoint:
        """Return the one of ``ready`` that ranks highest."""
        return next(self.ranked(number, ready))

    def marks(self, endpoints: Sequence[Endpoint]) -> tuple[list[int], list[float] | None]:
        """Return the numbers of endpoints, and their weights unless these are all the same."""
        latest, marks = self._latest
        if latest is not endpoints:
            marks = super().marks(endpoints)
            if isinstance(endpoints, tuple):
                self._latest = endpoints, marks
        return marks

    def __repr__(self) -> str:
        return "Rendezvous()"

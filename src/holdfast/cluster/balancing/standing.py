"""Who is ready, for balancers that look somebody up in a table of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cluster.endpoints import Endpoint

__all__ = ["Standing"]


class Standing:
    """The endpoints that are ready, as a set. Safe among threads.

    It is made anew when ``ready`` is another tuple: O(n) at each such change, which are rare, and
    O(1) otherwise.
    """

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest: tuple[Sequence[Endpoint], frozenset[Endpoint]] = ((), frozenset())

    def among(self, ready: Sequence[Endpoint]) -> frozenset[Endpoint]:
        """Return those that are ready as a set."""
        latest, among = self._latest
        if latest is not ready:
            among = frozenset(ready)
            if isinstance(ready, tuple):
                self._latest = ready, among
        return among

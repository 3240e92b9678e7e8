"""The volumes of a service: where blocks are looked for, and where they are put."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from holdfast.blocks.placement import weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.blocks.server.volumes import Volume

__all__ = ["Corruption", "Mounts", "Shortfall"]


class Corruption(NamedTuple):
    """A copy that is not what its hash says: where, and when that was seen (Unix seconds)."""

    md5sum: str
    mount: str
    seen: float


class Shortfall:
    """How many copies each storage class still needs.

    ``classes``: their names. ``copies``: of each. ``kept`` counts what is there.
    """

    def __init__(self, classes: Iterable[str], copies: int) -> None:
        self.kept: dict[str, int] = dict.fromkeys(classes, 0)
        self.replicas = 0
        self._copies = copies

    def needs(self, volume: Volume) -> bool:
        """Return whether a copy on a volume would bring anything."""
        return any(self.kept.get(name, self._copies) < self._copies for name in volume.classes)

    def add(self, volume: Volume) -> None:
        """Count a copy on a volume."""
        self.replicas += volume.replication
        for name in volume.classes:
            if name in self.kept:
                self.kept[name] += volume.replication


class Mounts:
    """The volumes of a service.

    ``copies``: how many of its volumes keep each block.
    """

    def __init__(self, volumes: Sequence[Volume], copies: int = 1) -> None:
        if not volumes:
            raise ValueError("a service needs at least one volume")
        self.volumes = {volume.uuid: volume for volume in volumes}
        if len(self.volumes) < len(volumes):
            raise ValueError("two volumes have the same uuid")
        self.copies = copies
        self._lock = threading.Lock()
        self._corrupt: dict[tuple[str, str], Corruption] = {}

    def __iter__(self) -> Iterator[Volume]:
        return iter(self.volumes.values())

    def in_order(self, md5sum: str) -> list[Volume]:
        """Return the volumes in the order in which a block's are chosen.

        By the same formula as clients choose services, so that a volume more or less moves few
        blocks. Copies that were found corrupt come last.
        """
        if len(self.volumes) == 1:
            return list(self.volumes.values())
        order = sorted(
            self.volumes.values(),
            key=lambda volume: weight(md5sum, volume.uuid),
            reverse=True,
        )
        if self._corrupt:
            order.sort(key=lambda volume: (volume.uuid, md5sum) in self._corrupt)
        return order

    def shortfall(self, classes: Iterable[str]) -> Shortfall:
        """Return what a new block in these storage classes needs."""
        return Shortfall(classes, self.copies)

    def suspect(self, volume: Volume, md5sum: str) -> bool:
        """Return whether a copy was found corrupt, and not mended since."""
        return bool(self._corrupt) and (volume.uuid, md5sum) in self._corrupt

    def blame(self, volume: Volume, md5sum: str, seen: float) -> bool:
        """Note that a copy is corrupt; return whether that is news."""
        with self._lock:
            news = (volume.uuid, md5sum) not in self._corrupt
            self._corrupt[volume.uuid, md5sum] = Corruption(md5sum, volume.uuid, seen)
        return news

    def clear(self, volume: Volume, md5sum: str) -> None:
        """Note that a copy is correct, or gone."""
        if self._corrupt:
            with self._lock:
                self._corrupt.pop((volume.uuid, md5sum), None)

    def corrupt(self) -> list[Corruption]:
        """Return the copies that were found corrupt, by the time that was seen."""
        with self._lock:
            return sorted(self._corrupt.values(), key=lambda one: one.seen)

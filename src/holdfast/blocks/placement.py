"""Placement: which services are asked for a block, and in which order.

Every client puts the services of a block into the same order, by a hash of the block's and the
service's names (rendezvous hashing). So a block is found where it was put, without a directory;
and one service more or fewer out of n changes the first choice of about one block in n.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.blocks.locators import KeepLocator

__all__ = ["Service", "Services", "weight"]

#: What a ``+K@`` hint with the id of a cluster stands for.
_REMOTE = "https://keep.{}.arvadosapi.com/"
_CLUSTER = len("K@xxxxx")
_UUID = len("K@xxxxx-xxxxx-xxxxxxxxxxxxxxx")


#: To copy it is quicker than to make one.
_NEW = hashlib.md5(usedforsecurity=False)


def weight(md5sum: str, uuid: str) -> str:
    """Return the weight of a service for a block, as hexadecimal digits: the heaviest is first."""
    md5 = _NEW.copy()
    md5.update(f"{md5sum}{uuid[-15:]}".encode())
    return md5.hexdigest()


@dataclass(frozen=True, slots=True)
class Service:
    """A service as the list has it.

    ``root``: its URL, with a slash at the end. ``kind``: ``disk``, ``proxy``, ``gateway:…``.
    """

    uuid: str
    root: str
    kind: str = "disk"
    read_only: bool = False

    @property
    def is_gateway(self) -> bool:
        """Whether it has only the blocks whose locators name it."""
        return self.kind.startswith("gateway:")

    @property
    def copies(self) -> int | None:
        """How many copies of a block it can be asked for; None for any number."""
        return 1 if self.kind == "disk" else None


class Services:
    """The services of a cluster at one time."""

    def __init__(self, services: Iterable[Service]) -> None:
        self.all = tuple(services)
        self.by_uuid = {one.uuid: one for one in self.all}
        self.readable = tuple(one for one in self.all if not one.is_gateway)
        self.writable = tuple(one for one in self.readable if not one.read_only)

    def to_read(self, locator: KeepLocator) -> Sequence[Service]:
        """Return who is asked for a block, in order: first whom the locator names."""
        order = _by_weight(locator.md5sum, self.readable)
        hints = locator.hints
        if not hints:
            return order
        hinted = [self._hinted(hint) for hint in hints]
        return list(dict.fromkeys([*(one for one in hinted if one is not None), *order]))

    def to_write(self, md5sum: str) -> Sequence[Service]:
        """Return who is asked to store a block, in order."""
        return _by_weight(md5sum, self.writable)

    def _hinted(self, hint: str) -> Service | None:
        if not hint.startswith("K@"):
            return None
        if len(hint) == _CLUSTER:
            cluster = hint[2:].lower()
            # The name goes into a host name.
            if not cluster.isalnum():
                return None
            return Service(hint, _REMOTE.format(cluster), "proxy", read_only=True)
        return self.by_uuid.get(hint[2:]) if len(hint) == _UUID else None


def _by_weight(md5sum: str, services: tuple[Service, ...]) -> Sequence[Service]:
    if len(services) < 2:
        return services
    return sorted(services, key=lambda one: weight(md5sum, one.uuid), reverse=True)

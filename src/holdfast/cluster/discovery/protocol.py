"""What every discovery can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from holdfast.cluster.hosts import Host

if TYPE_CHECKING:
    from holdfast.ops import Program

__all__ = ["Answer", "Discovery"]

#: Hosts, and in how many seconds to ask again; infinity is never.
Answer: TypeAlias = tuple[list[Host], float]


class Discovery(Protocol):
    """Finds the hosts of a cluster."""

    def refresh(self) -> Program[Answer]:
        """Return the hosts as they are now, and the seconds until they should be asked for again.

        Raises OSError or ValueError when they cannot be had; the cluster then keeps those that it
        has, as it does when there is none at all, and asks again soon.
        """

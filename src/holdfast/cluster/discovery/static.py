"""Hosts that stay as they are."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from holdfast.cluster.hosts import Host, HostTypes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.cluster.discovery.protocol import Answer
    from holdfast.ops import Program

__all__ = ["Static"]


class Static:
    """A list of hosts."""

    def __init__(self, hosts: Iterable[HostTypes]) -> None:
        self.hosts = [Host.of(host) for host in ([hosts] if isinstance(hosts, str) else hosts)]

    def __repr__(self) -> str:
        return f"Static({self.hosts!r})"

    def refresh(self) -> Program[Answer]:
        """Return the list, once and for all."""
        yield from ()
        return self.hosts, inf

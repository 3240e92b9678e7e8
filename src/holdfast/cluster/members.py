"""Who is a member of a cluster, by which name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.cluster.hosts import shown
from holdfast.errors import NoEndpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.cluster.endpoint import Endpoint
    from holdfast.cluster.hosts import Host

__all__ = ["Members"]


class Members:
    """The endpoints by their hosts' addresses, and the addresses by what the endpoints are.

    Two addresses may say the same in other words, such as ``"name:80"`` and ``"http://name"``.
    """

    __slots__ = ("_addresses", "endpoints")

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self._addresses: dict[str, str] = {}

    def planned(
        self, wanted: Sequence[Host], make: Callable[[Host], Endpoint]
    ) -> tuple[Members, list[Endpoint]]:
        """Return the members that these hosts are, and those of them that had to be made.

        Raises NoEndpointError when a host is named twice.
        """
        named = {host.address for host in wanted}
        planned = Members()
        addresses = planned._addresses = dict(self._addresses)
        added: list[Endpoint] = []
        for host in wanted:
            address = host.address
            endpoint = self.endpoints.get(address)
            twice = address in planned.endpoints
            if endpoint is None and not twice:
                endpoint = make(host)
                other = addresses.get(endpoint.identity)
                twice = other in named
                if other is None:
                    added.append(endpoint)
                elif not twice:  # it stays, under another name
                    endpoint = self.endpoints[other]
                addresses[endpoint.identity] = address
            if twice or endpoint is None:
                raise NoEndpointError(f"the host {shown(address)!r} is named twice")
            planned.endpoints[address] = endpoint
        return planned, added

    def forget(self, gone: Iterable[Endpoint]) -> None:
        """Forget the addresses of endpoints that are no members any more."""
        for endpoint in gone:
            if self._addresses.get(endpoint.identity) not in self.endpoints:
                self._addresses.pop(endpoint.identity, None)

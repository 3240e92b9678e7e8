"""The hosts of a cluster, as its user or discovery names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from holdfast.errors import InvalidRequest

__all__ = ["Host", "HostTypes", "shown"]

_NUMBERS = (float, int)

#: The bound of weights, so that sums and shares of them are still exact enough.
_WEIGHTIEST = 1e9


@dataclass(frozen=True, slots=True, repr=False)
class Host:
    """One host: where it is, and its share of the calls.

    ``address``: as `Cluster` takes it, such as ``"name:port"`` or ``"https://name/base"``.
    ``weight``: its share beside the weights of the others, from 1e-9 to 1e9, for balancers that
    have weights.
    ``priority``: the group that it is in, 0 before 1, for balancers that have priorities.
    """

    address: str
    weight: float = 1.0
    priority: int = 0

    def __post_init__(self) -> None:
        # By type, which is quick: there may be thousands at each refresh.
        address, weight, priority = self.address, self.weight, self.priority
        if not address or not isinstance(address, str):
            rule = "must be a string such as 'name:port'"
            raise InvalidRequest(f"Host: address {rule}, not {address!r}")
        if type(weight) not in _NUMBERS or not 1 / _WEIGHTIEST <= weight <= _WEIGHTIEST:
            bounds = f"from {1 / _WEIGHTIEST:g} to {_WEIGHTIEST:g}"
            raise ValueError(f"Host: weight must be {bounds}, not {weight!r}")
        if type(priority) is not int or priority < 0:
            raise ValueError(f"Host: priority must be a whole number from 0, not {priority!r}")

    def __repr__(self) -> str:
        more = f", weight={self.weight:g}" if self.weight != 1 else ""
        more += f", priority={self.priority}" if self.priority else ""
        return f"Host({shown(self.address)!r}{more})"

    @classmethod
    def of(cls, value: HostTypes) -> Host:
        """Return the host that a string, a mapping of the fields or a host is.

        Raises ValueError, which names the field, for anything else.
        """
        given: Any = value  # whatever a file or a function came up with
        if isinstance(given, str):
            return cls(given)
        if isinstance(given, Host):
            return given
        if not isinstance(given, Mapping):
            return cls(given)
        unknown = [str(key) for key in given if key not in cls.__slots__]
        if unknown:
            known = ", ".join(cls.__slots__)
            raise ValueError(f"Host: {', '.join(unknown)}: there is only {known}")
        if "address" not in given:
            raise ValueError("Host: address is missing")
        return cls(**given)


#: What is taken for a host.
HostTypes: TypeAlias = str | Mapping[str, Any] | Host


def shown(address: str) -> str:
    """Return an address as messages name it: as the user wrote it, without credentials."""
    scheme, mark, rest = address.partition("://")
    if not mark or not scheme.replace("+", "").isalnum():
        scheme, mark, rest = "", "", address
    authority, slash, path = rest.partition("/")
    authority = authority.rpartition("@")[2]
    port = authority.rpartition("]")[2].partition(":")[2]
    if "@" in path and port and not port.isdecimal() and not address.startswith("unix:"):
        # No port, but a password with a slash in it: the address is none, and shown all the same.
        authority, slash, path = rest.rpartition("@")[2], "", ""
    return scheme + mark + authority + slash + path

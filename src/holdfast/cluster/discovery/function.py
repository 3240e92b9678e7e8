"""Hosts that a function of the user's returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import iscoroutine
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.cluster.hosts import Host, HostTypes
from holdfast.policy.checks import positive, wrong

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.cluster.discovery.protocol import Answer
    from holdfast.ops import Program

__all__ = ["Function"]


class Function:
    """A function that returns the hosts, called every ``interval`` seconds.

    It is called in a thread of its own, which it may block: to ask a registry, for instance.
    """

    def __init__(self, function: Callable[[], Iterable[HostTypes]], interval: float = 30.0) -> None:
        self.function = function
        self.interval = interval
        if not callable(function):
            raise wrong(self, "function", "must be a function", function)
        positive(self, "interval")

    def __repr__(self) -> str:
        # Of what has no name, such as a partial, not what it is made of: that may be secret.
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"Function({name}, interval={self.interval:g})"

    def refresh(self) -> Program[Answer]:
        """Return what the function returns; raises what it raises, and ValueError for no hosts."""
        hosts = yield ops.Invoke(self.function)
        if iscoroutine(hosts):
            hosts.close()
            raise ValueError(f"{self!r}: a coroutine function cannot be called in a thread")
        if isinstance(hosts, str):
            hosts = [hosts]
        if not isinstance(hosts, Iterable) or isinstance(hosts, (bytes, Mapping)):
            kind = type(hosts).__name__
            raise ValueError(f"{self!r} must return a list of hosts, not one {kind}")
        return [Host.of(host) for host in hosts], self.interval

"""The simulated network: how long bytes are underway, and what keeps them from arriving.

Connections are TCP: what is lost is sent again, so a loss is a delay, and a partition is silence
until it heals or the connection is given up. Everything may change at any time.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.drivers.simulated_pipes import FIRST_RETRY
from holdfast.simulation.distributions import Constant, Seconds, distribution

if TYPE_CHECKING:
    import random as random_module
    from collections.abc import Iterable, Mapping

    from holdfast.drivers.simulated import World

__all__ = ["Network"]

#: No packet is lost more often in a row; what is lost longer is a partition.
_LOST_AT_MOST = 10


class Network:
    """What lies between clients and hosts; made for one world, which then goes through it.

    ``latency``: of one way, seconds or a distribution. ``loss``: the share of what is sent that is
    lost, and sent again. ``bandwidth``: bytes a second of each direction of each connection,
    infinite by default.

    Hosts are named by their addresses, clients by their source: ``client`` unless they say
    otherwise.
    """

    def __init__(
        self,
        world: World,
        latency: Seconds | Mapping[str, Any] = 0.0,
        *,
        loss: float = 0.0,
        bandwidth: float = inf,
    ) -> None:
        self._random: random_module.Random = world.randomness("network")
        self._latency = distribution(latency)
        self._always = 0.0
        self._links: dict[str, Any] = {}
        self._factors: dict[str, float] = {}
        self._losses: dict[str, float] = {}
        self._refusing: set[str] = set()
        self._partitions: list[tuple[frozenset[str], frozenset[str] | None]] = []
        self.bandwidth = _positive("bandwidth", bandwidth)
        self.loss = loss
        world.network = self

    def __repr__(self) -> str:
        return f"<Network {self._latency!r}, {len(self._partitions)} partitions>"

    @property
    def latency(self) -> Any:
        """How long one way takes, where nothing else was said: a distribution."""
        return self._latency

    @latency.setter
    def latency(self, value: Seconds | Mapping[str, Any]) -> None:
        self._latency = distribution(value)
        self._look()

    @property
    def loss(self) -> float:
        """The share of what is sent that is lost, where nothing else was said."""
        return self._loss

    @loss.setter
    def loss(self, value: float) -> None:
        self._loss = _share("loss", value)
        self._look()

    def link(self, name: str, latency: Seconds | Mapping[str, Any] | None) -> None:
        """Set the latency to and from a host or client; None gives it the network's again."""
        if latency is None:
            self._links.pop(name, None)
        else:
            self._links[name] = distribution(latency)
        self._look()

    def slow(self, name: str, factor: float) -> None:
        """Have everything to and from a host or client take so many times as long; 1 ends it."""
        self._factors.pop(name, None)
        if _positive("factor", factor) != 1:
            self._factors[name] = factor
        self._look()

    def lose(self, name: str, share: float) -> None:
        """Have a share of what goes to and from a host or client be lost; 0 ends it."""
        self._losses.pop(name, None)
        if _share("share", share):
            self._losses[name] = share
        self._look()

    def refuse(self, name: str) -> None:
        """Refuse connections to a host, as a firewall does."""
        self._refusing.add(name)

    def allow(self, name: str) -> None:
        """Refuse connections to a host no longer."""
        self._refusing.discard(name)

    def partition(self, one: Iterable[str], other: Iterable[str] | None = None) -> Any:
        """Cut a set of names off from another one, or from all that are not in it.

        Between them there is silence. Returns what `heal` takes.
        """
        cut = (frozenset(one), frozenset(other) if other is not None else None)
        self._partitions.append(cut)
        self._look()
        return cut

    def heal(self, cut: Any = None) -> None:
        """End a partition, or all of them; what was sent meanwhile arrives when it is repeated."""
        if cut is None:
            self._partitions.clear()
        elif cut in self._partitions:
            self._partitions.remove(cut)
        self._look()

    # What the world asks.

    def delay(self, source: str, target: str, size: int = 0, again: float = FIRST_RETRY) -> float:
        """Return after how many seconds bytes arrive; infinity when they are cut off.

        ``again``: after how many seconds they are sent again when they are lost once.
        """
        if self._plain:
            latency = self._always
            if latency < 0.0:
                latency = self._latency.sample(self._random.random)
            return latency
        if self._cut(source, target):
            return inf
        links = self._links
        of = links.get(target) or links.get(source) or self._latency
        seconds: float = of.sample(self._random.random)
        factors = self._factors
        seconds *= factors.get(target, 1.0) * factors.get(source, 1.0)
        arrives = 1.0 - self._loss
        for name in (target, source):
            arrives *= 1.0 - self._losses.get(name, 0.0)
        if arrives < 1.0:
            wait = again
            for _ in range(_LOST_AT_MOST):
                if self._random.random() < arrives:
                    break
                seconds += wait
                wait *= 2
        return seconds

    def refuses(self, source: str, target: str) -> bool:
        """Tell whether a connection is refused."""
        return target in self._refusing

    def _cut(self, source: str, target: str) -> bool:
        for one, other in self._partitions:
            if other is None:
                if (source in one) != (target in one):
                    return True
            elif (source in one and target in other) or (source in other and target in one):
                return True
        return False

    def _look(self) -> None:
        """Note whether every way is like every other, which is quickly told."""
        self._plain = not (
            self._links or self._factors or self._losses or self._loss or self._partitions
        )
        constant = isinstance(self._latency, Constant)
        self._always = self._latency.sample(self._random.random) if constant else -1.0


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a share from 0 to 1, not {value!r}")
    return value


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
    return value

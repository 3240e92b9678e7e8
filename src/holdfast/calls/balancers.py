"""Load balancers: which netloc an attempt goes to."""

from __future__ import annotations

import random as random_module
import re
import threading
from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

from holdfast import ops
from holdfast.cluster.clients import AsyncCluster, Cluster
from holdfast.errors import HoldfastError, NoEndpointError
from holdfast.http.origins import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from holdfast.cluster.core import ClusterCore
    from holdfast.cluster.endpoints import Endpoint

__all__ = ["LeastLoaded", "LoadBalancer", "Misuse", "Place", "RoundRobin", "balancer_of", "checked"]

#: A protocol and a netloc, such as ``("http", "name:8000")``.
Place: TypeAlias = tuple[str, str]


_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class Misuse(TypeError):
    """The decorator was given something that it cannot work with, and says what to do."""


class LoadBalancer(ABC):
    """Chooses netlocs, and is told what becomes of them; shared by as many functions as you like.

    As a function it returns a ``(protocol, netloc)`` pair. Safe among threads.
    """

    def __call__(self) -> Place:
        """Return the next place."""
        place = self.choose(())
        self.declined(place)  # what becomes of it, nobody will tell
        return place

    @abstractmethod
    def choose(self, avoid: Collection[Place]) -> Place:
        """Return the next place, one of those to be avoided only when there is no other."""

    def find(self, deadline: float) -> ops.Program[bool]:
        """Wait for places where none is known yet; tell whether that was of use."""
        yield from ()
        return False

    def declined(self, place: Place) -> None:  # noqa: B027  most need not know
        """Take note that a place which it chose gets no attempt: its circuit is open, perhaps."""

    def began(self, place: Place) -> None:  # noqa: B027  most need not know
        """Take note of an attempt at a place, which it chose or which was tried before."""

    def ended(self, place: Place) -> None:  # noqa: B027  most need not know
        """Take note of its end."""


class RoundRobin(LoadBalancer):
    """One place after the other.

    ``hosts``: strings such as ``"name:port"`` or ``"https://name"``, or pairs.
    """

    def __init__(self, hosts: Iterable[str | Place]) -> None:
        self._places = _places(hosts)
        self._next = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RoundRobin {len(self._places)} places>"

    def choose(self, avoid: Collection[Place]) -> Place:
        """Return the next place."""
        places = self._places
        with self._lock:
            first = self._next
            for step in range(len(places)):
                at = (first + step) % len(places)
                if places[at] not in avoid:
                    break
            else:
                at = first
            self._next = (at + 1) % len(places)
        return places[at]


class LeastLoaded(LoadBalancer):
    """The place with the fewest attempts in progress, of all functions that share this balancer.

    ``hosts`` as in `RoundRobin`; ``random`` returns numbers from 0 to 1, for a start anywhere
    among equals.
    """

    def __init__(
        self, hosts: Iterable[str | Place], *, random: Callable[[], float] = random_module.random
    ) -> None:
        self._places = _places(hosts)
        self._loads: Counter[Place] = Counter()
        self._chosen: Counter[Place] = Counter()  # among the loads, and not begun yet
        self._random = random
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<LeastLoaded {len(self._places)} places>"

    def choose(self, avoid: Collection[Place]) -> Place:
        """Return the place with the least load, which counts from now on."""
        places = self._places
        first = int(self._random() * len(places))
        turned = places[first:] + places[:first]
        among = [place for place in turned if place not in avoid] or turned
        with self._lock:
            place = min(among, key=self._loads.__getitem__)
            # At once, or threads that choose at the same time would all choose the same one.
            self._loads[place] += 1
            self._chosen[place] += 1
        return place

    def declined(self, place: Place) -> None:
        """Count it no more."""
        with self._lock:
            if self._chosen[place]:
                self._chosen[place] -= 1
                self._loads[place] -= 1

    def began(self, place: Place) -> None:
        """Count an attempt, unless it counts since the place was chosen."""
        with self._lock:
            if self._chosen[place]:
                self._chosen[place] -= 1
            else:
                self._loads[place] += 1

    def ended(self, place: Place) -> None:
        """Count it no more."""
        with self._lock:
            self._loads[place] -= 1


class ClusterBalancer(LoadBalancer):
    """The hosts of a cluster, by its balancer, discovery and knowledge of who is well.

    Attempts count as load of its hosts; the verdicts on them stay with the function's circuits.
    """

    def __init__(self, core: ClusterCore) -> None:
        self._core = core
        self._endpoints: dict[Place, Endpoint] = {}
        self._held: dict[Place, list[Endpoint]] = {}
        self._lock = threading.Lock()

    def choose(self, avoid: Collection[Place]) -> Place:
        """Return a host of the cluster's choice."""
        core = self._core
        now = core.clock()
        every = core.endpoints.all
        avoided = [endpoint for endpoint in every if _place_of(endpoint) in avoid]
        # A key of its own each time, for balancers that go by keys: calls have none here.
        endpoint, permit = core.choose(now, avoided, None, str(core.random()))
        core.endpoints.record(endpoint, permit, None, now)  # which was only asked for its name
        place = _place_of(endpoint)
        if place in avoid:  # a balancer by key may think of nobody else
            others = [one for one in every if one not in avoided and one in core.endpoints.ready]
            if others:
                endpoint = others[int(core.random() * len(others))]
                place = _place_of(endpoint)
        with self._lock:
            if len(self._endpoints) > 2 * len(every):  # many have come and gone
                self._endpoints = {_place_of(one): one for one in every}
            self._endpoints[place] = endpoint
        return place

    def find(self, deadline: float) -> ops.Program[bool]:
        """Wait until the cluster's discovery has found hosts."""
        return self._core.find_hosts(deadline)

    def began(self, place: Place) -> None:
        """Take a slot of the host, where one is free: its load is known by them."""
        endpoint = self._endpoints.get(place)
        if endpoint is not None and endpoint.try_acquire():
            with self._lock:
                self._held.setdefault(place, []).append(endpoint)

    def ended(self, place: Place) -> None:
        """Give it back."""
        with self._lock:
            held = self._held.get(place)
            endpoint = held.pop() if held else None
            if not held:
                self._held.pop(place, None)
        if endpoint is not None:  # by itself: its host may have gone and come back meanwhile
            endpoint.release()


class FunctionBalancer(LoadBalancer):
    """A function of the user's, which is asked again for another place."""

    #: How often it is asked, in the hope for a place that is not to be avoided.
    ASKS = 32

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def choose(self, avoid: Collection[Place]) -> Place:
        """Ask the function, until it names another place than those to be avoided."""
        place = checked(self._function())
        if place in avoid:
            for _ in range(max(self.ASKS, 4 * len(avoid))):
                other = checked(self._function())
                if other not in avoid:
                    return other
        return place


def balancer_of(given: Any) -> LoadBalancer | None:
    """Return the load balancer that a user's argument means; raises `Misuse` for what is none."""
    if given is None or isinstance(given, LoadBalancer):
        return given
    if isinstance(given, (Cluster, AsyncCluster)):
        return ClusterBalancer(given._core)
    if callable(given):
        return FunctionBalancer(given)
    raise Misuse(
        "load_balancer must be a function that returns a (protocol, netloc) pair, a RoundRobin, "
        f"a LeastLoaded or a Cluster, not {_shown(given)}"
    )


def checked(place: Any) -> Place:
    """Return what a load balancer returned; raises `Misuse` unless it is a pair of strings."""
    if isinstance(place, tuple | list) and len(place) == 2:
        protocol, netloc = place
        if isinstance(protocol, str) and isinstance(netloc, str) and netloc:
            if _PROTOCOL.fullmatch(protocol) and "://" not in netloc:
                return protocol, netloc
            raise Misuse(
                "load_balancer must return a protocol without '://', and a netloc without one: a "
                "pair of strings such as ('http', 'name:8000')"
            )
    if hasattr(place, "close") and hasattr(place, "send"):
        place.close()  # a coroutine, of which nobody will hear
    raise Misuse(
        "load_balancer must return a pair of strings such as ('http', 'name:8000'), "
        f"not {_shown(place)}"
    )


def _shown(place: Any) -> str:
    # Not the value of a string: it may be a URL with a password.
    return type(place).__name__ if isinstance(place, str | bytes | tuple | list) else repr(place)


def _places(hosts: Iterable[str | Place]) -> list[Place]:
    if isinstance(hosts, str):
        hosts = [hosts]
    places = [_place(host) if isinstance(host, str) else checked(host) for host in hosts]
    if not places:
        raise NoEndpointError("a load balancer needs at least one host")
    return places


def _place(host: str) -> Place:
    try:
        Origin.parse(host)
    except HoldfastError as error:
        raise ValueError(f"load balancer: {error}") from None
    protocol, mark, netloc = host.partition("://")
    return (protocol, netloc.rstrip("/")) if mark else ("http", host.rstrip("/"))


def _place_of(endpoint: Endpoint) -> Place:
    protocol, _, netloc = endpoint.pool.origin.url.partition("://")
    return protocol, netloc

"""What a balancer is.

Theory of operation. A balancer picks one of the endpoints that are ready, a tuple that is replaced
whenever one of them comes or goes, and never changed: as long as it is the same object, it holds
the same endpoints. A list is for one pick, such as that of a retry, which leaves out who was tried
already; nothing of it is kept. Some balancers need to know those that are not ready, too, so that
a key keeps its endpoint while another one is out for a moment. They have the method ``members``,
which is called before the first pick, and when the members have changed. Such a balancer belongs
to one cluster; so does one that takes turns.

A pick takes no lock, or a short one. What is derived from the members or from those that are ready
is made anew and put in the place of the old with one assignment, so that other threads see either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cluster.endpoints import Endpoint

__all__ = ["Balancer", "Chance", "KnowsMembers", "Unobserving", "introduce", "is_keyed"]

#: Returns numbers from 0 to 1, without 1.
Chance: TypeAlias = Callable[[], float]


class Balancer(Protocol):
    """Chooses among endpoints; shared by threads."""

    #: Whether `observe` is to be called with latencies.
    observes: bool

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return one of ``ready``, which is not empty.

        The same ``key`` gets the same endpoint from those balancers that are for that.
        """

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Take note of how long an answer took."""


@runtime_checkable
class KnowsMembers(Protocol):
    """A balancer that needs to know all endpoints, ready or not."""

    def members(self, every: Sequence[Endpoint], version: int) -> None:
        """Take note of who there is; ``version`` grows when that changes."""


class Unobserving:
    """The base of balancers that are not interested in latencies."""

    observes = False

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Need no latencies."""


def introduce(balancer: Balancer, every: Sequence[Endpoint], version: int) -> None:
    """Tell a balancer who there is, if it needs to know."""
    if isinstance(balancer, KnowsMembers):
        balancer.members(every, version)


def is_keyed(balancer: Balancer) -> bool:
    """Tell whether a balancer sends the same key to the same endpoint."""
    return bool(getattr(balancer, "keyed", False))

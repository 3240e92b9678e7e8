"""Events as metrics of statsd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from holdfast.telemetry.datagrams import UDP
from holdfast.telemetry.lines import clean
from holdfast.telemetry.outcomes import outcome_of

if TYPE_CHECKING:
    from holdfast.policy.events import Event, Kind

__all__ = ["UDP", "Statsd", "StatsdClient"]


class StatsdClient(Protocol):
    """What sends metrics: `UDP`, the client of the package ``statsd``, or the like."""

    def incr(self, name: str, /) -> Any:
        """Count one."""

    def timing(self, name: str, milliseconds: float, /) -> Any:
        """Record how long something took."""

    def gauge(self, name: str, value: float, /) -> Any:
        """Set a value."""


_COUNTED: dict[Kind, str] = {
    "retried": "retry",
    "rejected": "rejected",
    "circuit opened": "circuit.open",
    "circuit closed": "circuit.close",
}


class Statsd:
    """A listener that counts and times calls at a statsd client.

    ``prefix``, the name of what is called, stands before every name. Each call counts as one of
    ``success``, ``failure`` and ``timeout`` at its end, and its time as ``duration``: a call that
    was rejected failed, one that ``fallback`` counts did so before, a cancelled one is not counted.
    ``retry`` and ``rejected`` count decisions; ``circuit.open`` and ``circuit.close`` changes of
    circuits. The gauge ``limit`` is there for a limit that adapts, that of the whole cluster or
    of a function. One for each cluster or function.
    """

    def __init__(self, client: StatsdClient, prefix: str = "") -> None:
        for method in ("incr", "timing", "gauge"):
            if not callable(getattr(client, method, None)):
                raise TypeError(
                    f"Statsd: the client must have the methods incr, timing and gauge, as has the "
                    f"one of the package statsd or holdfast.telemetry.UDP, not {client!r}"
                )
        self.client = client
        self.prefix = clean(prefix).strip(".")
        self._dot = f"{self.prefix}." if self.prefix else ""
        self._fallen: set[int] = set()  # calls that have fallen back, and are not over yet

    def __repr__(self) -> str:
        return f"<Statsd {self.prefix}>"

    def __call__(self, event: Event) -> None:
        """Send what an event is worth."""
        kind = event.kind
        name = _COUNTED.get(kind)
        if name is not None:
            self.client.incr(self._dot + name)
        elif kind in ("call succeeded", "call failed"):
            self._ended(event)
        elif kind == "fell back":
            if event.call:
                self._fallen.add(event.call)
            self._count(event)
            self.client.incr(self._dot + "fallback")
        elif kind == "limit changed" and isinstance(event.cause, int | float):
            self.client.gauge(self._dot + "limit", event.cause)

    def _ended(self, event: Event) -> None:
        if event.call in self._fallen:  # its failure was counted
            self._fallen.discard(event.call)
        elif not self._count(event):
            return
        self.client.timing(self._dot + "duration", event.seconds * 1000)

    def _count(self, event: Event) -> bool:
        """Count a call as what it was; False for one that was cancelled."""
        outcome = outcome_of(event)
        if outcome == "cancelled":
            return False
        self.client.incr(self._dot + ("failure" if outcome == "rejected" else outcome))
        return True

"""Events as metrics of statsd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from holdfast.policy.checks import at_least
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
    of a function; those of endpoints are ``limit.<endpoint>``, of ``max_endpoints`` at most. One
    for each cluster or function.

    A call of ``stream`` counts when the head of its answer is there, with the time until then:
    what becomes of the body is not counted.
    """

    def __init__(self, client: StatsdClient, prefix: str = "", *, max_endpoints: int = 100) -> None:
        for method in ("incr", "timing", "gauge"):
            if not callable(getattr(client, method, None)):
                raise TypeError(
                    f"Statsd: the client must have the methods incr, timing and gauge, as has the "
                    f"one of the package statsd or holdfast.telemetry.UDP, not {client!r}"
                )
        self.client = client
        self.prefix = clean(prefix).strip(".")
        self._dot = f"{self.prefix}." if self.prefix else ""
        self.max_endpoints = max_endpoints
        at_least(self, 0, "max_endpoints")
        self._function = ""  # the name of the one that is called, if it is one
        self._limited: set[str] = set()  # endpoints with a gauge of their own
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
        elif kind == "call started" and isinstance(event.cause, str):
            self._function = event.cause
        elif kind == "limit changed" and isinstance(event.cause, int | float):
            self._set_limit(event.endpoint, event.cause)
        elif kind == "removed":
            self._limited.discard(event.endpoint)

    def _set_limit(self, endpoint: str, limit: float) -> None:
        name = "limit"
        if endpoint and endpoint != self._function:
            if endpoint not in self._limited:
                if len(self._limited) >= self.max_endpoints:
                    return
                self._limited.add(endpoint)
            name = f"limit.{clean(endpoint).replace('.', '_')}"
        self.client.gauge(self._dot + name, limit)

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

"""How the events of one cluster are counted for Prometheus."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from holdfast.telemetry.outcomes import error_of, is_cancellation, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Gauge

    from holdfast.policy.events import Event, Kind
    from holdfast.telemetry.prometheus import Prometheus

__all__ = ["OTHER", "ClusterMetrics"]

#: The label of all endpoints beyond the bound, and of those that were removed.
OTHER = "other"

#: What the gauge of a circuit shows.
STATES: dict[Kind, int] = {"circuit closed": 0, "circuit half-opened": 1, "circuit opened": 2}

_MOST_REMOVED = 1000

_log = logging.getLogger("holdfast")


class ClusterMetrics:
    """A listener that counts the events of one cluster."""

    def __init__(self, metrics: Prometheus, name: str) -> None:
        self.name = name
        self._metrics = metrics
        # One event at a time: what is counted and what is remembered belong together. Reentrant,
        # as the garbage collector may end a call that was left alone, at any place.
        self._lock = threading.RLock()
        _ALL[id(self)] = self
        self._known: set[str] = {""}  # endpoints with a label of their own
        self._removed: dict[str, None] = {}  # the latest first to be forgotten: a set in order
        self._calls: set[int] = set()  # in progress
        self._fallen: set[int] = set()  # of those, which have fallen back
        self._attempts: dict[tuple[int, int], str] = {}  # in progress, with the label they have
        self._shared = False  # whether several clusters have been told of
        self._handlers: dict[Kind, Callable[[Event], None]] = {
            "call started": self._call_started,
            "call succeeded": self._call_ended,
            "call failed": self._call_ended,
            "attempt started": self._attempt_started,
            "attempt succeeded": self._attempt_ended,
            "attempt failed": self._attempt_ended,
            "retried": self._retried,
            "hedged": self._hedged,
            "rejected": self._rejected,
            "fell back": self._fell_back,
            "coalesced": self._coalesced,
            "fault injected": self._fault_injected,
            "ejected": self._ejected,
            "returned": self._returned,
            "added": self._added,
            "removed": self._forget,
            "circuit opened": self._circuit,
            "circuit half-opened": self._circuit,
            "circuit closed": self._circuit,
            "limit changed": self._limit,
        }

    def __repr__(self) -> str:
        return f"<ClusterMetrics {self.name!r}>"

    def __call__(self, event: Event) -> None:
        """Count an event."""
        handler = self._handlers.get(event.kind)
        if handler is not None:
            with self._lock:
                handler(event)

    def _label(self, endpoint: str) -> str:
        if endpoint in self._known:
            return endpoint
        # Less the empty one, which stands for the cluster. What comes late of one that is gone
        # must not bring its series back.
        if endpoint in self._removed or len(self._known) > self._metrics.max_endpoints:
            return OTHER
        self._known.add(endpoint)
        return endpoint

    # Calls.

    def _call_started(self, event: Event) -> None:
        if event.call in self._calls:
            # What is in flight could not be told any more.
            if not self._shared:
                self._shared = True
                _log.warning(
                    "one listener of Prometheus listens to two clusters: each one needs its own, "
                    "by Prometheus.cluster"
                )
            return
        self._calls.add(event.call)
        self._metrics.calls_in_flight.labels(self.name).inc()

    def _call_ended(self, event: Event) -> None:
        if event.call in self._calls:  # it may have begun before anybody listened
            self._calls.discard(event.call)
            self._metrics.calls_in_flight.labels(self.name).dec()
        fallen = event.call in self._fallen
        self._fallen.discard(event.call)
        outcome = "fallback" if fallen and event.kind == "call succeeded" else outcome_of(event)
        self._metrics.calls.labels(self.name, outcome).inc()
        if outcome != "cancelled":
            self._metrics.call_seconds.labels(self.name).observe(event.seconds)

    def _fell_back(self, event: Event) -> None:
        if event.call:
            self._fallen.add(event.call)
        self._metrics.fallbacks.labels(self.name).inc()

    def _coalesced(self, event: Event) -> None:
        self._metrics.coalesced.labels(self.name).inc()

    # Attempts.

    def _attempt_started(self, event: Event) -> None:
        if event.call:
            label = self._label(event.endpoint)
            key = event.call, event.attempt
            other = self._attempts.get(key)
            if other is not None:  # of another cluster, see above
                self._metrics.in_flight.labels(self.name, other).dec()
            self._attempts[key] = label
            self._metrics.in_flight.labels(self.name, label).inc()

    def _attempt_ended(self, event: Event) -> None:
        metrics = self._metrics
        started = self._attempts.pop((event.call, event.attempt), None)
        if started is not None:
            metrics.in_flight.labels(self.name, started).dec()
        label = started if started is not None else self._label(event.endpoint)
        metrics.attempts.labels(self.name, label, outcome_of(event)).inc()
        error = error_of(event)
        # How long one took that was never sent, or that nobody waited for, says nothing of it.
        if started is not None and not (error is not None and is_cancellation(error)):
            metrics.attempt_seconds.labels(self.name, label).observe(event.seconds)

    def _retried(self, event: Event) -> None:
        self._metrics.retries.labels(self.name, self._label(event.endpoint)).inc()

    def _hedged(self, event: Event) -> None:
        self._metrics.hedges.labels(self.name, self._label(event.endpoint)).inc()

    def _rejected(self, event: Event) -> None:
        label = self._label(event.endpoint)
        self._metrics.rejections.labels(self.name, label, event.policy).inc()

    def _fault_injected(self, event: Event) -> None:
        self._metrics.faults.labels(self.name, self._label(event.endpoint)).inc()

    # Endpoints.

    def _added(self, event: Event) -> None:
        self._removed.pop(event.endpoint, None)

    def _forget(self, event: Event) -> None:
        gone = event.endpoint
        self._removed[gone] = None
        if len(self._removed) > _MOST_REMOVED:
            del self._removed[next(iter(self._removed))]
        if gone not in self._known:
            return
        self._known.discard(gone)
        for key, label in list(self._attempts.items()):
            if label == gone:  # it is drained, not cut off
                self._attempts[key] = OTHER
                self._metrics.in_flight.labels(self.name, OTHER).inc()
        # prometheus_client cannot remove anything while several processes share their metrics.
        if not {"PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"} & os.environ.keys():
            for metric in self._metrics.of_endpoints():
                metric.remove_by_labels({"cluster": self.name, "endpoint": gone})

    def _ejected(self, event: Event) -> None:
        label = self._label(event.endpoint)
        self._metrics.ejections.labels(self.name, label).inc()
        self._set(self._metrics.ejected, label, 1)

    def _returned(self, event: Event) -> None:
        self._set(self._metrics.ejected, self._label(event.endpoint), 0)

    def _circuit(self, event: Event) -> None:
        label = self._label(event.endpoint)
        state = event.kind.removeprefix("circuit ").replace("opened", "open")
        self._metrics.circuit_changes.labels(self.name, label, state).inc()
        self._set(self._metrics.circuit, label, STATES[event.kind])

    def _limit(self, event: Event) -> None:
        self._set(self._metrics.limit, self._label(event.endpoint), event.cause)

    def _set(self, gauge: Gauge, label: str, value: float) -> None:
        if label != OTHER:  # those have no state in common
            gauge.labels(self.name, label).set(value)


# No fork while an event is counted in another thread: the child would have it by half, and locks,
# those of prometheus_client among them, that nobody opens.

_ALL: WeakValueDictionary[int, ClusterMetrics] = WeakValueDictionary()
_held: list[ClusterMetrics] = []


def _before_fork() -> None:
    for reference in _ALL.valuerefs():
        metrics = reference()
        if metrics is not None:
            metrics._lock.acquire()
            _held.append(metrics)


def _after_fork() -> None:
    while _held:
        _held.pop()._lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )

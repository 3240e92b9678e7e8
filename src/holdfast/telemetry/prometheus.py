"""Events as metrics of Prometheus, by prometheus_client (the extra ``prometheus``)."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from holdfast.policy.checks import at_least
from holdfast.telemetry.outcomes import error_of, is_cancellation, outcome_of

try:
    from prometheus_client import REGISTRY, Counter, Gauge, Histogram
except ImportError:
    raise ImportError(
        "metrics for Prometheus need prometheus_client: install holdfast[prometheus]",
        name="prometheus_client",
    ) from None

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client import CollectorRegistry

    from holdfast.policy.events import Event, Kind

__all__ = ["OTHER", "ClusterMetrics", "Prometheus"]

#: The label of all endpoints beyond the bound, and of those that were removed.
OTHER = "other"

#: Seconds; finer below than the default of prometheus_client, as calls within a network are short.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: What the gauge of a circuit shows.
STATES: dict[Kind, int] = {"circuit closed": 0, "circuit half-opened": 1, "circuit opened": 2}

_MOST_REMOVED = 1000


class Prometheus:
    """The metrics of clusters, in a registry; it is a listener itself, for a program's only one.

    With several clusters each one gets a listener from `cluster`, with its name as the label
    ``cluster``. ``max_endpoints``: how many endpoints of a cluster have a label of their own; the
    others share ``"other"``, and have no gauges of their state. ``buckets``: of the histograms, in
    seconds. An endpoint that is removed loses its series. One for each registry and namespace.

    The outcomes of calls and attempts are success, failure, timeout, rejected and cancelled, and
    fallback for a call that has failed and was answered all the same.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        namespace: str = "holdfast",
        max_endpoints: int = 100,
        *,
        buckets: Sequence[float] = BUCKETS,
    ) -> None:
        self.max_endpoints = max_endpoints
        at_least(self, 0, "max_endpoints")
        call, place = ("cluster",), ("cluster", "endpoint")

        def made(
            kind: type[Any], name: str, text: str, labels: tuple[str, ...], **more: Any
        ) -> Any:
            return kind(name, text, labels, namespace=namespace, registry=registry, **more)

        # In several processes, the gauges of those that live are what counts.
        total: dict[str, Any] = {"multiprocess_mode": "livesum"}
        latest: dict[str, Any] = {"multiprocess_mode": "livemostrecent"}
        timed: dict[str, Any] = {"buckets": buckets}
        self.calls: Counter = made(Counter, "calls", "Calls that are over.", (*call, "outcome"))
        self.call_seconds: Histogram = made(
            Histogram, "call_duration_seconds", "How long calls took.", call, **timed
        )
        self.calls_in_flight: Gauge = made(
            Gauge, "calls_in_flight", "Calls in progress.", call, **total
        )
        self.fallbacks: Counter = made(
            Counter, "fallbacks", "Calls that were answered by their fallback.", call
        )
        self.coalesced: Counter = made(
            Counter, "coalesced", "Calls that got the answer to an identical one.", call
        )
        self.attempts: Counter = made(
            Counter, "attempts", "Attempts that are over.", (*place, "outcome")
        )
        self.attempt_seconds: Histogram = made(
            Histogram,
            "attempt_duration_seconds",
            "How long attempts took that were sent, with their wait for a slot.",
            place,
            **timed,
        )
        self.in_flight: Gauge = made(
            Gauge, "attempts_in_flight", "Attempts in progress.", place, **total
        )
        self.retries: Counter = made(
            Counter, "retries", "Attempts that were followed by another one.", place
        )
        self.hedges: Counter = made(
            Counter, "hedges", "Attempts beside which another one was made.", place
        )
        self.rejections: Counter = made(
            Counter, "rejections", "Attempts that a policy did not let go.", (*place, "policy")
        )
        self.faults: Counter = made(Counter, "faults_injected", "Faults that were injected.", place)
        self.ejections: Counter = made(
            Counter, "ejections", "How often endpoints were ejected.", place
        )
        self.ejected: Gauge = made(
            Gauge, "ejected", "Whether an endpoint is ejected.", place, **latest
        )
        self.circuit_changes: Counter = made(
            Counter, "circuit_changes", "Changes of circuits, by their new state.", (*place, "to")
        )
        self.circuit: Gauge = made(
            Gauge, "circuit_state", "0 is closed, 1 half-open, 2 open.", place, **latest
        )
        self.limit: Gauge = made(
            Gauge,
            "concurrency_limit",
            "The adaptive limit of an endpoint, or of the cluster.",
            place,
            **latest,
        )
        self._lock = threading.Lock()
        self._clusters: dict[str, ClusterMetrics] = {}

    def cluster(self, name: str) -> ClusterMetrics:
        """Return the listener for the cluster, or the function, of that name."""
        with self._lock:
            if name not in self._clusters:
                self._clusters[name] = ClusterMetrics(self, name)
            return self._clusters[name]

    def __call__(self, event: Event) -> None:
        """Count an event of the only cluster, whose name is empty."""
        self.cluster("")(event)

    def of_endpoints(self) -> tuple[Counter | Gauge | Histogram, ...]:
        """Return the metrics that have an endpoint as a label."""
        return (
            self.attempts,
            self.attempt_seconds,
            self.in_flight,
            self.retries,
            self.hedges,
            self.rejections,
            self.faults,
            self.ejections,
            self.ejected,
            self.circuit_changes,
            self.circuit,
            self.limit,
        )


class ClusterMetrics:
    """A listener that counts the events of one cluster."""

    def __init__(self, metrics: Prometheus, name: str) -> None:
        self.name = name
        self._metrics = metrics
        # One event at a time: what is counted and what is remembered belong together.
        self._lock = threading.Lock()
        self._known: set[str] = {""}  # endpoints with a label of their own
        self._removed: dict[str, None] = {}  # the latest first to be forgotten: a set in order
        self._calls: set[int] = set()  # in progress
        self._fallen: set[int] = set()  # of those, which have fallen back
        self._attempts: dict[tuple[int, int], str] = {}  # in progress, with the label they have
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
            self._attempts[event.call, event.attempt] = label
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
        for key, label in self._attempts.items():
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

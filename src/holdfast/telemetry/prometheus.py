"""Events as metrics of Prometheus, by prometheus_client (the extra ``prometheus``)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from holdfast.policy.checks import at_least
from holdfast.telemetry.counting import OTHER, ClusterMetrics

try:
    from prometheus_client import REGISTRY, Counter, Gauge, Histogram
except ImportError:
    raise ImportError(
        "metrics for Prometheus need prometheus_client: install holdfast[prometheus]",
        name="prometheus_client",
    ) from None

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry

    from holdfast.policy.events import Event

__all__ = ["OTHER", "ClusterMetrics", "Prometheus"]

#: Seconds; finer below than the default of prometheus_client, as calls within a network are short.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Prometheus:
    """The metrics of clusters, in a registry; it is a listener itself, for a program's only one.

    With several clusters each one gets a listener from `cluster`, with its name as the label
    ``cluster``. ``max_endpoints``: how many endpoints of a cluster have a label of their own; the
    others share ``"other"``, and have no gauges of their state. ``buckets``: of the histograms, in
    seconds. An endpoint that is removed loses its series. One for each registry and namespace.

    The outcomes of calls and attempts are success, failure, timeout, rejected and cancelled, and
    fallback for a call that has failed and was answered all the same. A call of ``stream`` is over
    when the head of its answer is there: what becomes of the body is not counted.
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
        found = self._clusters.get(name)
        if found is None:
            with self._lock:
                found = self._clusters.setdefault(name, ClusterMetrics(self, name))
        return found

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

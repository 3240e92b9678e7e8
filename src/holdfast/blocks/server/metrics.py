"""What the service counts, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from holdfast.blocks.server.volumes import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.blocks.server.mounts import Mounts

__all__ = ["Metrics"]

#: Seconds.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self, mounts: Mounts) -> None:
        registry = self.registry = CollectorRegistry()
        name = "holdfast_blocks_"
        self.requests = Counter(
            f"{name}requests",
            "Requests that were answered.",
            ("method", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            f"{name}request_duration_seconds",
            "How long requests for blocks took, with their bodies.",
            ("method",),
            registry=registry,
            buckets=BUCKETS,
        )
        self.in_flight = Gauge(
            f"{name}requests_in_flight", "Requests in progress.", registry=registry
        )
        self.received = Counter(
            f"{name}received_bytes", "Bytes of blocks that were stored.", registry=registry
        )
        self.sent = Counter(
            f"{name}sent_bytes", "Bytes of blocks that were given out.", registry=registry
        )
        self.cut_short = Counter(
            f"{name}cut_short",
            "Answers that were broken off at a corrupt block.",
            registry=registry,
        )
        self.corrupt = Counter(
            f"{name}corrupt", "Copies that were found corrupt.", ("mount",), registry=registry
        )
        self.volume_errors = Counter(
            f"{name}volume_errors", "What a volume failed to do.", ("mount",), registry=registry
        )
        self.trashed = Counter(f"{name}trashed", "Blocks that went away.", registry=registry)
        self.emptied = Counter(
            f"{name}trash_emptied", "Blocks that left the trash for good.", registry=registry
        )
        self.pulled = Counter(
            f"{name}pulled",
            "Blocks asked to be copied from elsewhere.",
            ("outcome",),
            registry=registry,
        )
        self.scrubbed = Counter(
            f"{name}scrubbed_bytes",
            "Bytes that were read to find corrupt blocks.",
            registry=registry,
        )
        self.scrubs = Counter(f"{name}scrubs", "How often all blocks were read.", registry=registry)
        self.pending = Gauge(
            f"{name}pending", "Entries of the lists that wait.", ("list",), registry=registry
        )
        registry.register(_Volumes(mounts))
        self._answered: dict[tuple[str, int], Counter] = {}
        self._timed: dict[str, Histogram] = {}

    def answered(self, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        # Finding the series by its labels costs more than the counting.
        key = (method, status)
        counter = self._answered.get(key)
        if counter is None:
            counter = self._answered[key] = self.requests.labels(method, str(status))
            self._timed.setdefault(method, self.seconds.labels(method))
        counter.inc()
        self._timed[method].observe(seconds)


class _Volumes:
    """Looks at the volumes whenever the metrics are asked for."""

    def __init__(self, mounts: Mounts) -> None:
        self._mounts = mounts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        free = GaugeMetricFamily(
            "holdfast_blocks_free_bytes", "Bytes that are free on a volume.", labels=("mount",)
        )
        for volume in self._mounts:
            try:
                found = volume.free()
            except VolumeError:
                continue
            if found is not None:
                free.add_metric((volume.uuid,), found)
        yield free
        yield GaugeMetricFamily(
            "holdfast_blocks_corrupt_known",
            "Copies that are known to be corrupt, and not mended since.",
            len(self._mounts.corrupt()),
        )

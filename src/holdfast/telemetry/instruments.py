"""The metrics of OpenTelemetry that are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.telemetry.outcomes import outcome_of, status_of
from holdfast.telemetry.spans import error_attribute

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from holdfast.policy.events import Event
    from holdfast.telemetry.spans import AttemptSpan, CallSpan

__all__ = ["DURATION_BOUNDARIES", "Instruments"]

#: The attribute of all endpoints beyond the bound.
OTHER = "other"

#: The buckets that the conventions advise for ``http.client.request.duration``, in seconds.
DURATION_BOUNDARIES = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
]  # fmt: skip


class Instruments:
    """Durations of attempts and calls, attempts in progress, and decisions."""

    def __init__(self, meter: Meter, max_endpoints: int) -> None:
        self._max_endpoints = max_endpoints
        self._known: set[str] = set()  # endpoints that attributes tell apart
        self._attempts = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDARIES,
        )
        self._active = meter.create_up_down_counter(
            "http.client.active_requests", "{request}", "Number of active HTTP requests."
        )
        self._calls = meter.create_histogram(
            "holdfast.call.duration",
            "s",
            "Duration of calls, with all of their attempts and waits.",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDARIES,
        )
        self._decisions = meter.create_counter(
            "holdfast.decisions", "{decision}", "Number of decisions, by what was decided."
        )

    def _label(self, endpoint: str) -> str:
        # What is removed keeps its place: a meter forgets none of what it was told.
        if endpoint in self._known:
            return endpoint
        if len(self._known) >= self._max_endpoints:
            return OTHER
        self._known.add(endpoint)
        return endpoint

    def attempt_started(self, attempt: AttemptSpan, event: Event) -> None:
        """Count an attempt that is in progress."""
        if attempt.attributes is not None:
            if self._label(event.endpoint) is OTHER:
                attempt.attributes["server.address"] = OTHER
                attempt.attributes.pop("server.port", None)
            self._active.add(1, attempt.attributes)

    def attempt_ended(self, attempt: AttemptSpan, event: Event) -> None:
        """Record an attempt that has ended."""
        attributes = attempt.attributes
        if attributes is None:
            return
        self._active.add(-1, attributes)
        attributes = dict(attributes)
        status = status_of(event) or attempt.status
        if status is not None:
            attributes["http.response.status_code"] = status
        kind = error_attribute(event, outcome_of(event))
        if kind is not None:
            attributes["error.type"] = kind
        # Since it was sent, as the event's own time includes the wait for a slot.
        self._attempts.record(max(event.time - attempt.began, 0.0), attributes)

    def attempt_left(self, attempt: AttemptSpan) -> None:
        """Count an attempt no more of whose end nothing was told."""
        if attempt.attributes is not None:
            self._active.add(-1, attempt.attributes)

    def call_ended(self, call: CallSpan, outcome: str, seconds: float) -> None:
        """Record a call that has ended."""
        self._calls.record(seconds, {**call.attributes, "holdfast.outcome": outcome})

    def decided(self, event: Event) -> None:
        """Count a decision."""
        attributes = {"holdfast.decision": str(event.kind)}
        if event.policy:
            attributes["holdfast.policy"] = event.policy
        if event.endpoint:
            attributes["holdfast.endpoint"] = self._label(event.endpoint)
        self._decisions.add(1, attributes)

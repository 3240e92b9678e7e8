"""Events as spans and metrics of OpenTelemetry, by its API (the extra ``otel``).

Theory of operation. A call has a span, whose parent is the one that was current where the call was
made, and each of its attempts that is sent a child of that. The span of a request is never made
current, as programs take turns on one thread; that of a function's attempt is while the function
runs. What belongs to which call is known by the call's number, so that one object serves one
cluster. Spans of a streamed answer end with its body.

Names and values follow the semantic conventions of HTTP (stable since 1.23); what is our own begins
with ``holdfast``.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import ref

from holdfast._version import __version__
from holdfast.cluster.caller import Caller
from holdfast.http.responses import Response
from holdfast.policy.checks import at_least
from holdfast.telemetry.outcomes import outcome_of

try:
    from opentelemetry import context, metrics, propagate, trace
except ImportError:
    raise ImportError(
        "telemetry needs opentelemetry-api: install holdfast[otel]", name="opentelemetry"
    ) from None

# They need the API, too.
from holdfast.telemetry.instruments import Instruments
from holdfast.telemetry.spans import CallSpan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.propagators.textmap import TextMapPropagator

    from holdfast.policy.events import Event, Kind

__all__ = ["OpenTelemetry"]

_log = logging.getLogger("holdfast")


class OpenTelemetry:
    """A listener that makes spans and metrics of one cluster, or of one function.

    ``OpenTelemetry().watch(cluster)`` listens, and adds the headers of the trace to each request.
    ``tracer_provider``, ``meter_provider`` and ``propagator``: by default the global ones. Of no
    more than ``max_calls`` calls in progress is the span kept open: the oldest one ends then. In
    metrics ``max_endpoints`` have attributes of their own; the others share ``"other"``. Spans and
    durations of a streamed call end with its body, and fail when that breaks.

    Of a function under `holdfast.calls.fault_tolerant`, the requests of ``call.http`` and
    ``call.agent`` carry the headers, too. A redirect to another origin takes ``traceparent`` and
    ``tracestate`` along, never ``baggage``.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
        *,
        max_calls: int = 10_000,
        max_endpoints: int = 1000,
    ) -> None:
        self.max_calls = max_calls
        self.max_endpoints = max_endpoints
        at_least(self, 1, "max_calls")
        at_least(self, 0, "max_endpoints")
        self._tracer = trace.get_tracer("holdfast", __version__, tracer_provider)
        meter = metrics.get_meter("holdfast", __version__, meter_provider)
        self._instruments = Instruments(meter, max_endpoints)
        self._propagator = propagator
        # Without a lock, which a fork, or the garbage collector, could meet in the wrong state:
        # each step is atomic by itself.
        self._calls: dict[int, CallSpan] = {}
        self._watched: ref[Caller] | None = None

    def __repr__(self) -> str:
        return f"<OpenTelemetry: {len(self._calls)} calls in progress>"

    def watch(self, target: Any) -> OpenTelemetry:
        """Listen to a cluster, or a function under a policy, and add headers to its requests.

        Returns itself. Raises TypeError for anything else, ValueError for a second one.
        """
        caller = _caller(target)
        watched = self._watched() if self._watched is not None else None
        if watched is caller:
            return self
        if watched is not None:
            raise ValueError("one OpenTelemetry watches one cluster: make another one for this")
        self._watched = ref(caller)
        caller.listen(self)
        before = caller.inject
        if before is None:
            caller.inject = self.inject
        else:
            inner = before
            caller.inject = lambda call, attempt, endpoint: (
                *inner(call, attempt, endpoint),
                *self.inject(call, attempt, endpoint),
            )
        return self

    def close(self) -> None:
        """End the spans of calls that are still in progress."""
        while self._calls:
            try:
                _, call = self._calls.popitem()
            except KeyError:
                return
            self._drop(call)

    def inject(self, call: int, attempt: int, endpoint: str) -> Iterable[tuple[str, str]]:
        """Return the headers by which a server finds the span of an attempt."""
        record = self._calls.get(call)
        within = record.context_of(attempt) if record is not None else None
        carrier: dict[str, str] = {}
        try:
            propagator = self._propagator or propagate.get_global_textmap()
            propagator.inject(carrier, context=within)
        except Exception:
            _log.exception("the propagator failed")
            return ()
        return [item for item in carrier.items() if all(map(_sendable, item))]

    def __call__(self, event: Event) -> None:
        """Make of an event what it is worth."""
        kind = event.kind
        if kind == "call started":
            self._start(event)
            return
        call = self._calls.get(event.call) if event.call else None
        if kind in ("call succeeded", "call failed"):
            if call is not None and not self._streams(call, event, call.answered, self._end):
                self._end(event)
        elif kind == "attempt started":
            if call is not None:
                self._instruments.attempt_started(call.start_attempt(event), event)
        elif kind in ("attempt succeeded", "attempt failed"):
            if call is not None and not self._streams(
                call, event, call.attempt_answered, self._end_attempt
            ):
                self._end_attempt(event)
        else:
            if call is not None:
                call.decided(event)
            self._instruments.decided(event)

    def _start(self, event: Event) -> None:
        # The current context is that of who makes the call: its program has just begun.
        call = CallSpan(self._tracer, context.get_current(), event.cause)
        before = self._calls.pop(event.call, None)
        oldest = None
        if len(self._calls) >= self.max_calls:
            oldest = self._calls.pop(list(self._calls)[0], None)  # noqa: RUF015  others change it
        self._calls[event.call] = call
        for other in (before, oldest):
            if other is not None:
                self._drop(other)
        if before is not None:
            _log.warning("one OpenTelemetry listens to two clusters: each one needs its own")

    def _streams(
        self,
        call: CallSpan,
        event: Event,
        answered: Callable[[Event], None],
        end: Callable[[Event], None],
    ) -> bool:
        """Tell whether an answer's body is still to come: then ``end`` is called after it."""
        reader = event.cause.reader if isinstance(event.cause, Response) else None
        if reader is None or not call.is_request:  # a function may have read what it returns
            return False
        answered(event)
        clock = self._clock()
        began = clock()

        def over(error: Exception | None) -> None:
            seconds = clock() - began
            later = replace(event, time=event.time + seconds, seconds=event.seconds + seconds)
            if error is not None:
                kind: Kind = "call failed" if event.kind.startswith("call") else "attempt failed"
                later = replace(later, kind=kind, cause=error)
            try:
                end(later)
            except Exception:
                _log.exception("OpenTelemetry failed at the end of a body")

        reader.on_close.append(over)
        return True

    def _clock(self) -> Callable[[], float]:
        watched = self._watched() if self._watched is not None else None
        return watched.clock if watched is not None else monotonic

    def _end_attempt(self, event: Event) -> None:
        call = self._calls.get(event.call)
        ended = call.end_attempt(event) if call is not None else None
        if ended is not None:
            self._instruments.attempt_ended(ended, event)

    def _end(self, event: Event) -> None:
        call = self._calls.pop(event.call, None)
        if call is None:
            return
        fallen = call.fallen and event.kind == "call succeeded"
        outcome = "fallback" if fallen else outcome_of(event)
        for attempt in call.end(event, outcome):
            self._instruments.attempt_left(attempt)
        self._instruments.call_ended(call, outcome, event.seconds)

    def _drop(self, call: CallSpan) -> None:
        for attempt in call.abandon():
            self._instruments.attempt_left(attempt)


def _caller(target: Any) -> Caller:
    """Return what makes the calls of a cluster, or of a function."""
    if isinstance(target, Caller):
        return target
    core = getattr(target, "core", None)
    if isinstance(core, Caller):
        return core
    raise TypeError(f"only clusters, and functions under a policy, can be watched, not {target!r}")


def _sendable(text: str) -> bool:
    # What a request refuses must not be the end of the call: a trace is not worth that much.
    return bool(text) and text.isascii() and text.isprintable()

"""The spans of one call and its attempts."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from holdfast.http.origins import Origin
from holdfast.http.requests import Request
from holdfast.telemetry.outcomes import error_of, error_type, outcome_of, status_of, text_of
from holdfast.telemetry.redaction import redacted, redacted_target

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from holdfast.http.responses import Response
    from holdfast.policy.events import Event

__all__ = ["AttemptSpan", "CallSpan", "error_attribute"]

#: Other methods are one, as who may choose methods may choose any number of them (RFC 9110, 5789).
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)

#: A client's span is an error from this status on.
_ERROR_STATUS = 400


@lru_cache(maxsize=1024)
def _origin(endpoint: str) -> Origin:
    return Origin.parse(endpoint)


def _place(origin: Origin) -> dict[str, str | int]:
    if origin.unix is not None:
        return {"server.address": origin.unix, "network.transport": "unix"}
    return {"server.address": origin.host, "server.port": origin.port}


def _full_url(origin: Origin, request: Request) -> str:
    target = "" if request.target == "*" else redacted_target(request.target)
    return origin.url + target


class AttemptSpan:
    """The span of one attempt, and what its metrics are told apart by."""

    __slots__ = ("_inside", "_outside", "attributes", "began", "span", "status")

    def __init__(
        self, span: trace.Span, began: float, attributes: dict[str, str | int] | None
    ) -> None:
        self.span = span
        self.began = began  # on the cluster's clock
        #: None for an attempt that is no HTTP exchange.
        self.attributes = attributes
        #: Of the answer, once its head is there.
        self.status: int | None = None
        self._inside: Context | None = None
        self._outside: Context | None = None

    def enter(self) -> None:
        """Make the span the current one, for what a function does in it."""
        self._outside = context.get_current()
        self._inside = trace.set_span_in_context(self.span, self._outside)
        context.attach(self._inside)

    def leave(self) -> None:
        """Make the span the current one no more, unless somebody else has seen to that."""
        if self._outside is not None and context.get_current() is self._inside:
            context.attach(self._outside)


class CallSpan:
    """The span of a call, and those of its attempts in progress."""

    __slots__ = (
        "_attempts",
        "_context",
        "_noted",
        "_origin",
        "_request",
        "_sent",
        "_tracer",
        "attributes",
        "fallen",
        "span",
    )

    def __init__(self, tracer: trace.Tracer, parent: Context, subject: Any) -> None:
        self._tracer = tracer
        self._request = subject if isinstance(subject, Request) else None
        self._attempts: dict[int, AttemptSpan] = {}
        self._sent = 0
        self._origin: Origin | None = None
        self._noted = False  # whether it is told where the answer came from
        #: Whether a fallback has answered it.
        self.fallen = False
        #: What it is told apart by from calls of other things.
        self.attributes: dict[str, str | int]
        attributes: dict[str, str | int]
        if self._request is not None:
            name, self.attributes = _method(self._request)
            attributes = {**self.attributes, "url.path": self._request.target.partition("?")[0]}
            if name == "HTTP":
                attributes["http.request.method_original"] = redacted(self._request.method)
        else:
            name = str(subject)
            self.attributes = attributes = {"code.function.name": name}
        kind = SpanKind.CLIENT if self._request is not None else SpanKind.INTERNAL
        self.span = tracer.start_span(name, parent, kind, attributes)
        self._context = trace.set_span_in_context(self.span, parent)

    @property
    def is_request(self) -> bool:
        """Whether it is an HTTP call, not that of a function."""
        return self._request is not None

    def context_of(self, attempt: int) -> Context:
        """Return the context in which an attempt is made; the call's if it has no span."""
        found = self._attempts.get(attempt)
        if found is None:
            return self._context
        return trace.set_span_in_context(found.span, self._context)

    def start_attempt(self, event: Event) -> AttemptSpan:
        """Begin the span of an attempt, which is sent now."""
        request = self._request
        common: dict[str, str | int] | None = None
        if request is not None:
            origin = self._origin = _origin(event.endpoint)
            name, method = _method(request)
            common = {**method, **_place(origin), "url.scheme": origin.scheme}
            attributes = {**common, "url.full": _full_url(origin, request)}
            if self._sent:
                attributes["http.request.resend_count"] = self._sent
            kind = SpanKind.CLIENT
        else:
            name = str(self.attributes["code.function.name"])
            kind, attributes = SpanKind.INTERNAL, dict(self.attributes)
            if event.endpoint != name:
                attributes["holdfast.endpoint"] = event.endpoint
        attributes["holdfast.attempt"] = event.attempt
        self._sent += 1
        span = self._tracer.start_span(name, self._context, kind, attributes)
        attempt = self._attempts[event.attempt] = AttemptSpan(span, event.time, common)
        if request is None:
            # It is called next, here and in this context; a request's program takes turns.
            attempt.enter()
        return attempt

    def attempt_answered(self, event: Event) -> None:
        """Note the head of an answer whose body is still to come."""
        attempt = self._attempts.get(event.attempt)
        if attempt is not None:
            attempt.status = event.cause.status_code
            _note_status(attempt.span, event.cause)

    def end_attempt(self, event: Event) -> AttemptSpan | None:
        """End the span of an attempt; None when it never had one."""
        attempt = self._attempts.pop(event.attempt, None)
        if attempt is not None:
            attempt.leave()
            self._conclude(attempt.span, event, outcome_of(event))
        return attempt

    def answered(self, event: Event) -> None:
        """Note who has answered, and where, when the body is still to come."""
        self._note_place(event.cause.origin, event.cause.request)
        _note_status(self.span, event.cause)

    def decided(self, event: Event) -> None:
        """Note a decision."""
        if event.kind == "fell back":
            self.fallen = True
        attributes: dict[str, str | int | float] = {}
        if event.endpoint:
            attributes["holdfast.endpoint"] = event.endpoint
        if event.attempt:
            attributes["holdfast.attempt"] = event.attempt
        if event.policy:
            attributes["holdfast.policy"] = event.policy
        if event.kind == "retried":
            attributes["holdfast.wait"] = event.seconds
        error = error_of(event)
        status = status_of(event)
        if error is not None:
            attributes["error.type"] = error_type(error)
        elif status is not None:
            attributes["http.response.status_code"] = status
        self.span.add_event(event.kind, attributes)

    def end(self, event: Event, outcome: str) -> list[AttemptSpan]:
        """End the span; returns the attempts that were still in progress, ended as well."""
        left = self._leave_attempts()
        self.span.set_attribute("holdfast.attempts", event.attempt)
        if status_of(event) is not None:
            # Of who has answered, which a redirect may have led to.
            self._note_place(event.cause.origin, event.cause.request)
        elif not self._noted and self._origin is not None and self._request is not None:
            self._note_place(self._origin, self._request)
        self._conclude(self.span, event, outcome)
        return left

    def _note_place(self, origin: Origin, request: Request) -> None:
        if self._request is None:
            return
        self._noted = True
        for name, value in _place(origin).items():
            self.span.set_attribute(name, value)
        self.span.set_attribute("url.full", _full_url(origin, request))

    def abandon(self) -> list[AttemptSpan]:
        """End the span of a call of whose end nothing is known; returns the same as `end`."""
        left = self._leave_attempts()
        self.span.set_attribute("holdfast.outcome", "unknown")
        self.span.end()
        return left

    def _leave_attempts(self) -> list[AttemptSpan]:
        left = list(self._attempts.values())
        self._attempts.clear()
        for attempt in left:
            attempt.leave()
            attempt.span.set_attribute("error.type", "cancelled")
            attempt.span.end()
        return left

    def _conclude(self, span: trace.Span, event: Event, outcome: str) -> None:
        span.set_attribute("holdfast.outcome", outcome)
        if status_of(event) is not None and self._request is not None:
            _note_status(span, event.cause)
        kind = error_attribute(event, outcome)
        if kind is not None:
            span.set_attribute("error.type", kind)
        error = error_of(event)
        # A cancellation is told by its type: nothing has gone wrong.
        if kind is not None and outcome != "cancelled" and outcome != "fallback":
            text = redacted(text_of(error)) if error is not None else ""
            span.set_status(Status(StatusCode.ERROR, text or None))
            if error is not None:
                # No stack trace: it quotes lines with whatever stands in them.
                span.add_event("exception", {"exception.type": kind, "exception.message": text})
        span.end()


def error_attribute(event: Event, outcome: str) -> str | None:
    """Return the ``error.type`` of how an attempt or a call ended, None when it went well."""
    if outcome == "cancelled":
        return "cancelled"
    error = error_of(event)
    if error is not None and event.kind.endswith("failed"):
        return error_type(error)
    status = status_of(event)
    return str(status) if status is not None and status >= _ERROR_STATUS else None


def _method(request: Request) -> tuple[str, dict[str, str | int]]:
    """Return the name of a request's span, and the attribute of its method."""
    if request.method in _METHODS:
        return request.method, {"http.request.method": request.method}
    return "HTTP", {"http.request.method": "_OTHER"}


def _note_status(span: trace.Span, response: Response) -> None:
    span.set_attribute("http.response.status_code", response.status_code)

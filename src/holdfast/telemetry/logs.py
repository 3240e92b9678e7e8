"""Events as records of the standard library's logging."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from holdfast.http.requests import Request
from holdfast.telemetry.outcomes import error_of, error_type, outcome_of, status_of, text_of
from holdfast.telemetry.redaction import escaped, redacted

if TYPE_CHECKING:
    from holdfast.policy.events import Event, Kind

__all__ = ["LEVELS", "Log"]

#: How much each decision matters to those who run the program.
LEVELS: dict[Kind, int] = {
    "call started": logging.DEBUG,
    "call succeeded": logging.DEBUG,
    "call failed": logging.WARNING,
    "attempt started": logging.DEBUG,
    "attempt succeeded": logging.DEBUG,
    "attempt failed": logging.WARNING,
    "retried": logging.INFO,
    "hedged": logging.INFO,
    "rejected": logging.WARNING,
    "fell back": logging.WARNING,
    "coalesced": logging.DEBUG,
    "fault injected": logging.INFO,
    "ejected": logging.WARNING,
    "returned": logging.INFO,
    "added": logging.INFO,
    "removed": logging.INFO,
    "circuit opened": logging.WARNING,
    "circuit half-opened": logging.INFO,
    "circuit closed": logging.INFO,
    "limit changed": logging.DEBUG,
}

# Templates, not texts: tools group records by them.
_PLACE = "attempt %(attempt)d at %(endpoint)s"
_MESSAGES: dict[Kind, str] = {
    "call started": "call %(call)d started: %(cause)s",
    "call succeeded": "call %(call)d succeeded after %(seconds).3f s%(answer)s",
    "call failed": "call %(call)d failed after %(seconds).3f s: %(cause)s",
    "attempt started": f"{_PLACE} started",
    "attempt succeeded": f"{_PLACE} succeeded after %(seconds).3f s%(answer)s",
    "attempt failed": f"{_PLACE} failed after %(seconds).3f s: %(cause)s",
    "retried": f"{_PLACE} is followed by another one in %(seconds).3f s: %(cause)s",
    "hedged": f"{_PLACE} is late, another one is made beside it",
    "rejected": "attempt %(attempt)d%(where)s rejected%(by)s: %(cause)s",
    "fell back": "call %(call)d fell back: %(cause)s",
    "coalesced": "call %(call)d got the answer to an identical one",
    "fault injected": f"{_PLACE} was given a fault: %(cause)s",
    "ejected": "%(endpoint)s ejected: %(cause)s",
    "returned": "%(endpoint)s returned",
    "added": "%(endpoint)s added",
    "removed": "%(endpoint)s removed",
    "circuit opened": "the circuit of %(endpoint)s opened",
    "circuit half-opened": "the circuit of %(endpoint)s half-opened",
    "circuit closed": "the circuit of %(endpoint)s closed",
    "limit changed": "the limit%(where)s is now %(cause)s",
}

_ENDS = frozenset({"call succeeded", "call failed", "attempt succeeded", "attempt failed"})


class Log:
    """A listener that writes a record for each event whose level (see `LEVELS`) is high enough.

    ``logger``: a logger or its name; one name for each cluster tells them apart. ``level``: the
    lowest level that is written; the logger's own counts as well. Each record carries what it
    tells as attributes, too: ``holdfast_event``, ``holdfast_call``, ``holdfast_attempt``,
    ``holdfast_endpoint``, ``holdfast_policy``, ``holdfast_seconds``, ``holdfast_cause``,
    ``holdfast_outcome``, ``holdfast_error`` (its type) and ``holdfast_status``, those that it has.
    Credentials, queries and the results of functions are never written. A call of ``stream`` has
    succeeded when the head of its answer is there; of its body nothing is written.
    """

    def __init__(
        self, logger: str | logging.Logger = "holdfast", level: int = logging.INFO
    ) -> None:
        self.logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        if type(level) is not int:
            raise ValueError(f"Log: level must be a number such as logging.INFO, not {level!r}")
        self.level = level

    def __repr__(self) -> str:
        return f"Log({self.logger.name!r}, {logging.getLevelName(self.level)})"

    def __call__(self, event: Event) -> None:
        """Write the record of an event."""
        kind = event.kind
        level = LEVELS.get(kind, logging.DEBUG)
        if level < self.level or not self.logger.isEnabledFor(level):
            return
        outcome = outcome_of(event) if kind in _ENDS else ""
        if outcome == "cancelled":  # nobody's failure, and no news to who has cancelled
            level = logging.DEBUG
            if level < self.level or not self.logger.isEnabledFor(level):
                return
        fields = _fields(event)
        if outcome:
            fields["outcome"] = outcome
        extra = {f"holdfast_{name}": value for name, value in fields.items()}
        endpoint = fields.get("endpoint", "")
        policy = fields.get("policy", "")
        status = fields.get("status")
        told = {
            "endpoint": "",
            "cause": "",
            "seconds": event.seconds,
            **fields,
            "answer": f": status {status}" if status is not None else "",
            "where": f" at {endpoint}" if endpoint else "",
            "by": f" by the policy {policy!r}" if policy else "",
        }
        self.logger.log(level, _MESSAGES.get(kind, kind), told, extra=extra)


def _fields(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = {"event": event.kind, "call": event.call, "attempt": event.attempt}
    if event.endpoint:
        fields["endpoint"] = escaped(event.endpoint)
    if event.policy:
        fields["policy"] = event.policy
    if event.kind in _ENDS or event.kind == "retried":
        fields["seconds"] = event.seconds
    error = error_of(event)
    status = status_of(event)
    if error is not None:
        fields["error"] = error_type(error)
    if status is not None:
        fields["status"] = status
    cause = _told(event, error, status)
    if cause:
        fields["cause"] = cause
    return fields


def _told(event: Event, error: BaseException | None, status: int | None) -> str:
    cause = event.cause
    if error is not None:
        # The attempts belong to the end of the call; each of them has had a record of its own.
        text = text_of(error, whole=event.kind == "call failed")
        return redacted(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    if status is not None:
        return f"status {status}"
    if isinstance(cause, Request):
        return redacted(f"{cause.method} {cause.target.partition('?')[0]}")
    if cause is None or event.kind in _ENDS:
        return ""  # the result of a function is its caller's alone
    if event.kind == "rejected" and isinstance(cause, float):
        return f"so are {cause:.0%} of calls"
    return redacted(str(cause))

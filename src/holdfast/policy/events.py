"""What was decided: events for those who listen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["Event", "Kind", "Listener"]

Kind: TypeAlias = Literal[
    "attempt started",
    "attempt succeeded",
    "attempt failed",
    "retried",
    "hedged",
    "rejected",
    "fell back",
    "coalesced",
    "fault injected",
    "ejected",
    "returned",
    "added",
    "removed",
    "circuit opened",
    "circuit half-opened",
    "circuit closed",
    "limit changed",
    "call started",
    "call succeeded",
    "call failed",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One decision.

    ``time`` is of the cluster's clock, in seconds; ``endpoint`` the host (or the function) as its
    user named it, ``attempt`` the number of the attempt in its call, 0 outside of a call.
    ``cause`` is the exception, the answer or the value behind it, when a call starts the request or
    the function's name; ``policy`` is the policy that decided. ``seconds`` is how long the attempt,
    or the call, took. ``call`` is the number of the call that it belongs to, 0 outside of one.
    """

    kind: Kind
    time: float
    endpoint: str = ""
    attempt: int = 0
    cause: Any = None
    policy: str = ""
    seconds: float = 0.0
    call: int = 0


#: Is called with each event, in the thread where it happens: it must be quick.
Listener: TypeAlias = Callable[[Event], None]

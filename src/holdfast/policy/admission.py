"""Admission: who rejects most calls is not sent all of them (client-side throttling)."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.policy.checks import at_least, positive, wrong
from holdfast.policy.specs import Spec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Admission", "AdmissionControl"]


@dataclass(frozen=True, slots=True, repr=False)
class Admission(Spec):
    """Reject calls here, before they are sent, once hosts accept too few of them.

    Of the calls of the last ``window`` seconds, those rejected here included, as many are sent as
    ``k`` times what was accepted: a call is rejected with the probability
    ``max(0, (requests - k · accepts) / (requests + 1))``. So overloaded hosts spend little on
    rejecting, and some calls always go out and find out when they are well again. Below ``calls``
    requests in the window nobody is rejected: the first ones have no answers yet.
    (Google, "Site Reliability Engineering", chapter 21, "Handling Overload".)
    """

    k: float = 2.0
    window: float = 120.0
    calls: int = 20

    def __post_init__(self) -> None:
        positive(self, "k", "window")
        at_least(self, 1, "calls")
        if self.k < 1:  # it would reject calls of hosts that accept them all
            raise wrong(self, "k", "must be at least 1", self.k)


class AdmissionControl:
    """The state of an `Admission`. Safe among threads.

    Calls leave the window a tenth of it at a time, at most two tenths too late.
    """

    __slots__ = (
        "_accepts",
        "_buckets",
        "_lock",
        "_old_accepts",
        "_old_requests",
        "_requests",
        "_until",
        "spec",
    )

    def __init__(self, spec: Admission) -> None:
        self.spec = spec
        self._lock = threading.Lock()
        # Totals over the window are kept up to date, for every call asks for them.
        self._requests = 0
        self._accepts = 0
        self._buckets: deque[tuple[float, int, int]] = deque()  # by when they ended
        self._old_requests = 0  # the totals of the buckets
        self._old_accepts = 0
        self._until = float("-inf")  # when the newest bucket ends, which is not among them

    def __repr__(self) -> str:
        return f"<AdmissionControl {self._accepts} of {self._requests} accepted>"

    def admit(self, now: float, random: Callable[[], float]) -> bool:
        """Count a call, and tell whether to send it; ``random`` returns numbers from 0 to 1."""
        with self._lock:
            if now >= self._until:
                self._turn(now)
            requests = self._requests
            self._requests = requests + 1
            share = self._share(requests)
        return share <= 0 or random() >= share

    def accepted(self, now: float) -> None:
        """Count a call that a host accepted: it answered, and was not too busy to."""
        with self._lock:
            if now >= self._until:
                self._turn(now)
            self._accepts += 1

    def withdraw(self, now: float) -> None:
        """Count a call no more that was cancelled, or that no host was asked: it tells nothing."""
        with self._lock:
            if now >= self._until:
                self._turn(now)
            if self._requests > self._old_requests:  # else its bucket is over: it stays counted
                self._requests -= 1

    def probability(self, now: float) -> float:
        """Return the probability with which the next call is rejected."""
        with self._lock:
            if now >= self._until:
                self._turn(now)
            return self._share(self._requests)

    def _share(self, requests: int) -> float:
        """Return which share of the calls is rejected after so many."""
        if requests < self.spec.calls:
            return 0.0
        return max(0.0, (requests - self.spec.k * self._accepts) / (requests + 1))

    def _turn(self, now: float) -> None:
        """Begin a bucket, and let go of those that ended too long ago."""
        requests = self._requests - self._old_requests
        accepts = self._accepts - self._old_accepts
        self._buckets.append((self._until, requests, accepts))
        while self._buckets and self._buckets[0][0] <= now - self.spec.window:
            _, requests, accepts = self._buckets.popleft()
            self._requests -= requests
            self._accepts -= accepts
        self._old_requests = self._requests
        self._old_accepts = self._accepts
        self._until = now + self.spec.window / 10

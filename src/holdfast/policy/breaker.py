"""The circuit breaker: a host that fails is left alone, then tried with care."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import inf
from typing import Literal

from holdfast.policy.backoff import exponential
from holdfast.policy.checks import at_least, positive, share
from holdfast.policy.window import Window

__all__ = ["Breaker", "CircuitBreaker", "State"]

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a circuit opens, and for how long.

    It opens on ``failures`` in a row, or when of the calls in the last ``window`` seconds, if at
    least ``calls``, a share of ``rate`` failed. It stays open ``open_for`` seconds, each time in
    a row ``factor`` times as long, at most ``cap``. Then it is half-open: ``probes`` calls may
    pass; when all of them succeed it closes, when one fails it opens again. ``failures`` or
    ``rate`` None turns that condition off.
    (M. Nygard, "Release It!"; resilience4j's CircuitBreaker.)
    """

    failures: int | None = 5
    rate: float | None = 0.5
    calls: int = 20
    window: float = 10.0
    open_for: float = 10.0
    factor: float = 2.0
    cap: float = 300.0
    probes: int = 1

    def __post_init__(self) -> None:
        if self.failures is not None:
            at_least(self, 1, "failures")
        if self.rate is not None:
            share(self, "rate")
            positive(self, "rate")
        at_least(self, 1, "calls", "probes")
        positive(self, "window", "open_for", "factor", "cap")


class CircuitBreaker:
    """The state of a `Breaker`. Safe among threads; the lock is never held during a call.

    A call asks for a permit with `acquire` and gives it back with `record`, or with `release`
    when it came to no verdict. Each state that the breaker enters has a number, which is the
    permit: what comes back from an earlier state decides nothing in a later one.
    """

    __slots__ = (
        "_failures",
        "_lock",
        "_number",
        "_opened",
        "_permit",
        "_probing",
        "_succeeded",
        "_until",
        "spec",
        "state",
        "window",
    )

    def __init__(self, spec: Breaker) -> None:
        self.spec = spec
        self.state: State = "closed"
        self._lock = threading.Lock()
        self._number = 1
        self._permit = 1  # the number while closed, otherwise 0: one read tells both
        self._failures = 0  # in a row
        self._opened = 0  # times in a row
        self._until = 0.0
        self._probing = 0
        self._succeeded = 0
        self.window = Window(spec.window)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.state}>"

    def acquire(self, now: float) -> int:
        """Return a permit for one call, 0 when it must not be made."""
        return self._permit or self._acquire(now)

    def _acquire(self, now: float) -> int:
        with self._lock:
            if self.state == "open" and now >= self._until:
                self._enter("half-open")
            if self.state == "half-open":
                if self._probing + self._succeeded >= self.spec.probes:
                    return 0
                self._probing += 1
                return self._number
            return self._permit

    def ready_at(self, now: float) -> float:
        """Return when a call may pass: not after ``now`` if it may already.

        Infinity when that depends on a probe that is under way.
        """
        with self._lock:
            if self.state == "closed":
                return now
            if self.state == "open":
                return self._until
            return now if self._probing + self._succeeded < self.spec.probes else inf

    def record(self, permit: int, ok: bool, now: float) -> bool:
        """Take the verdict on a call; True when that changed the state, or freed a probe."""
        if ok and permit == self._permit and not self._failures:
            # Ordinary calls change nothing but a count, which needs no lock.
            window = self.window
            if now >= window.until:
                window.turn(now)
            window.hits += 1
            return False
        with self._lock:
            if permit != self._number:
                return False
            if self.state == "closed":
                return self._record_closed(ok, now)
            self._probing -= 1
            if not ok:
                self._open(now)
            else:
                self._succeeded += 1
                if self._succeeded >= self.spec.probes:
                    self._opened = 0
                    self._enter("closed")
            return True

    def release(self, permit: int) -> bool:
        """Give a permit back without a verdict; True when a probe became free by it."""
        with self._lock:
            if permit != self._number or self.state == "closed":
                return False
            self._probing -= 1
            return True

    def _record_closed(self, ok: bool, now: float) -> bool:
        spec = self.spec
        self.window.hit(now)
        if ok:
            self._failures = 0
            return False
        self._failures += 1
        self.window.fail(now)
        if spec.failures is not None and self._failures >= spec.failures:
            self._open(now)
            return True
        if spec.rate is not None:
            calls, failed = self.window.totals(now)
            if calls >= spec.calls and failed >= spec.rate * calls:
                self._open(now)
                return True
        return False

    def _open(self, now: float) -> None:
        spec = self.spec
        self._until = now + exponential(spec.open_for, spec.factor, self._opened, spec.cap)
        self._opened += 1
        self._enter("open")

    def _enter(self, state: State) -> None:
        self.state = state
        self._number += 1
        self._permit = self._number if state == "closed" else 0
        self._failures = self._probing = self._succeeded = 0
        self.window.clear()

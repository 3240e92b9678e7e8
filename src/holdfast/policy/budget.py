"""The retry budget: retries must never multiply an outage."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from holdfast.policy.checks import positive, share
from holdfast.policy.specs import Spec
from holdfast.policy.window import Window

__all__ = ["Budget", "RetryBudget"]


@dataclass(frozen=True, slots=True, repr=False)
class Budget(Spec):
    """How many retries there may be.

    At most ``share`` of the calls of the last ``window`` seconds, and ``per_second`` besides, so
    that a client with few calls may retry at all (Finagle's RetryBudget).
    """

    share: float = 0.2
    per_second: float = 10.0
    window: float = 10.0

    def __post_init__(self) -> None:
        share(self, "share")
        positive(self, "window")
        if self.per_second != 0 or isinstance(self.per_second, bool):
            positive(self, "per_second")


class RetryBudget:
    """The state of a `Budget`. Safe among threads."""

    __slots__ = ("_lock", "spec", "window")

    def __init__(self, spec: Budget) -> None:
        self.spec = spec
        self.window = Window(spec.window)
        self._lock = threading.Lock()

    def deposit(self, now: float) -> None:
        """Count a call."""
        window = self.window
        if now >= window.until:
            with self._lock:
                if now >= window.until:
                    window.turn(now)
        window.hits += 1

    def withdraw(self, now: float) -> bool:
        """Take a retry from the budget; False when there is none left."""
        with self._lock:
            if self._balance(now) < 1:
                return False
            self.window.fail(now)
            return True

    def refund(self) -> None:
        """Give a retry back that was not made after all."""
        with self._lock:
            if self.window.failures:
                self.window.failures -= 1

    def balance(self, now: float) -> float:
        """Return how many retries are left."""
        with self._lock:
            return self._balance(now)

    def _balance(self, now: float) -> float:
        calls, retries = self.window.totals(now)
        spec = self.spec
        return spec.share * calls + spec.per_second * spec.window - retries

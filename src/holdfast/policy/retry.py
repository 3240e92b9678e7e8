"""Retries: how many, when, and of what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from holdfast.policy.backoff import exponential
from holdfast.policy.checks import at_least, exceptions, limit, positive, status_codes
from holdfast.policy.specs import Spec

__all__ = ["Retry"]


@dataclass(frozen=True, slots=True, repr=False)
class Retry(Spec):
    """Attempts with exponential backoff and full jitter.

    ``attempts``: how many there may be, the first one included. ``base``, ``factor``, ``cap``:
    before the n-th retry the wait is random between 0 and ``base · factor^(n-1)``, at most
    ``cap``, in seconds ("full jitter" of the AWS Architecture Blog, "Exponential Backoff And
    Jitter"). ``statuses``: answers that are worth another attempt; ``exceptions``: kinds of errors
    of a decorated function that are. ``attempt_timeout``: seconds that one attempt may take, None
    for all that is left of the call's time.
    """

    attempts: int = 3
    base: float = 0.025
    factor: float = 2.0
    cap: float = 1.0
    statuses: frozenset[int] = frozenset({429, 502, 503, 504})
    exceptions: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)
    attempt_timeout: float | None = None

    def __post_init__(self) -> None:
        at_least(self, 1, "attempts")
        positive(self, "base", "factor", "cap")
        limit(self, "attempt_timeout")
        object.__setattr__(self, "exceptions", exceptions(self, "exceptions"))
        object.__setattr__(self, "statuses", status_codes(self, "statuses"))

    def delay(self, retry: int, random: Callable[[], float]) -> float:
        """Return the seconds to wait before the ``retry``-th retry, counted from 1.

        ``random`` returns numbers from 0 to 1.
        """
        return exponential(self.base, self.factor, retry - 1, self.cap) * random()

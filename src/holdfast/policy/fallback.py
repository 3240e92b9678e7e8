"""Fallbacks: what to answer when nobody does."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from holdfast.policy.checks import at_least, callables, exceptions, limit
from holdfast.policy.specs import Spec

__all__ = ["MISSING", "Fallback", "StaleAnswers"]


class _Missing:
    """No value, not even None."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


@dataclass(frozen=True, slots=True, repr=False)
class Fallback(Spec):
    """What a call returns when it failed for good.

    In this order: with ``stale``, the last good answer to the same call when it is at most so many
    seconds old (the last ``entries`` calls are remembered); what ``function`` returns, which is
    called with the error and may be asynchronous in asyncio; ``value``. It stands in for errors of
    the kinds in ``on``, and for answers with a status of 500 and more, or 429; not for errors in
    the arguments of a call.
    """

    value: Any = MISSING
    function: Callable[[Exception], Any] | None = None
    stale: float | None = None
    entries: int = 1024
    on: tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        limit(self, "stale")
        at_least(self, 1, "entries")
        object.__setattr__(self, "on", exceptions(self, "on"))
        callables(self, "function")
        if self.value is MISSING and self.function is None and self.stale is None:
            raise ValueError("Fallback: it needs a value, a function or stale")


class StaleAnswers:
    """The last good answers, for `Fallback.stale`. Safe among threads."""

    __slots__ = ("_answers", "_lock", "spec")

    def __init__(self, spec: Fallback) -> None:
        self.spec = spec
        self._lock = threading.Lock()
        self._answers: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def put(self, key: Hashable, answer: Any, now: float) -> None:
        """Remember an answer, and forget the one that was remembered longest."""
        with self._lock:
            self._answers[key] = now, answer
            self._answers.move_to_end(key)
            if len(self._answers) > self.spec.entries:
                self._answers.popitem(last=False)

    def get(self, key: Hashable, now: float) -> Any:
        """Return the answer to the same call, `MISSING` without one that is young enough."""
        with self._lock:
            since, answer = self._answers.get(key, (now, MISSING))
            if answer is not MISSING and now - since > (self.spec.stale or 0.0):
                del self._answers[key]
                return MISSING
            return answer

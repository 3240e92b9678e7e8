"""The circuit breaker: a host that fails is left alone, then tried with care.

Theory of operation: each state that a breaker enters has a number. A permit for a call is the
number of the state that gave it, so what comes back from an earlier state decides nothing in a
later one. An ordinary success of a closed breaker changes nothing but a count, which needs no lock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Literal, TypeAlias

from holdfast.policy.backoff import exponential
from holdfast.policy.checks import at_least, limit, positive, share
from holdfast.policy.specs import Spec
from holdfast.policy.window import LastCalls, Window

__all__ = ["Breaker", "CircuitBreaker", "State", "StateListener"]

State = Literal["closed", "open", "half-open"]

#: Is called with the state before, the state after, and the time of the change.
StateListener: TypeAlias = Callable[[State, State, float], None]

_log = logging.getLogger(__name__)

#: Equals no permit.
_NONE = -1


@dataclass(frozen=True, slots=True, repr=False)
class Breaker(Spec):
    """When a circuit opens, and for how long.

    It opens on ``failures`` in a row, or when of the calls in the last ``window`` seconds, if at
    least ``calls``, a share of ``rate`` failed. ``failures`` or ``rate`` None turns that condition
    off. Where calls that take ``slow_after`` seconds or more are bad, too, a share of
    ``slow_rate`` of them opens it. With ``last``, the last so many calls are judged, instead of
    those of the last seconds (and ``calls`` is no more than that).

    It stays open ``open_for`` seconds, each time in a row ``factor`` times as long, at most
    ``cap``. Then it is half-open: ``probes`` calls may pass; when all of them succeed it closes,
    when one fails, or is slow, it opens again.
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
    last: int | None = None
    slow_after: float | None = None
    slow_rate: float = 1.0

    def __post_init__(self) -> None:
        if self.failures is not None:
            at_least(self, 1, "failures")
        if self.rate is not None:
            share(self, "rate")
            positive(self, "rate")
        at_least(self, 1, "calls", "probes")
        positive(self, "window", "open_for", "factor", "cap")
        if self.last is not None:
            at_least(self, 1, "last")
        limit(self, "slow_after")
        share(self, "slow_rate")
        positive(self, "slow_rate")


class CircuitBreaker:
    """The state of a `Breaker`. Safe among threads; the lock is never held during a call.

    A call asks for a permit with `acquire` and gives it back with `record`, or with `release`
    when it came to no verdict. ``listener`` is told of every change of `state`, as are those of
    `add_listener`: outside of the lock, in the thread where the change happens, so that among
    threads two changes may be told in the other order. What a listener raises is logged, and
    harms no call.

    ``simple``: while it is closed, successes need only be counted in `window`: it judges by time,
    and no call is too slow.
    """

    __slots__ = (
        "_counts",
        "_failures",
        "_forced",
        "_least",
        "_listeners",
        "_lock",
        "_number",
        "_opened",
        "_permit",
        "_plain",
        "_probing",
        "_succeeded",
        "_until",
        "simple",
        "spec",
        "state",
        "window",
    )

    def __init__(self, spec: Breaker, listener: StateListener | None = None) -> None:
        self.spec = spec
        self.state: State = "closed"
        self.simple = spec.last is None and spec.slow_after is None
        self.window = Window(spec.window)
        # Unless it is simple, `window` stays empty, with its time over: who wants to count there
        # past `record` is not let.
        self._counts = self.window if self.simple else _counts(spec)
        self._least = spec.calls if spec.last is None else min(spec.calls, spec.last)
        self._listeners: tuple[StateListener, ...] = () if listener is None else (listener,)
        self._lock = threading.Lock()
        self._number = 1
        self._permit = 1  # the number while closed, otherwise 0: one read tells both
        self._plain = 1 if self.simple else _NONE  # the permit whose success is only counted
        self._failures = 0  # in a row
        self._opened = 0  # times in a row
        self._until = 0.0
        self._probing = 0
        self._succeeded = 0
        self._forced = False

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.state}{', forced' if self._forced else ''}>"

    @property
    def forced(self) -> bool:
        """Whether it is held in its state, until `force` lets it go."""
        return self._forced

    def add_listener(self, listener: StateListener) -> None:
        """Have a function told of every change of state."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def remove_listener(self, listener: StateListener) -> None:
        """Tell a function no more; one that was not told is no error."""
        with self._lock:
            self._listeners = tuple(other for other in self._listeners if other != listener)

    def acquire(self, now: float) -> int:
        """Return a permit for one call, 0 when it must not be made."""
        return self._permit or self._acquire(now)

    def _acquire(self, now: float) -> int:
        permit = 0
        with self._lock:
            before = self.state
            if self.state == "open" and now >= self._until:
                self._enter("half-open")
            if self.state == "half-open":
                if self._probing + self._succeeded < self.spec.probes:
                    self._probing += 1
                    permit = self._number
            else:
                permit = self._permit
            after = self.state
        self._tell(before, after, now)
        return permit

    def ready_at(self, now: float) -> float:
        """Return when a call may pass: not after ``now`` if it may already.

        Infinity when that depends on a probe that is under way, or when it is forced open.
        """
        with self._lock:
            if self.state == "closed":
                return now
            if self.state == "open":
                return self._until
            return now if self._probing + self._succeeded < self.spec.probes else inf

    def record(self, permit: int, ok: bool, now: float, seconds: float = 0.0) -> bool:
        """Take the verdict on a call, which took so many seconds.

        Returns True when that changed the state, or freed a probe.
        """
        if ok and permit == self._plain:
            window = self.window
            if now >= window.until:
                with self._lock:
                    if now >= window.until:
                        window.turn(now)
            window.hits += 1
            return False
        with self._lock:
            if permit != self._number:
                return False
            before = self.state
            slow = self.spec.slow_after is not None and seconds >= self.spec.slow_after
            if before == "closed":
                changed = self._record_closed(ok, slow, now)
            else:
                changed = True
                self._record_probe(ok and not slow, now)
            after = self.state
        self._tell(before, after, now)
        return changed

    def holds(self, permit: int) -> bool:
        """Tell whether the state has not changed since a permit was given."""
        return permit == self._number

    def release(self, permit: int) -> bool:
        """Give a permit back without a verdict; True when a probe became free by it."""
        with self._lock:
            if permit != self._number or self.state == "closed":
                return False
            self._probing -= 1
            return True

    def force(self, state: Literal["open", "closed"] | None, now: float) -> None:
        """Hold it open, or closed whatever fails; None lets it go, closed and with no past.

        For operators: a host under repair, or a breaker that errs. Raises ValueError when there
        is no such state to be forced into.
        """
        if state not in ("open", "closed", None):
            raise ValueError(
                f"CircuitBreaker: state must be 'open', 'closed' or None, not {state!r}"
            )
        with self._lock:
            if state is None and not self._forced:
                return
            before = self.state
            after: State = state or "closed"
            self._forced = state is not None
            self._opened = 0
            if after != before:
                self._enter(after)
            else:  # permits that are out, and those that are kept at hand, stay good
                self._forget()
            if after == "open":
                self._until = inf
        self._tell(before, after, now)

    def _record_closed(self, ok: bool, slow: bool, now: float) -> bool:
        """Take a verdict while closed; True when it opened."""
        self._counts.add(not ok, slow, now)
        if ok:
            self._failures = 0
            self._plain = self._number if self.simple else _NONE
            if not slow:
                return False
        else:
            self._failures += 1
            self._plain = _NONE  # the next success ends the row
        if self._forced or not self._too_bad(now):
            return False
        self._open(now)
        return True

    def _too_bad(self, now: float) -> bool:
        spec = self.spec
        if spec.failures is not None and self._failures >= spec.failures:
            return True
        calls, failed, slow = self._counts.counts(now)
        if calls < self._least:
            return False
        # Divided, not multiplied: 55 of 100 are 0.55 to the last bit.
        if spec.rate is not None and failed / calls >= spec.rate:
            return True
        return spec.slow_after is not None and slow / calls >= spec.slow_rate

    def _record_probe(self, ok: bool, now: float) -> None:
        self._probing -= 1
        if not ok:
            self._open(now)
            return
        self._succeeded += 1
        if self._succeeded >= self.spec.probes:
            self._opened = 0
            self._enter("closed")

    def _open(self, now: float) -> None:
        spec = self.spec
        self._until = now + exponential(spec.open_for, spec.factor, self._opened, spec.cap)
        self._opened += 1
        self._enter("open")

    def _enter(self, state: State) -> None:
        self.state = state
        self._number += 1
        self._permit = self._number if state == "closed" else 0
        self._forget()

    def _forget(self) -> None:
        """Begin a state without a past."""
        self._failures = self._probing = self._succeeded = 0
        self._plain = self._permit if self.simple and self._permit else _NONE
        self._counts.clear()

    def _tell(self, before: State, after: State, now: float) -> None:
        if before == after:
            return
        for listener in self._listeners:
            try:
                listener(before, after, now)
            except Exception:
                # The call that changed the state may hold a probe's permit: it must go on.
                _log.exception("a listener of a circuit breaker failed")


def _counts(spec: Breaker) -> Window | LastCalls:
    """Return what the calls are counted in."""
    return Window(spec.window) if spec.last is None else LastCalls(spec.last)

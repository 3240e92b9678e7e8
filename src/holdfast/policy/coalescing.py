"""Coalescing: identical calls at the same time are one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast import ops
from holdfast.errors import DeadlineExceeded
from holdfast.policy.specs import Spec

if TYPE_CHECKING:
    from holdfast.ops import Program

__all__ = ["Coalesce", "Flights"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Coalesce(Spec):
    """Identical concurrent GETs share one request, its answer and its error.

    Identical are calls with the same target, headers and key; of a function, with the same
    arguments. (The singleflight of Go.)
    """


class _Flight:
    """A call under way, and who waits for it."""

    __slots__ = ("error", "landed", "over", "result", "waiting")

    def __init__(self) -> None:
        self.waiting: list[ops.Signal] = []
        self.landed = False  # with a result
        self.over = False
        self.result: Any = None
        self.error: Exception | None = None


class Flights:
    """The state of a `Coalesce`: the calls that are under way. Safe among threads."""

    __slots__ = ("_flights", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def share(
        self, key: Hashable, call: Callable[[], Program[T]], deadline: float
    ) -> Program[tuple[T, bool]]:
        """Make a call, or wait for one that is under way; tells whether it was another's.

        When the call that others wait for is cancelled, or ran into a deadline of its own, one of
        them takes its place. Raises what the call raises, DeadlineExceeded at one's own deadline.
        """
        while (flight := self._board(key)) is not None:
            turn = ops.Signal()
            with self._lock:
                if flight.over:
                    continue
                flight.waiting.append(turn)
            try:
                yield ops.Wait(turn, deadline)
            except TimeoutError:
                raise DeadlineExceeded("the call that it waited for took too long") from None
            if flight.error is not None:
                raise flight.error
            if flight.landed:
                return flight.result, True
        flight = self._flights[key]
        try:
            flight.result = yield from call()
            flight.landed = True
            return flight.result, False
        except DeadlineExceeded:
            raise  # others may have more time
        except Exception as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[key]
                flight.over = True
            for turn in flight.waiting:
                turn.fire()

    def _board(self, key: Hashable) -> _Flight | None:
        """Return the flight that is under way, None when this call has to be one."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                self._flights[key] = _Flight()
            return flight

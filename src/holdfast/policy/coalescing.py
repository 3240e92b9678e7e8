"""Coalescing: identical calls at the same time are one."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast import ops
from holdfast.errors import DeadlineExceeded
from holdfast.policy.specs import Spec

if TYPE_CHECKING:
    from types import TracebackType

    from holdfast.ops import Program

__all__ = ["Coalesce", "Flight", "Flights"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Coalesce(Spec):
    """Identical concurrent GETs share one request, its answer and its error.

    Identical are calls with the same target, headers and key; of a function, with the same
    arguments. (The singleflight of Go.)
    """


class Flight:
    """A call under way, and who waits for it; a context manager for whoever makes the call."""

    # Defaults, so that a call that nobody waits for sets only what it has.
    landed = False  # with a result
    result: Any = None
    error: Exception | None = None
    #: In order of arrival.
    waiting: dict[ops.Signal, None] | None = None

    def __init__(self, flights: Flights, key: Hashable) -> None:
        self._flights = flights
        self.key = key

    def land(self, result: Any) -> None:
        """Have a result, for all who wait."""
        self.result = result
        self.landed = True

    def __enter__(self) -> Flight:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # With a deadline that is over, others may have more time.
        if isinstance(error, Exception) and not isinstance(error, DeadlineExceeded):
            self.error = error
        self._flights.end(self)


class Flights:
    """The state of a `Coalesce`: the calls that are under way. Safe among threads."""

    __slots__ = ("_flights", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def share(
        self, key: Hashable, call: Callable[[], Program[T]], deadline: float
    ) -> Program[tuple[T, bool]]:
        """Make a call, or wait for one that is under way; tells whether it was another's.

        When the call that others wait for is cancelled, or ran into a deadline of its own, one of
        them takes its place. Raises what the call raises, DeadlineExceeded at one's own deadline.
        """
        while (own := self.begin(key)) is None:
            other = yield from self.wait(key, deadline)
            if other is not None:
                return other.result, True
        with own:
            result = yield from call()
            own.land(result)
            return result, False

    def begin(self, key: Hashable) -> Flight | None:
        """Begin a call that others may wait for; None when there is one under way."""
        own = Flight(self, key)
        with self._lock:
            return own if self._flights.setdefault(key, own) is own else None

    def wait(self, key: Hashable, deadline: float) -> Program[Flight | None]:
        """Wait for the call that is under way; None when it has come to nothing.

        Raises what the call has raised, or DeadlineExceeded.
        """
        turn = ops.Signal()
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                return None
            if flight.waiting is None:
                flight.waiting = {}
            flight.waiting[turn] = None
        try:
            yield ops.Wait(turn, deadline)
        except TimeoutError:
            raise DeadlineExceeded("the call that it waited for took too long") from None
        finally:
            with self._lock:
                if flight.waiting is not None:
                    flight.waiting.pop(turn, None)
        if flight.landed:
            return flight
        if flight.error is not None:
            raise _own(flight.error)
        return None

    def end(self, flight: Flight) -> None:
        """Have those go on who wait for a call."""
        with self._lock:
            self._forget(flight.key, flight)
            waiting, flight.waiting = flight.waiting, None
        for turn in waiting or ():
            turn.fire()

    def _forget(self, key: Hashable, flight: Flight) -> None:
        """Let nobody board any more. The key may have changed: it is of the user's making."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        else:
            self._flights = {k: one for k, one in self._flights.items() if one is not flight}


def _own(error: Exception) -> Exception:
    """Return an error of one's own: one that many raise would collect the frames of all."""
    try:
        own = copy.copy(error)
    except Exception:  # its class wants other arguments than it has kept
        return error
    own.__cause__ = error.__cause__
    return own

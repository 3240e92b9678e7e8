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
        self.waiting: dict[ops.Signal, None] = {}  # in order of arrival
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
        own = _Flight()
        while (flight := self._board(key, own)) is not own:
            turn = ops.Signal()
            with self._lock:
                if flight.over:
                    continue
                flight.waiting[turn] = None
            try:
                yield ops.Wait(turn, deadline)
            except TimeoutError:
                raise DeadlineExceeded("the call that it waited for took too long") from None
            finally:
                with self._lock:
                    flight.waiting.pop(turn, None)
            if flight.error is not None:
                raise _own(flight.error)
            if flight.landed:
                return flight.result, True
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
                flight.over = True
                waiting, flight.waiting = flight.waiting, {}
                self._forget(key, flight)
            for turn in waiting:
                turn.fire()

    def _board(self, key: Hashable, own: _Flight) -> _Flight:
        """Return the flight that is under way, which is one's own when there was none."""
        with self._lock:
            return self._flights.setdefault(key, own)

    def _forget(self, key: Hashable, flight: _Flight) -> None:
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

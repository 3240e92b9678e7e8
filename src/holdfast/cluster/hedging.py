"""Hedged attempts: when one is late, another endpoint is asked as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from holdfast import ops
from holdfast.cluster.attempting import PENDING, Attempting, Failure, Nobody

if TYPE_CHECKING:
    from holdfast.http.attempts import Attempt
    from holdfast.ops import Program

__all__ = ["Hedging"]

T = TypeVar("T")


class Lost(Exception):
    """A hedged attempt that did not win."""


class Race:
    """Attempts of which the first good one wins."""

    __slots__ = ("failure", "late", "nobody", "running", "winner", "won")

    def __init__(self, late: int) -> None:
        self.running = 0
        self.won = PENDING  # the good outcome
        self.winner: Attempt | None = None  # whose it is
        self.failure = PENDING  # the last outcome that was not good
        self.nobody: Nobody | None = None
        self.late = [ops.Signal() for _ in range(late)]  # fired when a hedge is not needed


class Hedging(Attempting[T]):
    """A call whose attempts may be hedged; the first good one wins, the others are cancelled."""

    def _hedge_delay(self) -> float | None:
        caller = self.caller
        if (
            caller.latencies is None
            or self.attempts == 1
            or not (self.idempotent and self.replayable and self.hedgeable)
        ):
            return None
        return caller.latencies.delay(caller.clock())

    def hedged(self, delay: float) -> Program[Any]:
        """Make an attempt, and later ones beside it while it lasts; the first good one wins."""
        hedge = self.caller.policy.hedge
        assert hedge is not None
        race = Race(hedge.extra)
        now = self.caller.clock()
        hedges = [
            self._late(race, needless, now + delay * number)
            for number, needless in enumerate(race.late, 1)
        ]
        outcome = PENDING
        try:
            _, outcome = yield ops.First([self._race(race, self.attempt()), *hedges])
            if race.winner is not None:  # those that lost ended after it
                self.made.remove(race.winner)
                self.made.append(race.winner)
            return outcome
        except ExceptionGroup as group:
            for error in group.exceptions:
                if not isinstance(error, Lost):
                    raise error from None
            if race.failure is PENDING:
                assert race.nobody is not None
                raise race.nobody from None
            outcome = race.failure
            return outcome
        finally:
            # What was not returned, a winner that a cancellation has overtaken included, is closed.
            for other in (race.failure, race.won):
                if other is not outcome and not isinstance(other, Failure) and other is not PENDING:
                    self.drop(other)

    def _race(self, race: Race, program: Program[Any]) -> Program[Any]:
        race.running += 1
        outcome = PENDING
        try:
            outcome = yield from program
        except Nobody as nobody:
            race.nobody = nobody
        finally:
            race.running -= 1
        if outcome is not PENDING:
            failed = isinstance(outcome, Failure)
            if not failed and race.won is not PENDING:
                self.drop(outcome)  # both in the same turn
            elif not failed and not self.again(outcome):
                race.won = outcome
                race.winner = self.made[-1]
                return outcome
            else:
                if race.failure is not PENDING and not isinstance(race.failure, Failure):
                    self.drop(race.failure)
                race.failure = outcome
        if not race.running:
            # Nothing that could be late is left: a failure is the retry loop's.
            for needless in race.late:
                needless.fire()
        raise Lost

    def _late(self, race: Race, needless: ops.Signal, at: float) -> Program[Any]:
        caller = self.caller
        try:
            yield ops.Wait(needless, min(at, self.deadline))
        except TimeoutError:
            pass
        else:
            raise Lost
        now = caller.clock()
        if now >= self.deadline or race.won is not PENDING:
            raise Lost
        if self.elsewhere:
            others = caller.endpoints.ready if self.prefer is None else self.prefer()
            if all(endpoint in self.tried for endpoint in others):
                raise Lost
        if caller.budget is not None and not caller.budget.withdraw(now):
            raise Lost
        begun = self._begun
        self._emit("hedged", self.tried[-1].name if self.tried else "", begun, policy="hedge")
        try:
            return (yield from self._race(race, self.attempt()))
        finally:
            if self._begun == begun and caller.budget is not None:
                caller.budget.refund()  # no endpoint was found for it

"""The call: attempts, until one is good or no further one is worth it.

Theory of operation. A `Call` is one call in progress, and its methods are programs. From the
outside in: `Call.run` gives identical calls one flight, and failed ones their fallback;
`Call.survive` is the retry loop; `Hedging.hedged` races an attempt with later ones;
`Attempting.attempt` chooses an endpoint and goes `at` it: it takes the slots, meets the faults that
are to be injected, and sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from holdfast import ops
from holdfast.cluster.attempting import PENDING, Failure, Nobody
from holdfast.cluster.hedging import Hedging
from holdfast.errors import DecodingError, InvalidRequest, NoEndpointError
from holdfast.policy.fallback import MISSING

if TYPE_CHECKING:
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.ops import Program

__all__ = ["PENDING", "Call", "Failure"]

T = TypeVar("T")

#: Seconds that an endpoint's wish to be asked later is followed at most, also where there is no
#: deadline.
PATIENCE = 60.0


class Call(Hedging[T]):
    """One call in progress; see `Attempting` for its arguments."""

    def run(self) -> Program[T]:
        """Make the call."""
        caller = self.caller
        caller.count(self.began)
        if not caller.listeners:
            return (yield from self._run())
        self.number = caller.next_call()
        self._emit("call started", cause=self.subject())
        try:
            result: T = yield from self._run()
        except BaseException as error:  # cancelled, perhaps
            seconds = caller.clock() - self.began
            self._emit("call failed", "", self._begun, error, seconds=seconds)
            raise
        seconds = caller.clock() - self.began
        self._emit("call succeeded", "", self._begun, result, seconds=seconds)
        return result

    def resume(
        self,
        endpoint: Endpoint,
        permit: int,
        now: float,
        slots: int,
        started: Any = None,
        error: Exception | None = None,
        outcome: Any = PENDING,
    ) -> Program[T]:
        """Go on with a call whose first attempt was begun elsewhere; see `at`."""
        outcome = yield from self.at(endpoint, permit, now, slots, started, error, outcome)
        return (yield from self._run(outcome))

    def _run(self, outcome: Any = PENDING) -> Program[T]:
        caller = self.caller
        program = self.survive(outcome) if caller.flights is None else self._coalesced()
        if caller.policy.fallback is None or not self.replaceable:
            return (yield from program)
        return (yield from self._with_fallback(program))

    def _coalesced(self) -> Program[T]:
        key = self.identity()
        flights = self.caller.flights
        if key is None or flights is None:
            return (yield from self.survive())
        result, shared = yield from flights.share(key, self.survive, self.deadline)
        if not shared:
            return result
        self._emit("coalesced", policy="coalesce")
        return self.shared(result)

    def _with_fallback(self, program: Program[T]) -> Program[T]:
        caller = self.caller
        fallback = caller.policy.fallback
        assert fallback is not None
        key = self.identity() if caller.stale is not None else None
        result: Any = MISSING
        try:
            result = yield from program
            error = self.bad(result)
            if error is None:
                if caller.stale is not None and key is not None:
                    caller.stale.put(key, self.shared(result), caller.clock())
                return result  # type: ignore[no-any-return]
        except fallback.on as failed:
            if isinstance(failed, (InvalidRequest, DecodingError)):
                raise  # the arguments, or an answer that is not what it says
            error = failed
        if not isinstance(error, fallback.on):
            return result  # type: ignore[no-any-return]
        instead: Any = MISSING
        if caller.stale is not None and key is not None:
            instead = caller.stale.get(key, caller.clock())
            if instead is not MISSING:
                instead = self.shared(instead)
        if instead is MISSING and fallback.function is not None:
            called = False
            try:
                instead = yield ops.Invoke(fallback.function, error)
                called = True
            finally:
                if not called and result is not MISSING:
                    self.drop(result)
        if instead is MISSING:
            instead = fallback.value
        if instead is MISSING:
            if result is MISSING:
                raise error
            return result  # type: ignore[no-any-return]
        self._emit("fell back", cause=error, policy="fallback")
        if result is not MISSING:
            self.drop(result)
        return instead  # type: ignore[no-any-return]

    def survive(self, outcome: Any = PENDING) -> Program[T]:
        """Make attempts until one is good; ``outcome`` is that of the first, if it was made."""
        caller = self.caller
        paid = False  # for the attempt that comes, from the budget
        last = PENDING
        nobody: Nobody | None = None
        if outcome is not PENDING:
            self._rounds = 1
        while True:
            if outcome is PENDING:
                self._rounds += 1
                delay = self._hedge_delay()
                begun = self._begun
                try:
                    if delay is None:
                        outcome = yield from self.attempt()
                    else:
                        outcome = yield from self.hedged(delay)
                except Nobody as error:
                    nobody = error
                finally:
                    if paid and self._begun == begun and caller.budget is not None:
                        caller.budget.refund()  # no attempt was made
                if nobody is not None:
                    unknown = isinstance(nobody.error, NoEndpointError)
                    if unknown and (yield from caller.find_hosts(self.deadline)):
                        nobody = None
                        continue
                    if last is PENDING:
                        raise self.give_up(nobody.error, "")
                    why = "no other endpoint may be called"
                    if isinstance(last, Failure):
                        raise self.give_up(last.error, why)
                    if self.on_close(last) is not None:  # it was closed, and cannot be read
                        raise self.give_up(nobody.error, "")
                    return self.finish(last)
            failed = isinstance(outcome, Failure)
            if not failed and not self.again(outcome):
                return self.finish(outcome)
            wait = self._retry_delay(outcome)
            if isinstance(wait, str):
                if failed:
                    raise self.give_up(outcome.error, wait)
                return self.finish(outcome)
            if not failed:
                self.drop(outcome)
            paid = True
            cause = outcome.error if failed else outcome
            self._emit("retried", self.tried[-1].name, self._begun, cause, "retry", wait)
            slept = False
            try:
                yield ops.Sleep(caller.clock() + wait)
                slept = True
            finally:
                if not slept and caller.budget is not None:
                    caller.budget.refund()
            last, outcome = outcome, PENDING

    def _retry_delay(self, outcome: Any) -> float | str:
        """Return how long to wait before another attempt, or why there is none."""
        caller = self.caller
        retry = caller.policy.retry
        wait = 0.0
        if isinstance(outcome, Failure):
            if not outcome.error.retryable:
                return ""
            maybe_done = outcome.error.sent
        else:
            wait = self.wait_asked(outcome)
            # 429 (Too Many Requests) says itself that nothing was done.
            maybe_done = self.status(outcome) != 429
        if retry is None or self._rounds >= (self.attempts or retry.attempts):
            return "no attempt is left" if self._rounds > 1 else ""
        if maybe_done and not self.idempotent:
            return f"{self.name()[0]} may have been carried out, and is not repeated"
        if not self.replayable:
            return "the body cannot be sent again"
        now = caller.clock()
        wait = max(wait, retry.delay(self._rounds, caller.random))
        if now + wait >= self.deadline:
            return "the deadline is too near for another attempt"
        if wait > PATIENCE:
            return f"it asks to wait for {wait:.0f} s"
        if caller.budget is not None and not caller.budget.withdraw(now):
            return "the retry budget is used up"
        return wait

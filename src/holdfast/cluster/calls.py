"""The call: attempts, until one is good or no further one is worth it.

Theory of operation. A `Call` is one call in progress, and its methods are programs. From the
outside in: `run` gives identical calls one flight, and failed ones their fallback; `survive` is
the retry loop; `hedged` races an attempt with later ones; `attempt` chooses an endpoint and goes
`at` it: it takes the slots, meets the faults that are to be injected, and sends. Whatever becomes
of an attempt, its slots and permit are given back in one place, `_settle`.

An attempt ends with an outcome: what the endpoint answered, or a `Failure`. What it is that is
sent, a request or a function's arguments, is a subclass's business.
"""

from __future__ import annotations

import copy
from math import inf
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast import ops
from holdfast.errors import (
    AdmissionRejected,
    AttemptTimeout,
    DeadlineExceeded,
    DecodingError,
    HoldfastError,
    InvalidRequest,
    NetworkError,
    NoEndpointError,
    RateLimited,
)
from holdfast.http.attempts import Attempt
from holdfast.http.bodies import SourceError
from holdfast.policy.deadline import OUTER, inherited
from holdfast.policy.fallback import MISSING
from holdfast.policy.injection import injected

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from holdfast.cluster.caller import Caller
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.ops import Program
    from holdfast.policy.events import Kind
    from holdfast.policy.injection import Fault

__all__ = ["Call", "Failure"]

T = TypeVar("T")

#: Seconds that an endpoint's wish to be asked later is followed at most, also where there is no
#: deadline.
PATIENCE = 60.0


#: The outcome of an attempt that has none yet, or was cancelled.
PENDING: Any = object()


class Failure:
    """The outcome of an attempt that got no answer."""

    __slots__ = ("error",)

    def __init__(self, error: HoldfastError) -> None:
        self.error = error


class Nobody(Exception):
    """No endpoint may be called now; ``error`` tells why."""

    def __init__(self, error: HoldfastError) -> None:
        super().__init__(error)
        self.error = error


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


class Call(Generic[T]):
    """One call in progress; a subclass says what is sent, and judges what comes back.

    ``total``: seconds for the whole call, or None. ``prefer`` gives the endpoints in the order of
    preference instead of the balancer; ``attempts`` replaces the policy's number of them; ``key``
    is for balancers that send the same key to the same endpoint.
    """

    #: Whether it may be carried out twice, and asked of two at once.
    idempotent = True
    hedgeable = True
    #: Whether a hedge needs another endpoint than the first attempt's.
    elsewhere = True
    #: What may go wrong in an attempt; everything else is the user's own.
    failures: tuple[type[Exception], ...] = (Exception,)

    def __init__(
        self,
        caller: Caller,
        began: float,
        total: float | None,
        prefer: Callable[[], Iterable[Endpoint]] | None = None,
        attempts: int | None = None,
        key: Any = None,
    ) -> None:
        self.caller = caller
        self.began = began
        self.deadline = inf if total is None else began + total
        if OUTER.get() is not None:
            self.deadline = min(self.deadline, inherited(caller.clock))
        self.prefer = prefer
        self.attempts = attempts
        self.key = key
        self.made: list[Attempt] = []
        self.tried: tuple[Endpoint, ...] = ()
        self.number = 0  # for those who listen
        self._begun = 0  # attempts, for their numbers
        self._rounds = 0  # attempts, but for hedges

    # What a subclass says.

    @property
    def replayable(self) -> bool:
        """Whether it can still be sent again."""
        return True

    def send(
        self, endpoint: Endpoint, until: float, number: int, started: Any = None
    ) -> Program[T]:
        """Make the attempt of that number; ``started`` is one that was begun already."""
        raise NotImplementedError

    def failure(self, error: Exception, endpoint: Endpoint, until: float) -> HoldfastError:
        """Return what went wrong in an attempt as an error of ours."""
        raise NotImplementedError

    def healthy(self, outcome: T) -> bool:
        """Tell whether an answer speaks for its endpoint's health."""
        return True

    def overloaded(self, outcome: T) -> bool:
        """Tell whether an answer says that its endpoint has too much to do."""
        return False

    def again(self, outcome: T) -> bool:
        """Tell whether an answer is worth another attempt."""
        return False

    def wait_asked(self, outcome: T) -> float:
        """Return the seconds that an answer asks to wait before another attempt."""
        return 0.0

    def status(self, outcome: T) -> int | None:
        """Return an answer's status code."""
        return None

    def bad(self, outcome: T) -> Exception | None:
        """Return the error that an answer is, for which a fallback stands in."""
        return None

    def identity(self) -> Hashable:
        """Return what identical calls have in common, None for a call that has no like."""
        return None

    def shared(self, outcome: T) -> T:
        """Return an answer that several calls get, for one of them."""
        return outcome

    def drop(self, outcome: T) -> None:
        """Let go of an answer that nobody will see."""

    def on_close(self, outcome: T) -> list[Callable[[Exception | None], None]] | None:
        """Return what is called when the body was read of an answer that is still open."""
        return None

    def answer(self, endpoint: Endpoint, status: int) -> T:
        """Return an answer that a fault injects."""
        raise NetworkError(f"{endpoint.name}: status {status} (injected)")

    def subject(self) -> Any:
        """Return what is called, for those who listen."""
        raise NotImplementedError

    def name(self) -> tuple[str, str]:
        """Return the method and the path, for messages and for the matching of faults."""
        raise NotImplementedError

    def finish(self, outcome: T) -> T:
        """Return an answer as the caller gets it."""
        return outcome

    def give_up(self, error: HoldfastError, why: str) -> Exception:
        """Return the error that the caller gets, with its cause."""
        method, path = self.name()
        reason = f"{method} {path}: {error.summary}".lstrip()
        # An error of its own: the one in the list of attempts stays as it was.
        failure = type(error)(f"{reason} ({why})" if why else reason)
        failure.attempts = tuple(self.made)
        failure.sent = error.sent
        failure.__cause__ = error
        return failure

    # The whole call.

    def _emit(
        self,
        kind: Kind,
        endpoint: str = "",
        attempt: int = 0,
        cause: Any = None,
        policy: str = "",
        seconds: float = 0.0,
    ) -> None:
        if self.caller.listeners:
            self.caller.emit(kind, endpoint, attempt, cause, policy, seconds, self.number)

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
        except Exception as error:
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
        if caller.policy.fallback is None:
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
        if now + wait >= self.deadline or wait > PATIENCE:
            return "the deadline is too near for another attempt"
        if caller.budget is not None and not caller.budget.withdraw(now):
            return "the retry budget is used up"
        return wait

    # Hedges.

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

    # One attempt.

    def attempt(self) -> Program[Any]:
        """Choose an endpoint and make one attempt; returns its outcome. Raises Nobody."""
        caller = self.caller
        now = caller.clock()
        if caller.admission is not None and not caller.admission.admit(now, caller.random):
            share = caller.admission.probability(now)
            self._emit("rejected", "", self._begun + 1, share, "admission")
            return Failure(
                AdmissionRejected(f"the hosts reject too much; so are {share:.0%} of calls here")
            )
        try:
            endpoint, permit = caller.choose(now, self.tried, self.prefer, self.key)
        except HoldfastError as error:
            if caller.admission is not None:
                caller.admission.withdraw(now)
            policy = "" if isinstance(error, NoEndpointError) else "breaker"
            self._emit("rejected", "", self._begun + 1, error, policy)
            raise Nobody(error) from None
        return (yield from self.at(endpoint, permit, now))

    def at(
        self,
        endpoint: Endpoint,
        permit: int,
        now: float,
        slots: int = 0,
        started: Any = None,
        error: Exception | None = None,
        outcome: Any = PENDING,
    ) -> Program[Any]:
        """Make one attempt at an endpoint, for which there is a permit; returns its outcome.

        ``slots``, ``started``, ``error`` and ``outcome`` are how far it has come already.
        """
        caller = self.caller
        limiter = caller.limiter
        self.tried = (*self.tried, endpoint)
        self._begun = number = self._begun + 1
        until = self.deadline
        if caller.attempt_timeout is not None:
            until = min(until, now + caller.attempt_timeout)
        queued = slots == 0
        sent_at = now
        try:
            if outcome is not PENDING:
                return outcome
            if error is not None:
                raise error
            if not slots:
                if not endpoint.try_acquire():
                    yield from endpoint.acquire(until)
                slots = 1
                if limiter is not None:
                    if not limiter.try_acquire():
                        yield from limiter.acquire(until)
                    slots = 2
                sent_at = caller.clock()  # later than now, where there was a queue
                if caller.rate is not None and not caller.rate.try_acquire(sent_at):
                    yield from caller.rate.acquire(sent_at, until)
                    sent_at = caller.clock()
                queued = False
            self._emit("attempt started", endpoint.name, number)
            if caller.policy.faults:
                outcome = yield from self._send_with_faults(endpoint, until, number)
            else:
                outcome = yield from self.send(endpoint, until, number, started)
        except SourceError as own:
            raise own.error from None  # the user's, as it was
        except self.failures as failed:
            outcome = Failure(self._named(failed, endpoint, queued, until))
        finally:
            self._settle(endpoint, permit, number, slots, now, sent_at, outcome)
        return outcome

    def _send_with_faults(self, endpoint: Endpoint, until: float, number: int) -> Program[T]:
        caller = self.caller
        fault = injected(caller.policy.faults, *self.name(), endpoint.name, caller.random)
        if fault is None:
            return (yield from self.send(endpoint, until, number))
        self._emit("fault injected", endpoint.name, number, fault, "faults")
        if fault.delay is not None:
            yield ops.Sleep(min(caller.clock() + fault.delay, until))
            if caller.clock() >= until:
                raise TimeoutError
        if fault.error is not None:
            raise _raised(fault, endpoint)
        if fault.status is not None:
            return self.answer(endpoint, fault.status)
        outcome = yield from self.send(endpoint, until, number)
        if fault.cut:
            self.drop(outcome)
            raise NetworkError(f"{endpoint.name}: the connection was cut (injected)")
        return outcome

    def _named(
        self, error: Exception, endpoint: Endpoint, queued: bool, until: float
    ) -> HoldfastError:
        """Return what made an attempt fail, and which time was over if one was."""
        over = self.caller.clock() >= self.deadline
        if queued:
            if isinstance(error, HoldfastError):
                policy = "rate" if isinstance(error, RateLimited) else "limit"
                self._emit("rejected", endpoint.name, self._begun, error, policy)
                return error
            kind = DeadlineExceeded if over else AttemptTimeout
            failure: HoldfastError = kind(f"{endpoint.name}: no free slot in time")
            failure.fault = failure.sent = False
            return failure
        failure = self.failure(error, endpoint, until)
        if isinstance(failure, DeadlineExceeded) and not over:
            summary = failure.summary.replace("the deadline", "the attempt's time limit")
            late = AttemptTimeout(summary)
            late.sent = failure.sent
            return late
        return failure

    def _settle(
        self,
        endpoint: Endpoint,
        permit: int,
        number: int,
        slots: int,
        began: float,
        sent_at: float,
        outcome: Any,
    ) -> None:
        """Give back what an attempt holds, and pass the verdict on its endpoint."""
        caller = self.caller
        ended = caller.clock()
        seconds = ended - sent_at
        failure = outcome.error if isinstance(outcome, Failure) else None
        answered = outcome is not PENDING and failure is None
        ok: bool | None = None  # no verdict: cancelled, or not the endpoint's fault
        if answered:
            ok = self.healthy(outcome)
        elif failure is not None and failure.fault:
            ok = False
        if ok is not None:
            dropped = not answered or self.overloaded(outcome)
            caller.adapt(endpoint, seconds, dropped, ended)
            if caller.admission is not None and not dropped:
                caller.admission.accepted(ended)
        elif caller.admission is not None:
            caller.admission.withdraw(ended)
        if not answered or not self._leave_open(outcome, endpoint, slots):
            caller.free(endpoint, slots)
        caller.endpoints.record(endpoint, permit, ok if slots else None, ended, seconds)
        if answered:
            caller.balancer.observe(endpoint, seconds, ended)
            if caller.latencies is not None:
                caller.latencies.record(seconds, ended)
            status = self.status(outcome)
            attempt = Attempt(number, endpoint.name, began - self.began, ended - began, status)
        else:
            outcome = failure or HoldfastError("cancelled")
            attempt = Attempt(
                number, endpoint.name, began - self.began, ended - began, None, outcome
            )
        self.made.append(attempt)
        if caller.listeners:
            kind: Kind = "attempt succeeded" if ok else "attempt failed"
            self._emit(kind, endpoint.name, number, outcome, seconds=ended - began)

    def _leave_open(self, outcome: T, endpoint: Endpoint, slots: int) -> bool:
        """Have the slots given back at the end of a streamed body."""
        on_close = self.on_close(outcome)
        if on_close is None:
            return False
        # The head is the verdict: a stream may stay open for hours, and a probe must not.
        caller = self.caller

        def ended(error: Exception | None) -> None:
            caller.free(endpoint, slots)
            if isinstance(error, HoldfastError) and error.fault:
                caller.endpoints.record(endpoint, endpoint.permit, False, caller.clock())

        on_close.append(ended)
        return True


def _raised(fault: Fault, endpoint: Endpoint) -> Exception:
    if isinstance(fault.error, Exception):
        return copy.copy(fault.error)
    assert fault.error is not None
    return fault.error(f"{endpoint.name}: injected")

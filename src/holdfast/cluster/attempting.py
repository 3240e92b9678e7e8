"""One attempt of a call: at which endpoint, with which slots, and what came of it.

An attempt ends with an outcome: what the endpoint answered, or a `Failure`. Whatever becomes of
it, its slots and its permit are given back in one place, `_settle`. What it is that is sent, a
request or a function's arguments, is a subclass's business, and so is the judgement of answers.
"""

from __future__ import annotations

import copy
from math import inf
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast import ops
from holdfast.errors import (
    AdmissionRejected,
    AttemptTimeout,
    CircuitOpenError,
    DeadlineExceeded,
    HoldfastError,
    NetworkError,
    NoEndpointError,
    RateLimited,
)
from holdfast.http.attempts import Attempt
from holdfast.http.bodies import SourceError
from holdfast.policy.deadline import OUTER, inherited
from holdfast.policy.injection import injected

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from holdfast.cluster.caller import Caller
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.ops import Program
    from holdfast.policy.events import Kind
    from holdfast.policy.injection import Fault

__all__ = ["PENDING", "Attempting", "Failure", "Nobody"]

T = TypeVar("T")

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


class Attempting(Generic[T]):
    """One call in progress; a subclass says what is sent, and judges what comes back.

    ``total``: seconds for the whole call, or None. ``prefer`` gives the endpoints in the order of
    preference instead of the balancer; ``attempts`` replaces the policy's number of them; ``key``
    is for balancers that send the same key to the same endpoint.
    """

    #: Whether it may be carried out twice, and asked of two at once.
    idempotent = True
    hedgeable = True
    #: Whether a fallback may stand in for its answer.
    replaceable = True
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
        error = NetworkError(f"{endpoint.name}: status {status} (injected)")
        error.sent = False
        raise error

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

    # One attempt.

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
                waited = not endpoint.try_acquire()
                if waited:
                    yield from endpoint.acquire(until)
                slots = 1
                if limiter is not None:
                    if not limiter.try_acquire():
                        waited = True
                        yield from limiter.acquire(until)
                    slots = 2
                sent_at = caller.clock()  # later than now, where there was a queue
                if caller.rate is not None and not caller.rate.try_acquire(sent_at):
                    waited = True
                    yield from caller.rate.acquire(sent_at, until)
                    sent_at = caller.clock()
                if waited and not caller.endpoints.allows(endpoint, permit):
                    raise _opened(endpoint)
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
                policy = "breaker" if isinstance(error, CircuitOpenError) else policy
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


def _opened(endpoint: Endpoint) -> CircuitOpenError:
    error = CircuitOpenError(f"{endpoint.name}: its circuit opened while the call was waiting")
    error.retryable = True  # elsewhere
    return error


def _raised(fault: Fault, endpoint: Endpoint) -> Exception:
    if isinstance(fault.error, Exception):
        return copy.copy(fault.error)
    assert fault.error is not None
    return fault.error(f"{endpoint.name}: injected")

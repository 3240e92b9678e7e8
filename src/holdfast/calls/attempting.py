"""One call of a function under `fault_tolerant`, with its attempts.

It passes on what the function needs, a `Call` for each attempt, and the arguments to the fallback;
and it judges what the function raised or returned.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast import ops
from holdfast.calls.balancers import Misuse
from holdfast.calls.call import Call
from holdfast.calls.judging import RETRIED, failed_status, is_repeatable, judged, status_of
from holdfast.cluster.attempting import PENDING
from holdfast.cluster.functions import FunctionCall, FunctionFailed
from holdfast.cluster.retry_after import retry_after
from holdfast.errors import DeadlineExceeded, HoldfastError, InvalidRequest, StatusError
from holdfast.http.attempts import Attempt
from holdfast.http.responses import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.calls.dependency import Dependency
    from holdfast.calls.parameters import Slot
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.ops import Program
    from holdfast.policy.events import Kind

__all__ = ["DependencyCall"]


class DependencyCall(FunctionCall):
    """One call of a function, with its attempts."""

    _core: Dependency

    def __init__(
        self,
        core: Dependency,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        began: float | None = None,
    ) -> None:
        super().__init__(core, function, arguments, keywords, began)
        self._call: Call | None = None  # of the latest attempt
        self._fell_after: float | None = None  # seconds, when it had failed

    def target(self, endpoint: Endpoint, until: float, number: int) -> Callable[..., Any]:
        """Return the function, with a `Call` of the attempt when it wants one."""
        core = self._core
        if core.slot is None:
            return self._function
        inject = core.inject
        if inject is not None:
            inject = partial(inject, self.number, number, endpoint.name)
        self._call = Call.of(
            core.settings,
            core.services,
            self._function,
            core.place_of(endpoint),
            number,
            until,
            self._call,
            inject,
        )
        return partial(_filled, core.slot, self._call, self._function)

    def resume(
        self,
        endpoint: Endpoint,
        permit: int,
        now: float,
        slots: int,
        started: Any = None,
        error: Exception | None = None,
        outcome: Any = PENDING,
    ) -> Program[Any]:
        """Go on after an ordinary first attempt, of which nobody was told yet."""
        caller = self.caller
        self.number = caller.next_call()
        try:
            return (
                yield from super().resume(endpoint, permit, now, slots, started, error, outcome)
            )
        except Exception as failed:
            self._emit("call failed", "", self._begun, failed, seconds=caller.clock() - self.began)
            raise

    def _emit(
        self,
        kind: Kind,
        endpoint: str = "",
        attempt: int = 0,
        cause: Any = None,
        policy: str = "",
        seconds: float = 0.0,
    ) -> None:
        if self._core.driver is not None and kind in ("call succeeded", "call failed"):
            from holdfast.calls.twisted_responses import told

            kind, cause = told(kind, cause)
        if self._fell_after is not None and kind in ("call succeeded", "call failed"):
            seconds = self._fell_after  # what comes instead is no part of the statistics
        super()._emit(kind, endpoint, attempt, cause, policy, seconds)

    def _run(self, outcome: Any = PENDING) -> Program[Any]:
        program = super()._run(outcome)
        if self._core.settings.fallback is None:
            return (yield from program)
        return (yield from self._or_fallback(program))

    def _or_fallback(self, program: Program[Any]) -> Program[Any]:
        result: Any = PENDING
        error: Exception
        try:
            result = yield from program
            bad = self.bad(result)
            if bad is None:
                return result
            error = bad
        except (InvalidRequest, Misuse):
            raise  # nothing that a fallback should hide
        except Exception as failed:
            error = failed
        self._fell_after = self.caller.clock() - self.began
        self._emit("fell back", "", self._begun, error, "fallback")
        if result is not PENDING:
            self.drop(result)
        try:
            return (yield ops.Invoke(self._fall_back, error))
        except Exception as own:
            if own is not error and own.__cause__ is None:
                raise own from error
            raise

    def _fall_back(self, error: Exception) -> Any:
        core = self._core
        fallback = core.settings.fallback
        assert fallback is not None
        arguments, keywords = self._arguments, self._keywords
        if core.error_slot is not None:
            arguments, keywords = core.error_slot.fill(error, arguments, keywords)
        result = fallback(*arguments, **keywords)
        if core.is_blocking and inspect.iscoroutine(result) and not _loop_runs():
            return asyncio.run(result)  # whoever called the function waits for a value
        return result

    # Judging.

    @property
    def replayable(self) -> bool:
        """Whether nothing is used up that the function was given to send."""
        call = self._call
        if call is None or not call.sources:
            return True
        given = {id(one) for one in (*self._arguments, *self._keywords.values())}
        return not any(source.spent and id(source.given) in given for source in call.sources)

    def failure(self, error: Exception, endpoint: Endpoint, until: float) -> HoldfastError:
        """Return what the function raised, with what it means."""
        settings = self._core.settings
        late = self.caller.clock() >= until
        if late and isinstance(error, TimeoutError) and not error.args:
            return DeadlineExceeded(f"{endpoint.name}: it did not end before the deadline")
        verdict = judged(error, settings.retry_on, settings.retry_on_timeout)
        if late and verdict.late and self._core.driver is not None:
            return DeadlineExceeded(f"{endpoint.name}: it was cancelled at the deadline")
        failure = FunctionFailed(error, verdict.again, verdict.fault)
        self._note_what_was_sent(not verdict.unsafe)
        failure.sent = not verdict.named
        return failure

    def _note_what_was_sent(self, repeatable: bool) -> None:
        """Take note whether an attempt may be made again, by its `Call` and by how it ended."""
        self.idempotent = repeatable and (self._call is None or self._call.unsafe == 0)

    def again(self, outcome: Any) -> bool:
        """Tell whether a response is worth another attempt."""
        if outcome is None or status_of(outcome) not in RETRIED:
            return False
        # An IResponse tells its method, but not whether its request was allowed to be repeated.
        known = isinstance(outcome, Response) or self._call is None
        self._note_what_was_sent(not known or is_repeatable(outcome))
        return True

    def healthy(self, outcome: Any) -> bool:
        """Tell whether a response speaks for its server's health."""
        status = None if outcome is None else status_of(outcome)
        return status is None or status < 500

    def overloaded(self, outcome: Any) -> bool:
        """Tell whether a response says that its server has too much to do."""
        return status_of(outcome) in (429, 503)

    def status(self, outcome: Any) -> int | None:
        """Return a response's status."""
        return None if outcome is None else status_of(outcome)

    def wait_asked(self, outcome: Any) -> float:
        """Return the seconds of a response's Retry-After."""
        if isinstance(outcome, Response):
            return retry_after(outcome)
        from holdfast.calls.twisted_responses import wait_asked

        return wait_asked(outcome)

    def bad(self, outcome: Any) -> Exception | None:
        """Return the error that a response is."""
        if outcome is None or not failed_status(status_of(outcome)):
            return None
        if isinstance(outcome, Response):
            try:
                outcome.raise_for_status()
            except HoldfastError as error:
                return error
            return None
        from holdfast.calls.twisted_responses import error_of

        return error_of(outcome)

    def drop(self, outcome: Any) -> None:
        """Let go of a response that nobody will see."""
        if isinstance(outcome, Response):
            if outcome.reader is not None:
                outcome.reader.close()
        elif status_of(outcome) is not None:
            from holdfast.calls.twisted_responses import drop

            drop(outcome)

    def give_up(self, error: HoldfastError, why: str) -> Exception:
        """Return what the function raised, with its attempts, or an error of ours."""
        if not isinstance(error, FunctionFailed):
            return self._core.named(super().give_up(error, why))
        own = error.error
        attempts = tuple(self.made)
        # A call within that failed tells of its own ones, which are closer to the cause.
        if isinstance(own, StatusError) or not (isinstance(own, HoldfastError) and own.attempts):
            _set_attempts(own, attempts)
        if why.startswith(" "):  # a function has no method to name
            why = f"a request{why}"
        if len(attempts) > 1 or why:
            tried = "; ".join(str(attempt) for attempt in attempts)
            count = f"{len(attempts)} attempt{'s' if len(attempts) > 1 else ''}"
            _set_note(own, f"{self._core.name}: {count}", f"{f' ({why})' if why else ''}: {tried}")
        return own


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _set_attempts(error: Exception, attempts: tuple[Attempt, ...]) -> None:
    known: Any = getattr(error, "attempts", ())
    if not isinstance(known, tuple) or not all(isinstance(one, Attempt) for one in known):
        return  # something of its own, by the same name
    try:
        error.attempts = attempts  # type: ignore[attr-defined]
    except AttributeError:
        pass  # it has no room for more


def _set_note(error: Exception, start: str, rest: str) -> None:
    name = start.rpartition(": ")[0]
    notes = getattr(error, "__notes__", None)
    if notes:
        # An exception that is raised again and again would gather one of each call.
        ours = re.compile(rf"{re.escape(name)}: \d+ attempts?[ :]")
        notes[:] = [note for note in notes if not ours.match(note)]
    error.add_note(start + rest)


def _filled(slot: Slot, call: Call, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Any:
    args, kw = slot.fill(call, args, kw)
    return function(*args, **kw)

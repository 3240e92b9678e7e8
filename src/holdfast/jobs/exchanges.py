"""Calls of dispatchers: a request, and its reply or its stream.

What a dispatcher refuses was not carried out, and may be asked of another one. Whatever else goes
wrong after a request was sent leaves open whether it was: such a call of a procedure is repeated
only with the id that the client chose for the job, and only to the same dispatcher, unless all of
them share one store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.cluster.calls import Call
from holdfast.errors import CallTimeout, HoldfastError, NetworkError, ProtocolError
from holdfast.http.failures import translated
from holdfast.http.limits import Timeout
from holdfast.jobs.errors import (
    CommunicationError,
    CommunicationTimeout,
    InvalidCall,
    RemoteError,
)
from holdfast.jobs.fields import Invalid
from holdfast.jobs.messages import SHUTDOWN, End, parse_end
from holdfast.wire.jsonlines import WireError, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cluster.endpoints import Endpoint
    from holdfast.jobs.core import DispatcherCore
    from holdfast.jobs.lines import Lines
    from holdfast.ops import Program

__all__ = ["Exchange", "Opening", "Submission", "failed", "remote_error"]

T = TypeVar("T")

#: Errors that another dispatcher may not have: one stops, the other's disk is full.
_ELSEWHERE = frozenset({SHUTDOWN, "os_error"})


class Refused(NetworkError):
    """A dispatcher refused a request, and another one may not."""

    sent = False
    fault = False

    def __init__(self, message: str, end: End | None = None) -> None:
        super().__init__(message)
        self.end = end


def remote_error(end: End) -> RemoteError:
    """Return the error that a dispatcher, or a host, has told."""
    return RemoteError(end.type, end.message, end.data)


def failed(error: HoldfastError, summary: str) -> CommunicationError:
    """Return what went wrong as a `CommunicationError`."""
    kind = CommunicationTimeout if isinstance(error, CallTimeout) else CommunicationError
    failure = kind(summary)
    failure.sent = error.sent
    failure.retryable = error.retryable
    failure.attempts = error.attempts
    failure.__cause__ = error
    return failure


class DispatcherCall(Call[T]):
    """The call of a dispatcher with a request.

    ``what`` and ``whom`` name it in messages. ``home``: the dispatcher that is asked first;
    ``strangers``: those that are not asked.
    """

    hedgeable = False
    replaceable = False
    failures = (HoldfastError, OSError)
    #: Whether the reply may take as long as it likes.
    patient = False
    caller: DispatcherCore

    def __init__(
        self,
        core: DispatcherCore,
        message: dict[str, Any],
        what: str,
        whom: str,
        home: Endpoint | None = None,
        strangers: Sequence[Endpoint] = (),
    ) -> None:
        retry = core.policy.retry
        # Each dispatcher has its turn.
        attempts = max(retry.attempts, len(core.endpoints.all)) if retry is not None else 1
        super().__init__(core, core.clock(), core.policy.timeout, self._order, attempts)
        self.message = core.signed(message)
        try:
            self.line = encode(self.message)
        except WireError as error:
            raise InvalidCall(f"{what} {whom}: {error}") from None
        self.endpoint = home  # in the end, the one that answered
        self._what = what
        self._whom = whom
        self._home = home
        self._strangers = strangers
        self._pin: Endpoint | None = None  # the only one that may be asked still

    def _order(self) -> list[Endpoint]:
        if self._pin is not None:
            return [self._pin]
        return self.caller.order(self._home, self._strangers)

    def subject(self) -> str:
        """Return what is asked, and of what."""
        return f"{self._what} {self._whom}"

    def name(self) -> tuple[str, str]:
        """Return what is asked, and of what."""
        return self._what, self._whom

    def failure(self, error: Exception, endpoint: Endpoint, until: float) -> HoldfastError:
        """Return what went wrong, with the dispatcher's name."""
        silence = Timeout(total=None, read=self.caller.reply_timeout)
        return translated(error, endpoint.pool, silence, until)

    def give_up(self, error: HoldfastError, why: str) -> Exception:
        """Return the error that the caller gets."""
        if isinstance(error, Refused) and error.end is not None and not self._open_question(error):
            told: HoldfastError = remote_error(error.end)
            told.attempts = tuple(self.made)
            return told
        cause = super().give_up(error, why)
        assert isinstance(cause, HoldfastError)
        failure = failed(error, cause.summary)
        failure.attempts = cause.attempts
        return failure

    def _open_question(self, refused: Refused) -> bool:
        """Tell whether the request may have been carried out before it was refused."""
        return False

    def _wait(self, until: float) -> float:
        """Return until when to wait for the dispatcher now."""
        limit = None if self.patient else self.caller.reply_timeout
        return until if limit is None else min(until, self.caller.clock() + limit)


class Exchange(DispatcherCall[Any]):
    """A request and its reply, an object, which is returned as it is."""

    #: Whether more replies may come, so that the connection carries no other request.
    more = False

    def send(
        self, endpoint: Endpoint, until: float, number: int, started: Any = None
    ) -> Program[Any]:
        """Exchange the request for the reply."""
        reply = yield from self._exchange(endpoint, self.line, until)
        self.endpoint = endpoint
        return reply

    def _exchange(self, endpoint: Endpoint, line: bytes, until: float) -> Program[Any]:
        core = self.caller
        # A kept connection may be closed just now; who cannot ask again needs a new one.
        kept = self.idempotent
        while True:
            lines = yield from core.connect(endpoint, until, kept)
            kept = kept and lines.connection.used
            reply: Any = None
            try:
                yield from lines.send(line, self._wait(until))
                reply = yield from lines.receive(self._wait(until))
                self.check(reply)
            except ConnectionError:
                if not kept or lines.heard:
                    raise
            except Invalid as invalid:
                reply = None
                raise ProtocolError(f"the answer is malformed: {invalid.message}") from None
            finally:
                if reply is None:
                    lines.close()
            if reply is not None:
                if self.more:
                    lines.close()
                else:
                    core.keep(endpoint, lines)
                return reply
            kept = False

    def check(self, reply: Any) -> None:
        """Raise Invalid where the reply is none to this request."""
        if not isinstance(reply, dict):
            raise Invalid("invalid_message", "it must be an object")


class Submission(Exchange):
    """The call of a procedure; returns the job's id.

    ``job_id``: the id that was chosen for the job. A dispatcher of the classic kind refuses it,
    and is then asked without.
    """

    def __init__(
        self, core: DispatcherCore, message: dict[str, Any], whom: str, job_id: str
    ) -> None:
        super().__init__(core, message, "call", whom)
        self.job_id = job_id
        self._line_with_id = encode({**self.message, "id": job_id})

    def check(self, reply: Any) -> None:
        """Raise Invalid for what is neither a job's id nor an error."""
        super().check(reply)
        if "error" in reply:
            parse_end(reply)
        elif not isinstance(reply.get("job_id"), str) or not reply["job_id"]:
            raise Invalid("invalid_message", "it has no job_id")

    def send(
        self, endpoint: Endpoint, until: float, number: int, started: Any = None
    ) -> Program[Any]:
        """Submit the job, with the chosen id if the dispatcher may know such."""
        knows = endpoint.knows_ids  # type: ignore[attr-defined]
        with_id = self.idempotent = knows is not False
        line = self._line_with_id if with_id else self.line
        reply = yield from self._exchange(endpoint, line, until)
        end = parse_end(reply) if "error" in reply else None
        if with_id and knows is None and end is not None and end.type == "invalid_request":
            # It was refused, for its id perhaps, so it was not carried out.
            with_id = self.idempotent = False
            reply = yield from self._exchange(endpoint, self.line, until)
            end = parse_end(reply) if "error" in reply else None
            if end is None:
                endpoint.knows_ids = False  # type: ignore[attr-defined]
        if end is not None:
            refused = Refused(f"{endpoint.name}: {end.type}: {end.message}", end)
            refused.retryable = end.type in _ELSEWHERE
            raise refused
        if with_id:
            # Who gives a job another id than the chosen one ignores what it does not know.
            endpoint.knows_ids = reply["job_id"] == self.job_id  # type: ignore[attr-defined]
        self.endpoint = endpoint
        return reply["job_id"]

    def failure(self, error: Exception, endpoint: Endpoint, until: float) -> HoldfastError:
        """Return what went wrong; where it may have been submitted, nobody else is asked."""
        failure = super().failure(error, endpoint, until)
        if failure.sent and not self.caller.shared:
            self._pin = endpoint
        return failure

    def _open_question(self, refused: Refused) -> bool:
        # Whoever stops now may have taken the job before. What is wrong with a request was so then.
        return refused.retryable and any(_may_be_done(one.error) for one in self.made)

    def give_up(self, error: HoldfastError, why: str) -> Exception:
        """Return the error that the caller gets, with the id of the job that there may be."""
        failure = super().give_up(error, why)
        if isinstance(failure, CommunicationError):
            failure.sent = failure.sent or any(_may_be_done(one.error) for one in self.made)
            if failure.sent and self.idempotent:
                failure.job_id = self.job_id
        return failure


def _may_be_done(error: Exception | None) -> bool:
    return isinstance(error, HoldfastError) and error.sent


class Opening(DispatcherCall["Lines"]):
    """A connection on which a request was sent, whose replies are the caller's to receive.

    Without a message only the connection is made.
    """

    def send(
        self, endpoint: Endpoint, until: float, number: int, started: Any = None
    ) -> Program[Lines]:
        """Connect, and send the request."""
        lines = yield from self.caller.connect(endpoint, until, bool(self.message))
        opened = False
        try:
            if self.message:
                yield from lines.send(self.line, self._wait(until))
            opened = True
        finally:
            if not opened:
                lines.close()
        self.endpoint = endpoint
        return lines

    def drop(self, outcome: Lines) -> None:
        """Close a connection that nobody will use."""
        outcome.close()

"""Waiting for what a job says, for as long as it takes.

A connection may break, or die without a word, while hours pass. It is then made anew, and what was
asked is asked again from where it came to: nothing is lost, nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

from holdfast import ops
from holdfast.errors import (
    DeadlineExceeded,
    HoldfastError,
    NetworkError,
    ProtocolError,
    TooLarge,
    Truncated,
)
from holdfast.http.failures import translated
from holdfast.http.limits import Timeout
from holdfast.jobs.errors import CommunicationError
from holdfast.jobs.exchanges import Opening, failed
from holdfast.jobs.fields import Invalid
from holdfast.jobs.messages import End, NoResult, ResultRequest, parse_result_reply
from holdfast.policy.backoff import exponential
from holdfast.policy.deadline import inherited

if TYPE_CHECKING:
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.jobs.core import DispatcherCore
    from holdfast.jobs.lines import Lines
    from holdfast.ops import Program

__all__ = ["Watching", "wait_for_end"]

#: Seconds between attempts to get a lost connection back: doubled each time, up to a cap.
_AGAIN, _CAP = 0.05, 1.0

_Parse: TypeAlias = Callable[[Any], Any]


class Watching:
    """A request whose replies come when they come, over a connection that may have to be new.

    ``request`` returns what to ask now; ``parse`` makes of a reply what `message` returns, and
    raises Invalid.
    """

    def __init__(
        self,
        core: DispatcherCore,
        what: str,
        job_id: str,
        request: Callable[[], dict[str, Any]],
        parse: _Parse,
        home: Endpoint | None = None,
    ) -> None:
        self.core = core
        self.home = home
        self.job_id = job_id
        self.parse = parse
        self.request = request
        self.lines: Lines | None = None
        self._what = what
        self._lost_at = inf  # when the connection was lost that is missing
        self._losses = 0  # since something came
        self._strangers: list[Endpoint] = []  # who do not know the job
        self.replies = 0  # to the request that was sent last

    def adopt(self, lines: Lines, home: Endpoint | None = None) -> None:
        """Go on with a connection on which the request was sent already."""
        self.lines, self.home = lines, home

    def close(self) -> None:
        """Close the connection, if there is one."""
        lines, self.lines = self.lines, None
        if lines is not None:
            lines.close()

    def over(self) -> None:
        """Let go of the connection on which all was said, for other requests."""
        lines, self.lines = self.lines, None
        if lines is None:
            return
        if self.home is None:
            lines.close()
        else:
            self.core.keep(self.home, lines)

    def message(self) -> Program[Any]:
        """Return the next reply; raises CommunicationError where the connection is lost for good.

        A dispatcher that does not know the job is passed over where another one may.
        """
        while True:
            lines = yield from self._opened()
            message: Any = None
            try:
                until = self.core.until(self.core.patience)
                message = self.parse((yield from lines.receive(until)))
            except Invalid as invalid:
                error = ProtocolError(f"the answer is malformed: {invalid.message}")
                raise self._failed(error) from None
            except (OSError, HoldfastError) as error:
                kept = lines.connection.used and not lines.heard
                if not (kept and isinstance(error, ConnectionError)):  # it was closed meanwhile
                    yield from self._lost(error)
            finally:
                if message is None:
                    self.close()
            if message is None:
                continue
            self.replies += 1
            if self.replies == 1 and isinstance(message, End) and message.type == "invalid_jobid":
                self.over()
                if self._someone_else():
                    continue
            self._lost_at, self._losses = inf, 0
            return message

    def _someone_else(self) -> bool:
        """Note that the dispatcher does not know the job; tell whether another one may."""
        if self.home is not None:
            self._strangers.append(self.home)
            self.home = None
        return not self.core.shared and bool(self.core.order(None, self._strangers))

    def _opened(self) -> Program[Lines]:
        """Return the connection, on which the request was sent."""
        core = self.core
        while self.lines is None:
            call = Opening(
                core, self.request(), self._what, self.job_id, self.home, self._strangers
            )
            try:
                self.lines = yield from call.run()
            except CommunicationError as error:
                # Where nobody ever was, nobody is expected.
                if not core.met or isinstance(error.__cause__, DeadlineExceeded):
                    raise
                self._lost_at = min(self._lost_at, core.clock())
                yield from self._pause(error)
            else:
                self.home = call.endpoint
                self.replies = 0
        return self.lines

    def _lost(self, error: Exception) -> Program[None]:
        """Return where it is worthwhile to ask again; raise the error otherwise."""
        self.close()
        core = self.core
        now = core.clock()
        if isinstance(error, TimeoutError) and not isinstance(error, HoldfastError):
            if now < inherited(core.clock):
                return  # all is silent, so perhaps nobody is there
            raise self._failed(DeadlineExceeded(f"{self._where()}: the deadline is over")) from None
        garbage = isinstance(error, ProtocolError) and not isinstance(error, Truncated)
        if garbage or isinstance(error, TooLarge):
            raise self._failed(error) from error
        self._lost_at = min(self._lost_at, now)
        failure = self._failed(error)
        if not self.replies:  # it takes connections, but answers nothing
            self.home = self._next_after(self.home)
        yield from self._pause(failure)

    def _next_after(self, home: Endpoint | None) -> Endpoint | None:
        """Return the dispatcher to ask instead."""
        order = self.core.order(None, self._strangers)
        if home not in order:
            return None
        return order[(order.index(home) + 1) % len(order)]

    def _pause(self, error: CommunicationError) -> Program[None]:
        """Wait before another attempt to connect; raise the error when there were enough."""
        core = self.core
        now = core.clock()
        wait = exponential(_AGAIN, 2.0, self._losses, _CAP) * (0.5 + core.random() / 2)
        self._losses += 1
        if now + wait >= min(self._lost_at + core.reconnect, inherited(core.clock)):
            raise error
        yield ops.Sleep(now + wait)

    def _failed(self, error: Exception) -> CommunicationError:
        if isinstance(error, CommunicationError):
            return error
        if self.home is not None:
            error = translated(error, self.home.pool, Timeout(total=None), inf)
        elif not isinstance(error, HoldfastError):
            error = NetworkError(str(error) or type(error).__name__)
        assert isinstance(error, HoldfastError)
        return failed(error, f"{self._what} {self.job_id}: {error.summary}")

    def _where(self) -> str:
        return self.home.name if self.home is not None else "the dispatcher"


def wait_for_end(
    core: DispatcherCore, job_id: str, home: Endpoint | None
) -> Program[tuple[End, Endpoint | None]]:
    """Wait until a job has ended; returns how, and the dispatcher that knew."""
    message = ResultRequest(job_id).to_message()
    watching = Watching(core, "get_result", job_id, lambda: message, parse_result_reply, home)
    try:
        end = yield from watching.message()
        if isinstance(end, NoResult):
            raise watching._failed(ProtocolError("the answer is malformed: it should have waited"))
        watching.over()
        return end, watching.home
    finally:
        watching.close()

"""Waiting for what a job says, for as long as it takes.

A connection may break, or die without a word, while hours pass. It is then made anew, and what was
asked is asked again from where it came to: nothing is lost, nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

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
from holdfast.jobs.exchanges import Opening, failed, remote_error
from holdfast.jobs.fields import Invalid
from holdfast.jobs.messages import (
    REFUSALS,
    SHUTDOWN,
    Continue,
    End,
    FollowRequest,
    NoResult,
    Packet,
    ReadRequest,
    ResultRequest,
    parse_result_reply,
    parse_stream_reply,
)
from holdfast.policy.backoff import exponential
from holdfast.policy.deadline import inherited
from holdfast.wire.jsonlines import WireError, decode

if TYPE_CHECKING:
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.jobs.core import DispatcherCore
    from holdfast.jobs.lines import Lines
    from holdfast.ops import Program

__all__ = ["Following", "StreamMode", "Watching", "wait_for_end"]

StreamMode: TypeAlias = Literal["follow", "read"]

#: Seconds between attempts to get a lost connection back: doubled each time, up to a cap.
_AGAIN, _CAP = 0.05, 1.0

#: What a dispatcher refuses a request with. A job of a host that stops ends with ``shutdown``.
_REFUSED = REFUSALS - {SHUTDOWN}

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
        self._first = True  # whether the reply that comes is the first to a request

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
        """Return the next reply.

        Raises CommunicationError where the connection is lost for good, and RemoteError where the
        request is refused.
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
                yield from self._lost(error)
            finally:
                if message is None:
                    self.close()
            if message is None:
                continue
            first, self._first = self._first, False
            if first and isinstance(message, End) and message.type in _REFUSED:
                self.over()
                if message.type != "invalid_jobid" or not self._someone_else():
                    raise remote_error(message)
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
                if self._lost_at == inf or not _may_come_back(error):
                    raise
                yield from self._pause(error)
            else:
                self.home = call.endpoint
                self._first = True
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
        if self._lost_at == inf:
            self._lost_at = now
        failure = self._failed(error)
        if self._first:  # it takes connections, but answers nothing
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


def _may_come_back(error: CommunicationError) -> bool:
    """Tell whether a dispatcher that cannot be reached may be there soon."""
    return not isinstance(error.__cause__, DeadlineExceeded)


class Following(Watching):
    """A job's stream: its packets, in order and without gaps, to its end.

    ``mode``: ``"follow"`` it to the job's end, or ``"read"`` what is there. From number ``since``
    on, or from ``recent`` packets before now; neither is ``recent`` 0, or ``since`` 0.
    """

    def __init__(
        self,
        core: DispatcherCore,
        job_id: str,
        mode: StreamMode,
        since: int | None = None,
        recent: int | None = None,
        home: Endpoint | None = None,
    ) -> None:
        super().__init__(core, f"{mode}_stream", job_id, self._ask, parse_stream_reply, home)
        self.position = since  # of the packet that comes next, None as long as nobody knows
        self._mode = mode
        self._recent = recent
        self._skip = False  # whether the next packet is only there for its number
        if mode == "read" and since is None and recent is None:
            self.position = 0
        # Where nobody knows how many packets there are, a stream that breaks off before the first
        # one could not be taken up again. So it is read first, and then followed.
        self._first_read = mode == "follow" and self.position is None
        if self._first_read and not recent:
            self._recent, self._skip = 1, True

    def adopt(self, lines: Lines, home: Endpoint | None = None) -> None:
        """Go on with a connection on which the request was sent already."""
        super().adopt(lines, home)
        self._first_read = self._skip = False

    def begin(self) -> Program[None]:
        """Ask now, so that the stream is that from now on."""
        if self.lines is not None:
            return
        while self._skip and self._end is None:
            message = yield from self.message()
            if isinstance(message, End):
                self._end = message
            else:
                self._taken(message)
        if self._end is None:
            yield from self._opened()

    def _ask(self) -> dict[str, Any]:
        if self._mode == "follow" and not self._first_read:
            if self.position is None:
                lost = "the connection was lost before the first packet"
                raise self._failed(NetworkError(f"{self._where()}: {lost}"))
            return FollowRequest(self.job_id, self.position).to_message()
        if self.position is not None:
            return ReadRequest(self.job_id, self.position).to_message()
        return ReadRequest(self.job_id, None, self._recent).to_message()

    def next(self) -> Program[Packet | None]:
        """Return the next packet, None at the end."""
        while True:
            packet = self._taken((yield from self.message()))
            if packet is not False:
                return packet

    def next_ready(self) -> Packet | None:
        """Return the next packet if it has come already, else None: then ask `next`.

        This is the quick way. Whatever is out of the ordinary is left to the other one.
        """
        lines = self.lines
        if lines is None or not lines.pending or self._skip:
            return None
        try:
            message = decode(lines.pending[0])
        except WireError:
            return None
        number = self.position
        if message.__class__ is dict and len(message) == 2 and "data" in message:
            found = message.get("packet")
            if found == number and found.__class__ is int:
                lines.pending.popleft()
                self.position = found + 1
                return Packet(found, message["data"])
        return None

    def message(self) -> Program[Any]:
        """Return the next reply; see `Watching`."""
        end, self._end = self._end, None
        if end is not None:
            return end
        return (yield from super().message())

    _end: Any = None  # what `begin` came upon

    def _taken(self, message: Packet | End | Continue) -> Packet | Literal[False] | None:
        """Return a packet that is to be given out, None at the end, False to go on."""
        if isinstance(message, Packet):
            number = message.number
            if self.position is not None and number != self.position:
                self.close()
                wrong = f"packet {number} came where {self.position} was to come"
                raise self._failed(ProtocolError(f"the answer is malformed: {wrong}"))
            self.position = number + 1
            skipped, self._skip = self._skip, False
            return False if skipped else message
        self.over()
        if isinstance(message, End) and message.type == "invalid_jobid":
            raise remote_error(message)  # pruned meanwhile: no job ends like this
        if isinstance(message, Continue) and self._first_read:
            self._first_read = self._skip = False
            if self.position is None:
                self.position = 0
            return False
        return None


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

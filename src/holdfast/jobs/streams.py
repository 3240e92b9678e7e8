"""A job's packets, in order and without gaps, over however many connections it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from holdfast.errors import NetworkError, ProtocolError
from holdfast.jobs.exchanges import Exchange, remote_error
from holdfast.jobs.messages import (
    REFUSALS,
    SHUTDOWN,
    Continue,
    End,
    FollowRequest,
    Packet,
    ReadRequest,
    StatusRequest,
    parse_stream_reply,
)
from holdfast.jobs.watching import Watching
from holdfast.wire.jsonlines import WireError, decode

if TYPE_CHECKING:
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.jobs.core import DispatcherCore
    from holdfast.jobs.lines import Lines
    from holdfast.ops import Program

__all__ = ["Following", "StreamMode"]

StreamMode: TypeAlias = Literal["follow", "read"]

_UNKNOWN = "invalid_jobid"

#: Errors of a dispatcher that are also ends of jobs, where a host has said so: the first reply to a
#: request may be either. Who asks for a stream is never answered ``shutdown``.
_DOUBTFUL = (REFUSALS - {SHUTDOWN}) | {"system_error"}


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
        message = yield from super().message()
        if self.replies == 1 and isinstance(message, End) and message.type in _DOUBTFUL:
            self.over()
            unknown = message.type == _UNKNOWN
            if unknown or not (yield from self._has_ended()):
                raise remote_error(message)
        return message

    def _has_ended(self) -> Program[bool]:
        """Ask whether the job has ended; who is refused its stream is refused this as well."""
        home = self.home
        others = [one for one in self.core.endpoints.all if home not in (None, one)]
        question = StatusRequest(self.job_id).to_message()
        call = Exchange(self.core, question, "get_status", self.job_id, home, others)
        reply = yield from call.run()
        times = reply.get("time")
        return isinstance(times, dict) and times.get("end") is not None

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
        if isinstance(message, End) and message.type == _UNKNOWN:
            raise remote_error(message)  # pruned meanwhile: no job ends like this
        if isinstance(message, Continue) and self._first_read:
            self._first_read = self._skip = False
            if self.position is None:
                self.position = 0
            return False
        return None

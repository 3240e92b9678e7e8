"""What names a remote procedure, for the blocking and the asynchronous client alike.

Attributes that Python itself looks for (``__copy__``, ``__array__``) are no names of hosts or
procedures, so that copies, pickles and tools that look at objects work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.jobs.asking import call_message, get_end, get_status
from holdfast.jobs.errors import CommunicationError, InvalidCall
from holdfast.jobs.fields import INTEGER_LIMIT
from holdfast.jobs.streams import Following

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from holdfast.cluster.endpoints import Endpoint
    from holdfast.jobs.connections import BaseConnection
    from holdfast.jobs.core import DispatcherCore
    from holdfast.jobs.messages import End, NoResult
    from holdfast.jobs.streams import StreamMode
    from holdfast.ops import Program

__all__ = [
    "OPTIONS",
    "BaseCall",
    "BaseIterator",
    "BaseProcedure",
    "BaseServer",
    "name_of",
    "options_of",
    "refuse_dunder",
]

#: The options of a job.
OPTIONS = ("queue", "concurrency", "timeout", "max_exec_time", "info")


def refuse_dunder(owner: object, name: str) -> None:
    """Raise AttributeError for a name that is Python's own."""
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}")


def options_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a job; raises TypeError for unknown names, InvalidCall for values."""
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise TypeError(f"unknown option of a job: {', '.join(unknown)}")
    for name in ("concurrency", "timeout", "max_exec_time"):
        value = options.get(name)
        if value is None:
            continue
        if value.__class__ is not int or not 0 < value <= INTEGER_LIMIT:
            raise InvalidCall(f"{name} must be a positive whole number, not {value!r}")
    queue = options.get("queue")
    if queue is not None and not isinstance(queue, dict):
        raise InvalidCall(f"queue must be a dict, not {type(queue).__name__}")
    return dict(options)


def name_of(what: str, value: Any) -> str:
    """Return a name of a host, a procedure or a job; raises InvalidCall for what is none."""
    if not isinstance(value, str) or not value:
        raise InvalidCall(f"{what} must be a string that is not empty, not {value!r}")
    return value


class BaseServer:
    """A server that procedures are called on, with the options of their jobs."""

    def __init__(self, dispatcher: Any, hostname: str) -> None:
        self._dispatcher = dispatcher
        self._hostname = name_of("host", hostname)
        self._options: dict[str, Any] = {}

    def __str__(self) -> str:
        return self._hostname

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._hostname!r}>"

    def __call__(self, **options: Any) -> Self:
        """Set options of the jobs of this object, and return it.

        ``queue``: the name of a queue to wait in, a dict; ``concurrency``: how many of its jobs
        run at once; ``timeout``: the longest silence of the job, and ``max_exec_time``: the
        longest that it may take, in seconds; ``info``: what else is to be known of the job. None
        takes an option back.
        """
        self._options.update(options_of(options))
        return self


class BaseProcedure:
    """A procedure on a server; calling it submits a job."""

    def __init__(self, dispatcher: Any, server: BaseServer, procedure: str) -> None:
        self._dispatcher = dispatcher
        self._server = server
        self._procedure = name_of("procedure", procedure)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._server}.{self._procedure}>"

    def host(self) -> str:
        """Return the name of the server that the procedure will be called on."""
        return str(self._server)

    def procedure(self) -> str:
        """Return the name of the procedure."""
        return self._procedure

    def _message(self, arguments: list[Any] | dict[str, Any]) -> dict[str, Any]:
        options = self._server._options
        return call_message(str(self._server), self._procedure, arguments, options)


class BaseCall:
    """A job, by its identifier."""

    def __init__(self, dispatcher: Any, job_id: str) -> None:
        self._dispatcher = dispatcher
        self._job_id = name_of("job_id", job_id)
        self._home: Endpoint | None = None  # the dispatcher that is known to have it
        self._known: dict[str, Any] | None = None  # the last status

    @classmethod
    def at(cls, dispatcher: Any, job_id: str, home: Endpoint | None) -> Self:
        """Return a job that a dispatcher is known to have."""
        call = cls(dispatcher, job_id)
        call._home = home
        return call

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._job_id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._dispatcher, self._job_id)

    def id(self) -> str:
        """Return the job's identifier, by which `HarpCaller.job` finds it at any later time."""
        return self._job_id

    @property
    def _core(self) -> DispatcherCore:
        return self._dispatcher._core  # type: ignore[no-any-return]

    def _status(self, enough: Callable[[dict[str, Any]], bool]) -> Program[dict[str, Any]]:
        """Return the job's status; the last one that is known, where that says enough."""
        known = self._known
        if known is None or not enough(known):
            known, self._home = yield from get_status(self._core, self._job_id, self._home)
            self._known = known
        return known

    def _end(self, wait: bool) -> Program[End | NoResult]:
        end, self._home = yield from get_end(self._core, self._job_id, self._home, wait)
        return end

    def _following(self, mode: StreamMode, since: int | None, recent: int | None) -> Following:
        if since is not None and recent is not None:
            raise InvalidCall("since and recent cannot both be given")
        for name, value in (("since", since), ("recent", recent)):
            if value is not None and (
                value.__class__ is not int or not 0 <= value <= INTEGER_LIMIT
            ):
                raise InvalidCall(f"{name} must be a whole number from 0, not {value!r}")
        return Following(self._core, self._job_id, mode, since, recent, self._home)

    def _call(self, name: str) -> Program[Any]:
        return (yield from self._status(_always))["call"][name]

    def _info(self) -> Program[Any]:
        return (yield from self._status(_always))["info"]

    def _submitted(self) -> Program[int]:
        return (yield from self._status(_always))["time"]["submit"]  # type: ignore[no-any-return]

    def _time(self, name: str) -> Program[int | None]:
        status = yield from self._status(lambda known: known["time"][name] is not None)
        return status["time"][name]  # type: ignore[no-any-return]


class BaseIterator:
    """An iterator over a job's packets.

    ``conn``: a connection on which the stream was asked for. ``numbered``: whether it yields
    pairs of a packet's number and the packet. A lost connection is made anew, and the stream goes
    on at the next packet.
    """

    def __init__(
        self,
        remote_call: BaseCall,
        conn: BaseConnection | None,
        numbered: bool = False,
        *,
        following: Following | None = None,
    ) -> None:
        self.numbered = numbered
        self._over = False
        core = remote_call._core
        self._following = following or Following(core, remote_call.id(), "follow")
        if conn is not None:
            lines, conn._link.lines = conn._link.lines, None
            if lines is None:
                raise CommunicationError("the connection is closed")
            self._following.adopt(lines)

    def _end(self) -> None:
        """Give no more packets, and close the connection."""
        self._over = True
        self._following.close()

    def __del__(self) -> None:
        if "_following" in self.__dict__:
            self._following.close()


def _always(known: dict[str, Any]) -> bool:
    return True

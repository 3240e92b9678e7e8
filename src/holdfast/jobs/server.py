"""Procedures on a host daemon, called directly: each call blocks until the procedure has ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from holdfast.drivers import blocking
from holdfast.jobs.host_calls import HostCall, HostCore
from holdfast.jobs.messages import HOST_PORT, REPLY_LIMIT
from holdfast.jobs.places import CAFile
from holdfast.jobs.remote import name_of, refuse_dunder
from holdfast.jobs.results import Result
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from holdfast.http.tls import CertTypes

__all__ = [
    "BaseHarpProcedure",
    "BaseHarpServer",
    "HarpProcedure",
    "HarpServer",
    "HarpStreamIterator",
]


class BaseHarpServer:
    """What the blocking and the asynchronous class have in common."""

    def __init__(
        self,
        host: str,
        user: str,
        password: str,
        port: int = HOST_PORT,
        ca_file: CAFile = None,
        *,
        cert: CertTypes = None,
        connect_timeout: float | None = 5.0,
        reply_timeout: float | None = 30.0,
        timeout: float | None = None,
        max_line: int = REPLY_LIMIT,
    ) -> None:
        self._settings = dict(locals())  # the arguments, as there is nothing else yet
        del self._settings["self"]
        self._core = HostCore(**self._settings)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.pool.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self._settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(**self._settings)


def _again(kind: type[BaseHarpServer], settings: dict[str, Any]) -> BaseHarpServer:
    return kind(**settings)


class BaseHarpProcedure:
    """What the blocking and the asynchronous class have in common."""

    def __init__(self, server: BaseHarpServer, name: str) -> None:
        self._server = server
        self._name = name_of("procedure", name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name} at {self._server._core.pool.name}>"


class HarpServer(BaseHarpServer):
    """A host daemon; any attribute is a procedure, to be called.

    ``user``, ``password``: who calls. ``ca_file``: the certificates that the host's is verified
    against, and its name, too; None verifies nothing, so that whoever answers learns the password.
    ``cert``: the client's own certificate, as in requests.

    ``connect_timeout``: seconds for connecting. ``reply_timeout``: until the host says whether it
    takes the call. ``timeout``: the longest silence after that; a procedure may say nothing until
    it has ended, so by default there is no limit. ``max_line``: the most bytes in a result or a
    packet.
    """

    def __getattr__(self, procedure: str) -> HarpProcedure:
        refuse_dunder(self, procedure)
        return HarpProcedure(self, procedure)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: each call has a connection of its own."""


class HarpProcedure(BaseHarpProcedure):
    """A procedure on a host: ``HarpProcedure(server, name)``."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the procedure, with positional arguments or with named ones, once.

        Returns its result, or a `HarpStreamIterator` where it streams. Raises RemoteException
        where it raised, RemoteError where the host refused or could not go on, CommunicationError,
        and InvalidCall; all are HarpExceptions.
        """
        found = blocking.run(self._server._core.call(self._name, args, kwargs))
        return HarpStreamIterator(_Values(found)) if isinstance(found, HostCall) else found


class _Values(Iterator[Any]):
    """The packets of a call, and its `Result`."""

    def __init__(self, call: HostCall) -> None:
        self._call: HostCall | None = call

    def __next__(self) -> Any:
        if self._call is None:
            raise StopIteration
        more = False
        try:
            reply = blocking.run(self._call.next())
            more = not isinstance(reply, Result)
        finally:
            if not more:
                self.close()
        return reply if isinstance(reply, Result) else reply.data

    def close(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.close()

    def __del__(self) -> None:
        self.close()


class HarpStreamIterator(Closing):
    """An iterator over what a procedure streams, and a context manager.

    ``orig_iterator``: the iterator that it wraps. It yields values of JSON, and last a `Result`.
    Closing it before that cancels the call.
    """

    def __init__(self, orig_iterator: Iterator[Any]) -> None:
        self._iterator = orig_iterator

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._iterator)

    def close(self) -> None:
        """End the call."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()

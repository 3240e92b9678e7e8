"""Servers, procedures and jobs, for programs that wait on their thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.drivers import blocking
from holdfast.jobs.asking import arguments_of, cancel, outcome, submit, value_of
from holdfast.jobs.errors import CommunicationError, RemoteError
from holdfast.jobs.remote import (
    BaseCall,
    BaseIterator,
    BaseProcedure,
    BaseServer,
    refuse_dunder,
)
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from typing import Self

    from holdfast.jobs.streams import StreamMode

__all__ = ["RemoteCall", "RemoteProcedure", "RemoteServer"]


class RemoteServer(BaseServer):
    """A server that procedures are called on: ``RemoteServer(dispatcher, hostname)``.

    Any attribute is a procedure; calling the object itself sets options for the jobs. `str` of it
    is the server's name.
    """

    def __getattr__(self, procedure: str) -> RemoteProcedure:
        refuse_dunder(self, procedure)
        return RemoteProcedure(self._dispatcher, self, procedure)


class RemoteProcedure(BaseProcedure):
    """A procedure on a server: ``RemoteProcedure(dispatcher, server, procedure)``."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> RemoteCall:
        """Submit a job that calls the procedure, with positional arguments or with named ones.

        Raises InvalidCall where the arguments or options make no call, RemoteError where the
        dispatcher refuses it, and CommunicationError. A job is submitted once: where it is not
        certain whether it was, the request is repeated only if that cannot make another job of it.
        """
        program = submit(self._dispatcher._core, self._message(arguments_of(args, kwargs)))
        return RemoteCall.at(self._dispatcher, *blocking.run(program))


class RemoteCall(BaseCall):
    """A job: ``RemoteCall(dispatcher, job_id)``. It can be asked about, followed and cancelled.

    All methods but `id` raise RemoteError where the dispatcher refuses, as for a job that it does
    not know, and CommunicationError.
    """

    class StreamIterator(BaseIterator, Closing):
        """An iterator over a job's packets, and a context manager.

        ``conn``: a connection on which the stream was asked for. ``numbered``: whether it yields
        pairs of a packet's number and the packet. A lost connection is made anew, and the stream
        goes on at the next packet.
        """

        def __iter__(self) -> Self:
            return self

        def __next__(self) -> Any:
            if self._over:
                raise StopIteration
            following = self._following
            packet = following.next_ready()
            if packet is None:
                packet = blocking.run(following.next())
            if packet is None:
                self._over = True
                raise StopIteration
            return (packet.number, packet.data) if self.numbered else packet.data

        def all(self) -> list[Any]:
            """Return all packets that are left, as a list."""
            return list(self)

        def close(self) -> None:
            """End the iteration, and close the connection; the job goes on."""
            self._end()

    def cancel(self) -> bool:
        """Cancel the job; returns whether it was still queued or running."""
        return blocking.run(cancel(self._core, self._job_id, self._home))

    def get(self, wait: bool = True) -> Any:
        """Return the job's result, after waiting for it.

        Without ``wait`` it is `CALL_NOT_FINISHED` while the job runs. Raises RemoteException where
        the procedure raised, RemoteError where the system failed, CancelledException where the job
        was cancelled, and CommunicationError.
        """
        return value_of(blocking.run(self._end(wait)), self._job_id)

    def result(self, wait: bool = False) -> Any:
        """Return what the job came to, however it ended.

        A result, `CALL_NOT_FINISHED`, `CALL_CANCELLED`, or an exception that is returned and not
        raised: RemoteException, RemoteError, or CommunicationError.
        """
        try:
            return outcome(blocking.run(self._end(wait)))
        except (CommunicationError, RemoteError) as error:
            return error

    def follow(
        self, since: int | None = None, recent: int | None = None, numbered: bool = False
    ) -> StreamIterator:
        """Iterate over the packets of the job, as they come, until it ends.

        ``since``: from the packet with this number on; ``recent``: from so many packets before
        now; neither is from now on. ``numbered``: yield pairs of number and packet.
        """
        return self._iterator("follow", since, recent, numbered)

    def stream(
        self, since: int | None = None, recent: int | None = None, numbered: bool = False
    ) -> StreamIterator:
        """Iterate over the packets that the job has sent so far; see `follow`.

        Neither ``since`` nor ``recent`` is from the first packet on.
        """
        return self._iterator("read", since, recent, numbered)

    def _iterator(
        self, mode: StreamMode, since: int | None, recent: int | None, numbered: bool
    ) -> StreamIterator:
        following = self._following(mode, since, recent)
        blocking.run(following.begin())
        return self.StreamIterator(self, None, numbered, following=following)

    def host(self) -> str:
        """Return the name of the server that the job is for."""
        return blocking.run(self._call("host"))  # type: ignore[no-any-return]

    def procedure(self) -> str:
        """Return the name of the procedure that the job calls."""
        return blocking.run(self._call("procedure"))  # type: ignore[no-any-return]

    def args(self) -> Any:
        """Return the arguments: a list, or a dict where they have names."""
        return blocking.run(self._call("arguments"))

    def info(self) -> Any:
        """Return the ``info`` that the job was submitted with, or None."""
        return blocking.run(self._info())

    def submit_time(self) -> int:
        """Return when the job was submitted, in Unix seconds."""
        return blocking.run(self._submitted())

    def start_time(self) -> int | None:
        """Return when the job was started, in Unix seconds; None if it was not."""
        return blocking.run(self._time("start"))

    def end_time(self) -> int | None:
        """Return when the job ended, in Unix seconds; None if it did not yet."""
        return blocking.run(self._time("end"))

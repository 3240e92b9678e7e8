"""How streams are connected on a Twisted reactor."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import ClientFactory

from holdfast.drivers.sockets import connect_unix
from holdfast.drivers.twisted_streams import Stream
from holdfast.drivers.twisted_waits import Timed

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IConnector
    from twisted.python.failure import Failure

    from holdfast import ops
    from holdfast.drivers.twisted_tasks import Task

__all__ = ["Dialing", "os_error"]


class Dialing(Timed, ClientFactory):
    """A wait for a connection."""

    noisy = False  # its comings and goings are not worth a line in the log

    def __init__(self, task: Task, operation: ops.Connect) -> None:
        super().__init__(task, operation.deadline)
        self._operation = operation
        self._connector: Any = None
        self._stream: Stream | None = None

    def begin(self) -> Any:
        """Have the task wait; a Unix socket connects, or fails, at once."""
        family, address = self._operation.address
        source = self._operation.source
        reactor = self.driver.reactor
        if family == socket.AF_UNIX:
            return self._connect_unix(address, source)
        if source is not None:
            # Twisted leaves a socket that it cannot bind to the garbage collector.
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind(source)
        host = address[0]
        if family == socket.AF_INET6 and len(address) > 3 and address[3]:
            host = f"{host.partition('%')[0]}%{address[3]}"
        self._connector = reactor.connectTCP(
            host, address[1], self, timeout=None, bindAddress=source
        )
        return super().begin()

    def _connect_unix(self, address: Any, source: Any) -> Stream:
        # Not by `connectUNIX`, which tries without a pause when the listener's queue is full.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if source is not None:
                sock.bind(source)
            connect_unix(sock, address)
            self.driver.reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, self)
        finally:
            sock.close()  # the reactor has a descriptor of its own
        assert self._stream is not None
        return self._stream

    def give_up(self) -> None:
        """Connect no more."""
        self.end()
        self._connector.disconnect()

    def expire(self) -> None:
        """Connect no more, and raise TimeoutError in the task."""
        task = self.end()
        self._connector.disconnect()
        task.fail(TimeoutError())

    # What the reactor and the stream call.

    def buildProtocol(self, addr: IAddress | None) -> Stream:
        """Make the stream."""
        return Stream(self.driver, self)

    def connected(self, stream: Stream) -> None:
        """Go on with the stream."""
        if self.task is None:
            stream.close()
        elif self._connector is None:
            self._stream = stream
        else:
            self.end().resume(stream)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Raise in the task what the system said."""
        if self.task is not None:
            self.end().fail(os_error(reason.value))


def os_error(error: BaseException | None) -> Exception:
    """Return an error of connecting as the system words it."""
    if isinstance(error, OSError):
        return error
    number = getattr(error, "osError", None) or next(iter(getattr(error, "args", ())), None)
    if isinstance(number, int) and number > 0:
        return OSError(number, os.strerror(number))
    return ConnectionError(str(error))

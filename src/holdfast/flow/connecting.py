"""`Connector`: a TCP connection that never blocks, stepped by its owner.

Theory of operation: the connection is *opened* when a socket was asked for, *accepted* when TCP
has it, *connected* when it can carry data, and *cutoff* when the other side has closed it or it
broke. What is to be sent waits in ``txbs``, what came in ``rxbs``; the ``service…`` methods move
what moves without waiting. Nothing is raised for what the network does: ``error`` tells.

Host names that are not addresses are looked up by the system's resolver, which can only block; so
it does, in a thread of its own that ends with the look-up.
"""

from __future__ import annotations

import errno
import os
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from holdfast.drivers.lookups import Lookup
from holdfast.errors import InvalidRequest
from holdfast.flow.targets import split_host
from holdfast.flow.tyming import Tymee, Tymer
from holdfast.http.origins import Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.ops import Address

__all__ = ["Connector", "WireLogTypes"]

#: How often one turn sends or receives before others have theirs.
_TURN = 16

_CONNECTING = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK, errno.EINTR})


class WireLogTypes(Protocol):
    """What is told of every byte; ``who`` is the address of the other side."""

    def writeRx(self, data: Any, who: Any = ...) -> Any:
        """Note what was received."""

    def writeTx(self, data: Any, who: Any = ...) -> Any:
        """Note what was sent."""


class Connector(Tymee):
    """One TCP connection to ``host`` and ``port``, or to the pair ``ha``.

    ``tymeout``: seconds before a connection that was cut or refused is opened again, when it is
    ``reconnectable`` (0: never). ``bs``: bytes to receive at once. ``txbs``, ``rxbs``: buffers to
    use instead of new ones. ``wl``: a wire log. ``tymth``: gives the time; the system's monotonic
    clock until one is wound in. ``name`` and ``uid`` are the owner's.
    """

    #: Seconds before a connection is opened again: never.
    Tymeout = 0.0
    Reconnectable = False

    #: What the socket raises when it would have to wait.
    Again: ClassVar[tuple[type[OSError], ...]] = (BlockingIOError, InterruptedError)

    def __init__(
        self,
        tymeout: float | None = None,
        ha: tuple[str, int] | None = None,
        host: str = "127.0.0.1",
        port: int = 56000,
        reconnectable: bool | None = None,
        bs: int = 8096,
        txbs: bytearray | None = None,
        rxbs: bytearray | None = None,
        wl: WireLogTypes | None = None,
        tymth: Callable[[], float] | None = None,
        name: str = "",
        uid: Any = 0,
    ) -> None:
        super().__init__(tymth=tymth or monotonic)
        self.name = name
        self.uid = uid
        self.tymeout = self.Tymeout if tymeout is None else tymeout
        self.reconnectable = self.Reconnectable if reconnectable is None else bool(reconnectable)
        self.tymer = Tymer(tymth=self.tymth, duration=self.tymeout)
        self.bs = bs
        self.txbs = txbs if txbs is not None else bytearray()
        self.rxbs = rxbs if rxbs is not None else bytearray()
        self.wl = wl
        self.reinitHostPort(ha, host, port)
        self.opened = False
        #: Whether the connection can carry data, or could until it was cut.
        self.connected = False
        self.cutoff = False
        self.error = ""
        #: Whether the connection ended without the other side having closed it in good order.
        self.abrupt = False
        self.cs: Any = None
        self.ca: tuple[Any, Any] = (None, None)
        self._accepted = False
        self._lookup: Lookup | None = None
        self._addresses: list[Address] = []

    def __repr__(self) -> str:
        state = self.error or (
            "cut off"
            if self.cutoff
            else "connected"
            if self.connected
            else "opened"
            if self.opened
            else "closed"
        )
        return f"<{type(self).__name__} {self.where} {state}>"

    @property
    def host(self) -> str:
        """The host's name or address."""
        return self.ha[0]

    @property
    def port(self) -> int:
        """The host's port."""
        return self.ha[1]

    @property
    def where(self) -> str:
        """Host and port, as errors name them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def accepted(self) -> bool:
        """Whether TCP has a connection."""
        return self._accepted

    @property
    def recoverable(self) -> bool:
        """Whether a connection that is lost is opened again by itself."""
        return self.reconnectable and self.tymeout > 0

    def reinitHostPort(
        self, ha: tuple[str, int] | None = None, hostname: str = "127.0.0.1", port: int = 56000
    ) -> None:
        """Set where the next connection goes."""
        if ha is not None:
            hostname, port = ha
        hostname, named = split_host(hostname)
        port = named or port
        if any(character in hostname for character in "/?#@\\"):
            raise InvalidRequest(f"not a host name: {hostname[:80]!r}")
        # Also checks the name, and turns it into ASCII.
        origin = Origin.parse(f"[{hostname}]:{port}" if ":" in hostname else f"{hostname}:{port}")
        self.ha = (origin.host, int(port))
        self.hostname = hostname
        self._origin = origin

    def wind(self, tymth: Callable[[], float]) -> None:
        """Take the time from ``tymth`` from now on."""
        super().wind(tymth)
        self.tymer.wind(tymth)

    def refresh(self) -> None:
        """Have the time to the next connection begin again."""
        self.tymer.start()

    def open(self) -> bool:
        """Ask for a connection; returns True, for the rest is up to `connect`."""
        self.cutoff = self.abrupt = self._accepted = self.connected = False
        self.error = ""
        self.ca = (None, None)
        address = self._origin.address
        if address is not None:
            self._addresses = [address]
        elif self.host == "localhost":
            self._addresses = [
                (socket.AF_INET, ("127.0.0.1", self.port)),
                (socket.AF_INET6, ("::1", self.port)),
            ]
        else:
            self._addresses = []
            self._lookup = Lookup(self.host, self.port)
        self.opened = True
        return True

    def reopen(self) -> bool:
        """Close the connection if there is one, and ask for another one."""
        self.close()
        return self.open()

    def accept(self) -> bool:
        """Go on with the connecting, without waiting; returns whether TCP has a connection."""
        if self._accepted or self.cutoff:
            return self._accepted
        if not self.opened:
            self.open()
        if self._lookup is not None and not self._look_up(self._lookup):
            return False
        while self.cs is None and self._addresses:
            self._dial(*self._addresses[0])
        if self.cs is None:
            return False
        try:
            number = self.cs.connect_ex(self._addresses[0][1])
            if number in _CONNECTING:
                return False
            if number and number != errno.EISCONN:
                self._refused(os.strerror(number))
                return False
            self.cs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.ca = self.cs.getsockname()[:2]
            if self.ca[1] == self.port and self.ca == self.cs.getpeername()[:2]:
                # Where nobody listens the system may pick this very port for this end, too; the
                # connection leads to itself, and would keep the port from its server.
                self._refused(os.strerror(errno.ECONNREFUSED))
                return False
        except OSError as error:
            self._refused(error.strerror or str(error))
            return False
        self._accepted = True
        return True

    def _look_up(self, lookup: Lookup) -> bool:
        if not lookup.signal.fired:
            return False
        self._lookup = None
        try:
            self._addresses = lookup.result()
        except (OSError, UnicodeError) as error:
            self._addresses = []
            reason = getattr(error, "strerror", None) or error
            self.fail(f"the host name is not known ({reason})")
            return False
        return True

    def _dial(self, family: int, address: Any) -> None:
        try:
            cs = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._refused(error.strerror or str(error))
            return
        cs.setblocking(False)
        self.cs = cs

    def _refused(self, reason: str) -> None:
        """Go on to the host's next address, or give up."""
        if self.cs is not None:
            self.cs.close()
            self.cs = None
        del self._addresses[0]
        if not self._addresses:
            self.fail(reason.lower())

    def fail(self, reason: str, abrupt: bool = True) -> None:
        """Take the connection for lost, and say why."""
        self.error = self.error or reason
        self.cutoff = True
        self.abrupt = abrupt
        self.refresh()

    def connect(self) -> bool:
        """Go on with the connecting, without waiting; returns whether data can be sent."""
        self.connected = self.accept()
        return self.connected

    def serviceConnect(self) -> bool:
        """Connect, and open again what was lost once it is time; returns whether connected."""
        if self.cutoff:
            if not self.recoverable or not self.tymer.expired:
                return False
            self.reopen()
        return self.connected or self.connect()

    def tx(self, data: bytes | bytearray | memoryview) -> None:
        """Put data into the queue of what is to be sent."""
        self.txbs += data

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send what can be sent at once; returns how many bytes."""
        if not self.connected or self.cutoff:
            return 0
        try:
            size: int = self.cs.send(data)
        except self.Again:
            return 0
        except OSError as error:
            # What it has said before it went is still to be received, and ends with why.
            self.error = _said(error)
            self.txbs.clear()
            return 0
        if size and self.wl is not None:
            self.wl.writeTx(bytes(data[:size]), self.ha)
        return size

    def serviceSends(self) -> None:
        """Send of the queue what can be sent at once."""
        for _ in range(_TURN):
            if not self.txbs:
                return
            size = self.send(self.txbs)
            del self.txbs[:size]
            if not size:
                return

    def receive(self) -> bytes | None:
        """Return what is there, at most ``bs`` bytes; None for nothing, b"" at the end."""
        if not self.connected or self.cutoff:
            return None
        try:
            data: bytes = self.cs.recv(self.bs)
        except self.Again:
            return None
        except OSError as error:
            self.fail(_said(error))
            return b""
        if not data:
            # After a failed send it is the end of a reset, however it looks.
            self.fail("it closed the connection", abrupt=bool(self.error))
        elif self.wl is not None:
            self.wl.writeRx(data, self.ha)
        return data

    def serviceReceiveOnce(self) -> None:
        """Receive once into ``rxbs``."""
        data = self.receive()
        if data:
            self.rxbs += data

    def serviceReceives(self) -> None:
        """Receive into ``rxbs`` what is there."""
        for _ in range(_TURN):
            data = self.receive()
            if not data:
                return
            self.rxbs += data
            if len(data) < self.bs:
                return  # that was all; the next turn will tell

    def clearRxbs(self) -> None:
        """Forget what was received."""
        self.rxbs.clear()

    def service(self) -> None:
        """Connect, receive and send, as far as it goes without waiting."""
        if self.serviceConnect():
            self.serviceReceives()
            self.serviceSends()

    def actualBufSizes(self) -> tuple[int, int]:
        """Return the sizes of the system's buffers, for sending and for receiving, in bytes."""
        if self.cs is None:
            return (0, 0)
        return (
            self.cs.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
            self.cs.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        )

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """Tell the other side that the connection is over, in one direction or in both."""
        if self.cs is not None:
            try:
                self.cs.shutdown(how)
            except OSError:
                pass  # it is over already

    def shutdownSend(self) -> None:
        """Tell the other side that nothing more will be sent."""
        self.shutdown(socket.SHUT_WR)

    def shutdownReceive(self) -> None:
        """Receive nothing more."""
        self.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close the connection; may be called again."""
        if self._lookup is not None:
            self._lookup = None
        if self.cs is not None:
            self.cs.close()
            self.cs = None
        self.opened = self._accepted = self.connected = self.cutoff = False


def _said(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()

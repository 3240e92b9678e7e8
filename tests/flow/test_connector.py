"""The connection by itself: opened, accepted, connected, cut off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast.flow import Connector, Tymist, WireLog
from tests.servers import (
    Close,
    Hold,
    Listener,
    Receive,
    ReceiveEnd,
    Reset,
    Send,
    SendForever,
    Wait,
    response,
)
from tests.servers.connection import Connection
from tests.servers.fixtures import StartScripted

Make = Callable[..., Connector]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make connectors, which are closed at the end."""
    made: list[Connector] = []

    def connector(*args: Any, **kwa: Any) -> Connector:
        made.append(Connector(*args, **kwa))
        return made[-1]

    yield connector
    for connector_ in made:
        connector_.close()


def step(connector: Connector, condition: Callable[[], object]) -> None:
    """Service the connection until a condition holds."""
    for _ in range(4000):
        connector.service()
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError(connector)


class TestOpening:
    def test_states(self, make: Make, scripted: StartScripted) -> None:
        """A connection is opened, accepted, connected, closed; each can be told."""
        server = scripted([Hold()])
        connector = make(host=server.host, port=server.port)
        states = [(connector.opened, connector.accepted, connector.connected, connector.cutoff)]
        assert "closed" in repr(connector)
        assert connector.open()
        states.append((connector.opened, connector.accepted, connector.connected, False))
        assert "opened" in repr(connector)
        step(connector, lambda: connector.connected)
        assert "connected" in repr(connector)
        states.append((connector.opened, connector.accepted, connector.connected, False))
        assert connector.ca == connector.cs.getsockname()
        connector.close()
        states.append((connector.opened, connector.accepted, connector.connected, False))
        assert states == [
            (False, False, False, False),
            (True, False, False, False),
            (True, True, True, False),
            (False, False, False, False),
        ]

    def test_by_a_pair(self, make: Make, scripted: StartScripted) -> None:
        """The pair of host and port wins over the two apart."""
        server = scripted([Hold()])
        connector = make(ha=(server.host, server.port), host="x.example", port=1)
        assert (connector.ha, connector.host, connector.port) == (
            (server.host, server.port),
            server.host,
            server.port,
        )
        step(connector, lambda: connector.connected)

    def test_ipv6(self, make: Make, scripted: StartScripted) -> None:
        """Addresses of version 6 are connected to, with or without brackets."""
        server = scripted([Hold()], host="::1")
        for host in ("::1", "[::1]"):
            connector = make(host=host, port=server.port)
            step(connector, lambda connector=connector: connector.connected)  # type: ignore[misc]
            assert connector.where == f"[::1]:{server.port}"

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_localhost(self, make: Make, scripted: StartScripted, host: str) -> None:
        """`localhost` is both of its addresses."""
        server = scripted([Hold()], host=host)
        connector = make(host="localhost", port=server.port)
        step(connector, lambda: connector.connected)

    def test_all_addresses_are_tried(
        self, make: Make, scripted: StartScripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name with several addresses is connected to by the first that answers."""
        server = scripted([Hold()])

        def found(*args: Any, **kwa: Any) -> Any:
            addresses = ["127.0.0.2", "127.0.0.3", server.host]
            return [(socket.AF_INET, 1, 6, "", (each, server.port)) for each in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", found)
        connector = make(host="several.invalid", port=server.port)
        step(connector, lambda: connector.connected)
        assert connector.cs.getpeername() == (server.host, server.port)

    @pytest.mark.parametrize("host", ["", "a b", "a/b", "x" * 300, "a\r\nb", "::1::", "a@b", "a?b"])
    def test_no_host(self, host: str) -> None:
        """What is no host is refused at once."""
        with pytest.raises(ValueError, match="host"):
            Connector(host=host, port=1)

    def test_reopened_while_it_looks_up(
        self, make: Make, scripted: StartScripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A connection can be closed and opened elsewhere while a name is being looked up."""
        gate = threading.Event()

        def hang(*args: Any, **kwa: Any) -> Any:
            gate.wait(30)
            raise OSError("nobody knows")

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        server = scripted([Hold()])
        connector = make(host="slow.invalid", port=9)
        connector.open()
        connector.service()
        connector.close()
        connector.reinitHostPort((server.host, server.port))
        connector.open()
        step(connector, lambda: connector.connected)
        gate.set()

    def test_buffer_sizes(self, make: Make, scripted: StartScripted) -> None:
        """The system's buffers can be asked for."""
        connector = make(port=scripted([Hold()]).port)
        assert connector.actualBufSizes() == (0, 0)
        step(connector, lambda: connector.connected)
        assert min(connector.actualBufSizes()) > 0


class TestData:
    def test_both_ways(self, make: Make, scripted: StartScripted) -> None:
        """What is put into one buffer is sent; what comes is in the other."""
        server = scripted([Receive(), response(200, b"hello"), Hold()])
        txbs, rxbs, log = bytearray(), bytearray(), WireLog()
        connector = make(port=server.port, txbs=txbs, rxbs=rxbs, wl=log)
        connector.tx(b"GET / HTTP/1.1\r\n")
        connector.tx(b"\r\n")
        step(connector, lambda: rxbs.endswith(b"hello"))
        assert (connector.txbs, connector.rxbs) == (txbs, rxbs)
        assert not txbs
        assert (bytes(log.sent), bytes(log.received)) == (b"GET / HTTP/1.1\r\n\r\n", bytes(rxbs))
        connector.clearRxbs()
        assert not rxbs

    def test_receives_no_more_than_it_is_told(self, make: Make, scripted: StartScripted) -> None:
        """One look takes `bs` bytes, and a turn has a bound."""
        connector = make(port=scripted([SendForever(b"x")]).port, bs=100)
        step(connector, lambda: connector.connected and connector.rxbs)
        connector.clearRxbs()
        threading.Event().wait(0.05)
        connector.serviceReceiveOnce()
        assert len(connector.rxbs) <= 100
        connector.serviceReceives()
        assert len(connector.rxbs) <= 100 * 17

    def test_nothing_without_a_connection(self, make: Make) -> None:
        """Without a connection nothing is sent or received, and nothing is raised."""
        connector = make(port=1)
        assert connector.send(b"x") == 0
        assert connector.receive() is None
        connector.tx(b"x")
        connector.serviceSends()
        connector.serviceReceives()
        connector.shutdown()
        assert connector.txbs == b"x"

    def test_end_of_sending(self, make: Make, scripted: StartScripted) -> None:
        """`shutdownSend` tells the server, which can answer still."""
        server = scripted([ReceiveEnd(), Send(b"answer"), Close()])
        connector = make(port=server.port)
        connector.tx(b"question")
        step(connector, lambda: connector.connected and not connector.txbs)
        connector.shutdownSend()
        step(connector, lambda: connector.cutoff)
        assert connector.rxbs == b"answer"
        assert server.leftovers[0] == b"question"
        assert not connector.abrupt


class TestEnd:
    def test_closed(self, make: Make, scripted: StartScripted) -> None:
        """A connection that was closed in good order is cut off, not abruptly."""
        connector = make(port=scripted([Send(b"bye"), Close()]).port)
        step(connector, lambda: connector.cutoff)
        assert (bytes(connector.rxbs), connector.abrupt) == (b"bye", False)
        assert connector.error == "it closed the connection"
        assert connector.error in repr(connector)

    def test_reset(self, make: Make, scripted: StartScripted) -> None:
        """One that was reset is cut off abruptly."""
        gate = threading.Event()
        connector = make(port=scripted([Wait(gate), Reset()]).port)
        step(connector, lambda: connector.connected)
        gate.set()
        step(connector, lambda: connector.cutoff)
        assert (connector.abrupt, connector.error) == (True, "connection reset by peer")

    def test_reset_that_a_send_finds(self, make: Make, scripted: StartScripted) -> None:
        """It makes no difference whether sending or receiving finds out first."""
        gate = threading.Event()
        server = scripted([Wait(gate), Reset()])
        connector = make(port=server.port)
        step(connector, lambda: connector.connected)
        gate.set()
        server.wait_for(lambda: not server.open_connections)
        for _ in range(1000):
            connector.send(b"x")
            if connector.error:
                break
            threading.Event().wait(0.005)
        assert not connector.cutoff  # what came before is still to be received
        step(connector, lambda: connector.cutoff)
        assert connector.abrupt

    def test_refused(self, make: Make, refusing: tuple[str, int]) -> None:
        """One that is refused is cut off, and was never connected."""
        connector = make(*[None], ha=refusing)
        step(connector, lambda: connector.cutoff)
        assert (connector.connected, connector.accepted) == (False, False)
        assert connector.error == "connection refused"
        connector.service()
        assert connector.reopen()
        assert (connector.error, connector.cutoff) == ("", False)

    def test_of_itself(
        self, make: Make, refusing: tuple[str, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A port that the system picks for both ends is a refusal, not a connection."""

        class Lucky(socket.socket):
            def connect_ex(self, address: Any) -> int:
                if self.getsockname()[1] == 0:
                    self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    self.bind(address)
                return super().connect_ex(address)

        connector = make(ha=refusing)
        connector.open()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Lucky)
            step(connector, lambda: connector.connected or connector.cutoff)
        assert (connector.connected, connector.error) == (False, "connection refused")
        assert connector.cs is None

    def test_no_room_for_a_socket(
        self, make: Make, scripted: StartScripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that may open no more files gets an error."""

        def full(*args: Any) -> Any:
            raise OSError(24, "Too many open files")

        connector = make(port=1)
        connector.open()
        monkeypatch.setattr(socket, "socket", full)
        connector.service()
        monkeypatch.undo()
        assert (connector.cutoff, connector.error) == (True, "too many open files")

    def test_leaves_no_socket(self, make: Make, scripted: StartScripted) -> None:
        """Closing gives the socket back in every state."""
        server = scripted([Hold()])
        connector = make(port=server.port)
        for turns in range(4):
            connector.reopen()
            for _ in range(turns):
                connector.service()
            connector.close()
            assert connector.cs is None
        step(connector, lambda: connector.connected)
        first = connector.cs
        connector.reopen()
        assert first.fileno() == -1


class Counting(Listener):
    """Closes each connection as soon as it is there."""

    def serve(self, connection: Connection) -> None:
        """Do nothing: the connection is closed afterwards."""


class TestReopening:
    @pytest.mark.parametrize(
        ("kwa", "recoverable"),
        [
            ({}, False),
            ({"reconnectable": True}, False),
            ({"tymeout": 1.0}, False),
            ({"reconnectable": True, "tymeout": 1.0}, True),
        ],
        ids=repr,
    )
    def test_who_is(self, make: Make, kwa: dict[str, Any], recoverable: bool) -> None:
        """Both a tymeout and leave to reconnect are needed."""
        assert make(port=1, **kwa).recoverable is recoverable

    def test_an_hour(self, make: Make) -> None:
        """An hour of cuts, with a minute between them, is sixty connections."""
        with Counting() as server:
            tymist = Tymist(tock=1.0)
            connector = make(
                port=server.port, reconnectable=True, tymeout=60.0, tymth=tymist.tymen()
            )
            connector.open()
            opened: list[float] = []
            while tymist.tyme < 3600.0:
                opened.append(tymist.tyme)
                # The server takes no tyme.
                step(connector, lambda: connector.cutoff)
                while connector.cutoff:
                    tymist.tick()
                    connector.service()
            assert opened == [60.0 * n for n in range(60)]

    def test_refresh(self, make: Make, refusing: tuple[str, int]) -> None:
        """The wait can be begun again."""
        tymist = Tymist(tock=1.0)
        connector = make(ha=refusing, reconnectable=True, tymeout=10.0, tymth=tymist.tymen())
        step(connector, lambda: connector.cutoff)
        tymist.tick(9.0)
        connector.refresh()
        tymist.tick(9.0)
        assert not connector.serviceConnect()
        assert connector.cutoff
        tymist.tick(1.0)
        reopened: list[bool] = []
        connector.reopen = lambda: not reopened.append(True)  # type: ignore[method-assign,func-returns-value]
        connector.serviceConnect()
        assert reopened

"""No call of the API blocks: system calls are watched and counted, not seconds."""

from __future__ import annotations

import _socket
import _ssl
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

import pytest

from holdfast.flow import (
    Client,
    ClientDoer,
    Connector,
    Doist,
    TLSConnector,
    Tymist,
    backendRequest,
    openClient,
)
from tests.servers import Certificates, Hold, Receive, Repeat, response
from tests.servers.fixtures import StartScripted

#: Functions that wait, whatever they are called with.
WAITING = frozenset(
    {
        "sleep", "select", "poll", "epoll_wait", "getaddrinfo", "gethostbyname", "getnameinfo",
        "gethostbyname_ex", "gethostbyaddr", "sigwait", "sigtimedwait", "waitpid",
    }
)  # fmt: skip

#: Methods of a socket that wait when it is not in non-blocking mode.
TRANSFERS = frozenset(
    {"accept", "connect", "connect_ex", "recv", "recv_into", "send", "sendall", "sendmsg"}
)


class Watch:
    """Notes the system calls of this thread while it is entered, and those that could wait."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.blocking: list[str] = []

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call":
            return
        name = function.__name__
        owner = getattr(function, "__self__", None)
        if isinstance(owner, _socket.socket):
            self.calls.append(name)
            if name in TRANSFERS and owner.gettimeout() != 0.0:
                self.blocking.append(name)
        elif isinstance(owner, _ssl._SSLSocket):  # type: ignore[attr-defined]
            self.calls.append(name)
            if owner.owner is None or owner.owner.gettimeout() != 0.0:
                self.blocking.append(name)
        elif name in WAITING:
            self.blocking.append(f"{function.__module__}.{name}")

    def of(self, call: Callable[[], Any]) -> list[str]:
        """Call, and return the system calls that were made."""
        self.calls.clear()
        with self:
            call()
        assert not self.blocking, f"could wait: {self.blocking}"
        return self.calls.copy()


@pytest.fixture
def watch() -> Watch:
    """Give a watch on this thread's system calls."""
    return Watch()


class Place:
    """A host in a certain state, and what brings a client's connection into that state."""

    def __init__(self, kwa: dict[str, Any], settled: Callable[[Client], object]) -> None:
        self.kwa, self.settled = kwa, settled

    def client(self, watch: Watch, **kwa: Any) -> Client:
        """Return a client whose connection is in the state of the place."""
        client = Client(**self.kwa, **kwa)
        client.reopen()
        for _ in range(20_000):
            watch.of(client.service)
            if self.settled(client):
                return client
            threading.Event().wait(0.001)
        raise AssertionError(client)


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the system's resolver hang."""
    gate = threading.Event()
    here = threading.get_ident()

    def hang(*args: Any, **kwa: Any) -> Any:
        assert threading.get_ident() != here, "looked up on the caller's thread"
        gate.wait(30)
        raise OSError("nobody knows")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    gate.set()


@pytest.fixture(params=["silent", "full queue", "name", "no handshake", "tls", "refusing"])
def place(
    request: pytest.FixtureRequest,
    scripted: StartScripted,
    certificates: Certificates,
    unanswering: tuple[str, int],
    refusing: tuple[str, int],
    slow_names: None,
) -> Place:
    """Give each kind of host that keeps its clients waiting."""
    connected: Callable[[Client], object] = lambda client: client.connector.connected  # noqa: E731
    match request.param:
        case "silent":
            return Place({"path": scripted([Hold()]).url}, connected)
        case "full queue":
            kwa = {"hostname": unanswering[0], "port": unanswering[1]}
            return Place(kwa, lambda client: client.connector.cs)
        case "name":
            return Place({"hostname": "slow.invalid"}, lambda client: True)
        case "no handshake":
            kwa = {"scheme": "https", "port": scripted([Hold()]).port}
            return Place(kwa, lambda client: client.connector.accepted)
        case "tls":
            server = scripted([Hold()], tls=certificates.server_context())
            kwa = {"path": server.url, "cafilepath": str(certificates.ca_file)}
            return Place(kwa, connected)
        case _:
            kwa = {"hostname": refusing[0], "port": refusing[1]}
            return Place(kwa, lambda client: client.connector.cutoff)


#: Every method of a client, with arguments that make it do something.
OF_CLIENT: dict[str, Callable[[Client], Any]] = {
    "accept": lambda client: client.accept(),
    "attrify": lambda client: client.respond(),
    "close": lambda client: client.close(),
    "redirect": lambda client: client.redirect(),
    "reopen": lambda client: client.reopen(),
    "request": lambda client: client.request("PUT", "/", body=bytes(1 << 20)),
    "respond": lambda client: client.respond(),
    "service": lambda client: client.service(),
    "serviceRequests": lambda client: client.serviceRequests(),
    "serviceResponse": lambda client: client.serviceResponse(),
    "serviceWhileGen": lambda client: next(client.serviceWhileGen()),
    "transmit": lambda client: client.transmit("POST", "/", body=bytes(1 << 24)),
    "wind": lambda client: client.wind(Tymist().tymen()),
}

#: Every method of a connector.
OF_CONNECTOR: dict[str, Callable[[Any], Any]] = {
    "accept": lambda connector: connector.accept(),
    "actualBufSizes": lambda connector: connector.actualBufSizes(),
    "clearRxbs": lambda connector: connector.clearRxbs(),
    "close": lambda connector: connector.close(),
    "connect": lambda connector: connector.connect(),
    "fail": lambda connector: connector.fail("of the test"),
    "handshake": lambda connector: connector.cs and connector.connect(),
    "open": lambda connector: connector.reopen(),
    "receive": lambda connector: connector.receive(),
    "refresh": lambda connector: connector.refresh(),
    "reinitHostPort": lambda connector: connector.reinitHostPort(("a.example", 1)),
    "reopen": lambda connector: connector.reopen(),
    "send": lambda connector: connector.send(bytes(1 << 24)),
    "service": lambda connector: connector.service(),
    "serviceConnect": lambda connector: connector.serviceConnect(),
    "serviceReceiveOnce": lambda connector: connector.serviceReceiveOnce(),
    "serviceReceives": lambda connector: connector.serviceReceives(),
    "serviceSends": lambda connector: connector.serviceSends(),
    "shutdown": lambda connector: connector.shutdown(),
    "shutdownReceive": lambda connector: connector.shutdownReceive(),
    "shutdownSend": lambda connector: connector.shutdownSend(),
    "tx": lambda connector: connector.tx(b"x"),
    "wind": lambda connector: connector.wind(Tymist().tymen()),
    "wrap": lambda connector: connector.connect(),
}


def methods(of: type) -> set[str]:
    """Return the names of a class's public methods."""
    return {name for name in dir(of) if name[0].islower() and callable(getattr(of, name))}


def test_every_method_is_here() -> None:
    """A method that is added is added here, too."""
    assert methods(Client) == set(OF_CLIENT)
    assert methods(TLSConnector) | methods(Connector) == set(OF_CONNECTOR)


def test_watch_sees_what_blocks(watch: Watch) -> None:
    """A blocking call does not escape the watch."""
    ours, theirs = __import__("socket").socketpair()
    with ours, theirs:
        theirs.send(b"x")
        with watch:
            ours.recv(1)
            threading.Event().wait(0)
            __import__("time").sleep(0)
            __import__("select").select([], [], [], 0)
    assert watch.calls == ["recv"]
    assert watch.blocking == ["recv", "time.sleep", "select.select"]


class TestMethods:
    @pytest.mark.parametrize("name", sorted(OF_CLIENT))
    def test_of_a_client(self, watch: Watch, place: Place, name: str) -> None:
        """No method waits, whatever the host does or does not; nor does what comes next."""
        client = place.client(watch, reconnectable=True, tymeout=0.001)
        try:
            watch.of(lambda: client.request("GET", "/"))
            for _ in range(3):
                watch.of(client.service)
            watch.of(lambda: OF_CLIENT[name](client))
            for _ in range(3):
                watch.of(client.service)
            watch.of(client.close)
        finally:
            client.close()

    @pytest.mark.parametrize("name", sorted(OF_CONNECTOR))
    def test_of_a_connector(self, watch: Watch, place: Place, name: str) -> None:
        """No method of the connection waits either."""
        client = place.client(watch)
        try:
            for _ in range(2):
                watch.of(lambda: OF_CONNECTOR[name](client.connector))
                watch.of(client.connector.service)
            watch.of(client.connector.close)
        finally:
            client.close()

    def test_of_the_functions(self, watch: Watch, place: Place) -> None:
        """`openClient`, `ClientDoer` and `backendRequest` do not wait."""

        def opened() -> None:
            with openClient(**place.kwa) as client:
                client.service()

        def done() -> None:
            Doist(limit=1.0, doers=[ClientDoer(Client(**place.kwa))]).do()

        tymist = Tymist()

        def backend() -> None:
            kwa = {"host": "slow.invalid", **place.kwa}
            kwa["host"] = kwa.pop("hostname", "127.0.0.1")
            kwa.pop("cafilepath", None)
            for _ in backendRequest(tymist.tymen(), **kwa):
                tymist.tick()

        for call in (opened, done, backend):
            watch.of(call)


class TestFullBuffer:
    @pytest.fixture(params=[False, True], ids=["tcp", "tls"])
    def full(
        self,
        request: pytest.FixtureRequest,
        watch: Watch,
        scripted: StartScripted,
        certificates: Certificates,
    ) -> Iterator[Client]:
        """Give a client whose server takes nothing any more."""
        tls = certificates.server_context() if request.param else None
        server = scripted([Hold()], tls=tls)
        client = Client(path=server.url, cafilepath=str(certificates.ca_file))
        client.request("PUT", body=bytes(1 << 26))
        for _ in range(20_000):
            before = len(client.connector.txbs)
            watch.of(client.service)
            if client.waited and client.connector.connected:
                threading.Event().wait(0.01)
                if len(client.connector.txbs) == before:
                    break
            else:
                threading.Event().wait(0.001)
        assert client.connector.txbs
        yield client
        client.close()

    def test_turns_are_short(self, watch: Watch, full: Client) -> None:
        """A turn tries to send once and to receive once."""
        for _ in range(5):
            calls = [call for call in watch.of(full.service) if call in {"send", "recv"}]
            assert len(calls) <= 2
            assert len(set(calls)) == len(calls)

    @pytest.mark.parametrize("name", sorted(OF_CLIENT))
    def test_methods_of_a_client(self, watch: Watch, full: Client, name: str) -> None:
        """No method waits for room."""
        watch.of(lambda: OF_CLIENT[name](full))
        watch.of(full.service)

    @pytest.mark.parametrize("name", sorted(OF_CONNECTOR))
    def test_methods_of_a_connector(self, watch: Watch, full: Client, name: str) -> None:
        """No method of the connection waits for room either."""
        watch.of(lambda: OF_CONNECTOR[name](full.connector))
        watch.of(full.connector.service)


class TestEconomy:
    def turns(self, watch: Watch, client: Client) -> list[list[str]]:
        return [watch.of(client.service) for _ in range(5)]

    def test_idle(self, watch: Watch, scripted: StartScripted) -> None:
        """A connection with nothing to do costs one look a turn."""
        client = Place(
            {"path": scripted([Hold()]).url}, lambda client: client.connector.connected
        ).client(watch)
        assert self.turns(watch, client) == [["recv"]] * 5
        client.close()

    def test_not_opened(self, watch: Watch) -> None:
        """A client that was never used costs nothing."""
        assert self.turns(watch, Client()) == [[]] * 5

    def test_waiting(self, watch: Watch, scripted: StartScripted) -> None:
        """Waiting for a response costs one look a turn."""
        server = scripted([Receive(), Hold()])
        client = Place({"path": server.url}, lambda client: client.connector.connected).client(
            watch
        )
        client.request()
        watch.of(client.service)
        assert self.turns(watch, client) == [["recv"]] * 5
        client.close()

    def test_connecting(self, watch: Watch, unanswering: tuple[str, int]) -> None:
        """Connecting costs one look a turn."""
        client = Place(
            {"hostname": unanswering[0], "port": unanswering[1]},
            lambda client: client.connector.cs,
        ).client(watch)
        assert self.turns(watch, client) == [["connect_ex"]] * 5
        client.close()

    def test_looking_up(self, watch: Watch, slow_names: None) -> None:
        """Waiting for a name costs no system call."""
        client = Place({"hostname": "slow.invalid"}, lambda client: True).client(watch)
        assert self.turns(watch, client) == [[]] * 5
        client.close()

    @pytest.mark.parametrize("tymeout", [0.0, 1000.0])
    def test_cut(self, watch: Watch, refusing: tuple[str, int], tymeout: float) -> None:
        """A connection that is lost costs nothing until it is opened again."""
        kwa = {"hostname": refusing[0], "port": refusing[1]}
        client = Place(kwa, lambda client: client.connector.cutoff).client(
            watch, reconnectable=True, tymeout=tymeout
        )
        assert self.turns(watch, client) == [[]] * 5
        client.close()

    def test_small_requests(self, watch: Watch, scripted: StartScripted) -> None:
        """A request in a full queue costs one call to send it, and looks for its answer."""
        server = scripted([Repeat([Receive(), response(200, b"ok")])])
        client = Place({"path": server.url}, lambda client: client.connector.connected).client(
            watch
        )
        for _ in range(50):
            client.request()
        calls: list[str] = []
        for turn in range(20_000):
            calls += watch.of(client.service)
            if len(client.responses) == 50:
                break
            if turn % 2:
                threading.Event().wait(0.001)
        assert calls.count("send") == 50
        assert set(calls) == {"send", "recv"}
        client.close()

"""Around the client: a context manager, a request to a backend, a doer."""

from __future__ import annotations

from typing import Any

import pytest
from hio.base import doing as hio  # type: ignore[import-untyped]

from holdfast.flow import Client, ClientDoer, Doist, Tymist, backendRequest, openClient
from tests.flow.conftest import Loop
from tests.servers import Certificates, Hold, Receive, Repeat, json_response, response
from tests.servers.fixtures import StartScripted

ALWAYS = [Repeat([Receive(), json_response({"a": 1})])]


class TestBackendRequest:
    def ask(self, loop: Loop, **kwa: Any) -> Any:
        return loop.finish(backendRequest(loop.tymth, **{"tymeout": 1e6, **kwa}))

    def test_answer(self, loop: Loop, scripted: StartScripted) -> None:
        """It asks for JSON on a connection of its own, and returns the response's dictionary."""
        server = scripted(ALWAYS)
        found = self.ask(loop, host="127.0.0.1", port=server.port, path="/a", qargs={"b": "c"})
        assert (found["status"], found["data"], found["errored"]) == (200, {"a": 1}, False)
        request = server.requests[0]
        assert (request.method, request.target) == ("GET", "/a?b=c")
        assert request.header("accept") == "application/json"
        assert request.header("connection") == "close"
        server.wait_for(lambda: not server.open_connections)

    def test_url_in_the_path_wins(self, loop: Loop, scripted: StartScripted) -> None:
        """A whole URL in the path wins over scheme, host and port; its query joins the other."""
        server = scripted(ALWAYS)
        found = self.ask(
            loop,
            scheme="https",
            host="other.example",
            port=9,
            path=f"{server.url}/a?b=1&c=2",
            qargs={"b": 0, "d": 3},
        )
        assert found["status"] == 200
        assert server.requests[0].query == {"b": ["1"], "d": ["3"], "c": ["2"]}
        assert server.requests[0].header("host") == f"127.0.0.1:{server.port}"

    def test_data(self, loop: Loop, scripted: StartScripted) -> None:
        """Data is sent as JSON."""
        server = scripted(ALWAYS)
        self.ask(loop, method="post", path=server.url, data={"x": [1]})
        request = server.requests[0]
        assert (request.method, request.body) == ("POST", b'{"x":[1]}')
        assert request.header("content-type").startswith("application/json")

    def test_buffered(self, loop: Loop, scripted: StartScripted) -> None:
        """What went over the wire is kept on request."""
        server = scripted(ALWAYS)
        found = self.ask(loop, path=server.url, buffered=True)
        assert bytes(found["wire"].sent) == server.requests[0].head
        assert found["wire"].received.endswith(b'{"a": 1}')
        assert "wire" not in self.ask(loop, path=server.url)

    def test_redirect(self, loop: Loop, scripted: StartScripted) -> None:
        """A redirect is followed, with the same wishes."""
        server = scripted([Receive(), response(302, b"", [("Location", "/b")])], ALWAYS)
        assert self.ask(loop, path=server.url)["status"] == 200
        assert server.requests[1].header("accept") == "application/json"

    def test_tymeout(self, loop: Loop, scripted: StartScripted) -> None:
        """Without an answer it returns None after the tymeout, and closes."""
        server = scripted([Receive(), Hold()])
        begun = loop.tyme
        assert self.ask(loop, path=server.url, tymeout=3.0) is None
        assert loop.tyme - begun == 3.0
        server.wait_for(lambda: not server.open_connections)

    def test_error(self, loop: Loop, refusing: tuple[str, int]) -> None:
        """A host that refuses is an error in the response."""
        found = self.ask(loop, host=refusing[0], port=refusing[1])
        assert (found["errored"], found["status"]) == (True, None)

    def test_abandoned(self, loop: Loop, scripted: StartScripted) -> None:
        """A generator that is closed closes its connection."""
        server = scripted([Receive(), Hold()])
        generator = backendRequest(loop.tymth, path=server.url, tymeout=1e6)
        loop.until(lambda: server.requests or next(generator))
        generator.close()
        server.wait_for(lambda: not server.open_connections)

    def test_mistakes_are_raised(self) -> None:
        """What makes no request at all is an error of the caller."""
        with pytest.raises(ValueError, match="scheme"):
            next(backendRequest(Tymist().tymen(), path="ftp://a.example/"))


class TestOpenClient:
    def test_opens_and_closes(self, loop: Loop, scripted: StartScripted) -> None:
        """The connection is open within, and closed after."""
        server = scripted(ALWAYS)
        with openClient(path=server.url) as client:
            assert isinstance(client, Client)
            opened = [client.connector.opened]
            loop.clients.append(client)
            client.request()
            loop.finish(client.serviceWhileGen(tymeout=1e6))
        assert [*opened, client.connector.opened] == [True, False]
        server.wait_for(lambda: not server.open_connections)

    def test_closes_on_an_exception(self, scripted: StartScripted) -> None:
        """It is closed whatever happens."""
        server = scripted([Hold()])
        with pytest.raises(KeyError), openClient(path=server.url) as client:
            raise KeyError
        assert not client.connector.opened

    def test_of_another_class(self) -> None:
        """A class of the caller's is used."""

        class Mine(Client):
            pass

        with openClient(cls=Mine, port=1) as client:
            assert type(client) is Mine

    def test_mistakes_are_raised(self) -> None:
        """What makes no client is an error, and nothing else."""
        with pytest.raises(TypeError), openClient(nonsense=1):
            pass


class TestClientDoer:
    @pytest.mark.parametrize("kind", [Doist, hio.Doist], ids=["ours", "hio"])
    def test_is_run(self, scripted: StartScripted, kind: Any) -> None:
        """A doist opens the client, steps it each turn, by its tyme, and closes it."""
        server = scripted([Hold()])
        client = Client(path=server.url)
        turns: list[float] = []
        service = client.service

        def noted() -> None:
            turns.append(client.connector.tyme)
            service()

        client.service = noted  # type: ignore[method-assign]
        doer = ClientDoer(client)
        doist = kind(tock=0.5, limit=3.0, doers=[doer])
        doist.do()
        assert turns[:6] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
        assert not client.connector.opened
        assert doer.done is False

    @pytest.mark.parametrize("kind", [Doist, hio.Doist], ids=["ours", "hio"])
    def test_again(self, loop: Loop, scripted: StartScripted, kind: Any) -> None:
        """A client can be run a second time, by another doist."""
        server = scripted(ALWAYS)
        client = Client(path=server.url)
        for _ in range(2):
            doist = kind(tock=1.0)
            doist.deeds.extend(doist.enter(doers=[ClientDoer(client)]))
            client.request()
            loop.clients.append(client)
            for _ in range(2000):
                doist.recur()
                if client.responses:
                    break
                loop.pause()
            doist.exit()
            answer = client.respond()
            assert answer is not None
            assert answer.data == {"a": 1}

    def test_enter_with_temp(self) -> None:
        """`enter` takes `temp`, as a doer's does, and opens."""
        doer = ClientDoer(Client(port=1), tymth=Tymist(tyme=5.0).tymen())
        assert doer.client.connector.tyme == 5.0
        for temp in (None, True, False):
            doer.enter(temp=temp)
            assert doer.client.connector.opened
        doer.exit()
        assert not doer.client.connector.opened

    def test_winds(self) -> None:
        """Winding the doer winds the client."""
        doer = ClientDoer(Client())
        doer.wind(Tymist(tyme=7.0).tymen())
        assert doer.client.connector.tyme == 7.0
        assert doer.recur(7.0) is False

    def test_many_in_one_loop(
        self, loop: Loop, scripted: StartScripted, certificates: Certificates
    ) -> None:
        """A hundred clients share a loop, some with TLS, and each gets its own."""
        plain = scripted(ALWAYS)
        secure = scripted(ALWAYS, tls=certificates.server_context())
        context = certificates.client_context()
        clients = [
            loop.client((secure if n % 10 == 0 else plain).url, context=context) for n in range(100)
        ]
        for n, client in enumerate(clients):
            for m in range(3):
                client.request(path=f"/{n}/{m}")
        loop.until(lambda: all(len(client.responses) == 3 for client in clients))
        for n, client in enumerate(clients):
            paths = [each["request"]["path"] for each in client.responses]
            assert paths == [f"/{n}/{m}" for m in range(3)]

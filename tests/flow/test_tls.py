"""TLS: who is verified, how, and how it ends."""

from __future__ import annotations

import ssl
import threading
from typing import Any

import pytest

from holdfast.flow import Client, TLSConnector, WireLog
from tests.flow.conftest import Loop
from tests.servers import (
    Certificates,
    Close,
    Hold,
    Receive,
    ReceiveBody,
    Repeat,
    Reset,
    Script,
    ScriptedServer,
    Wait,
    pattern,
    response,
)
from tests.servers.fixtures import StartScripted

ALWAYS = [Repeat([Receive(), response(200, b"ok")])]

#: What a server says without TLS.
CLEAR = [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 9, Hold()]


class Start:
    """Starts servers with TLS, and clients that trust them."""

    def __init__(self, loop: Loop, scripted: StartScripted, certificates: Certificates) -> None:
        self.loop, self.scripted, self.certificates = loop, scripted, certificates

    def server(self, *scripts: Script, names: tuple[str, ...] = (), **kwa: Any) -> ScriptedServer:
        context = self.certificates.server_context(*names, **kwa)
        return self.scripted(*(scripts or (ALWAYS,)), tls=context)

    def client(self, server: ScriptedServer, **kwa: Any) -> Client:
        kwa.setdefault("cafilepath", str(self.certificates.ca_file))
        return self.loop.client(server.url, **kwa)


@pytest.fixture
def start(loop: Loop, scripted: StartScripted, certificates: Certificates) -> Start:
    """Give what starts servers and clients."""
    return Start(loop, scripted, certificates)


class TestVerification:
    def test_by_the_given_authority(self, loop: Loop, start: Start) -> None:
        """A server is verified by the given file, and its connection is kept."""
        server = start.server()
        client = start.client(server)
        assert loop.ask(client).status == 200
        answer = loop.ask(client)
        assert (answer.status, answer.request["scheme"]) == (200, "https")
        assert server.connection_count == 1
        connector = client.connector
        assert isinstance(connector, TLSConnector)
        assert connector.connected
        assert connector.cs.version().startswith("TLSv1")

    def test_unknown_authority_is_refused(self, loop: Loop, start: Start) -> None:
        """By default the system's authorities decide, and a request never leaves."""
        server = start.server()
        answer = loop.ask(start.client(server, cafilepath=None))
        assert answer.errored
        assert "TLS: " in str(answer.error)
        assert "certificate" in str(answer.error)
        assert server.request_count == 0

    def test_wrong_name_is_refused(self, loop: Loop, start: Start) -> None:
        """A certificate that names another host is refused."""
        server = start.server(names=("other.example",))
        answer = loop.ask(start.client(server))
        assert answer.errored
        assert "127.0.0.1" in str(answer.error)
        assert server.request_count == 0

    @pytest.mark.parametrize("kwa", [{"hostify": False}, {"certedhost": "other.example"}], ids=repr)
    def test_wrong_name_is_accepted(self, loop: Loop, start: Start, kwa: dict[str, Any]) -> None:
        """Unless names do not count, or the other one is what is to be verified."""
        server = start.server(names=("other.example",))
        assert loop.ask(start.client(server, **kwa)).status == 200

    def test_certedhost_is_asked_for(self, loop: Loop, start: Start) -> None:
        """The name to verify is the one that the server is asked for."""
        server = start.server(names=("other.example",))
        loop.ask(start.client(server, certedhost="other.example"))
        assert server.requests[0].header("host") == f"127.0.0.1:{server.port}"

    def test_hostify_without_certify(self, loop: Loop, start: Start) -> None:
        """Without verification nothing is refused, whatever is said of names."""
        server = start.server(names=("other.example",))
        client = start.client(server, certify=ssl.CERT_NONE, hostify=True, cafilepath=None)
        assert loop.ask(client).status == 200

    def test_whole_context(self, loop: Loop, start: Start, certificates: Certificates) -> None:
        """A context of the caller is used as it is."""
        server = start.server()
        context = certificates.client_context()
        client = start.client(server, context=context, cafilepath=None)
        assert client.connector.context is context  # type: ignore[attr-defined]
        assert loop.ask(client).status == 200

    @pytest.mark.parametrize("apart", [True, False])
    def test_client_certificate(
        self, loop: Loop, start: Start, certificates: Certificates, apart: bool
    ) -> None:
        """A server that wants to know who asks is told, by one file or by two."""
        server = start.server(client_required=True)
        files = (
            {
                "certpath": str(certificates.client_chain_file),
                "keypath": str(certificates.client_key_file),
            }
            if apart
            else {"certpath": str(certificates.client_file)}
        )
        assert loop.ask(start.client(server, **files)).status == 200

    def test_client_certificate_that_is_missing(self, loop: Loop, start: Start) -> None:
        """Without a certificate, such a server's refusal is the error."""
        server = start.server(client_required=True)
        answer = loop.ask(start.client(server))
        assert answer.errored
        assert "certificate required" in str(answer.error).replace("_", " ").lower()

    def test_version(self, loop: Loop, start: Start) -> None:
        """One version of TLS can be asked for."""
        client = start.client(start.server(), version=ssl.TLSVersion.TLSv1_2)
        assert loop.ask(client).status == 200
        assert client.connector.cs.version() == "TLSv1.2"

    def test_files_that_are_none(self) -> None:
        """Files that cannot be read are an error where the client is made."""
        with pytest.raises(OSError, match="No such file"):
            Client(scheme="https", cafilepath="/nowhere/ca.pem")
        with pytest.raises(OSError, match="No such file"):
            Client(scheme="https", certpath="/nowhere/cert.pem")


class TestHandshake:
    @pytest.mark.parametrize(
        "script",
        [[Close()], [Reset()], CLEAR, [b"\x00" * 100, Close()], [b"\x15\x03\x01\x00\x02\x02\x28"]],
        ids=["closed", "reset", "clear text", "garbage", "alert"],
    )
    def test_fails(self, loop: Loop, start: Start, scripted: StartScripted, script: Script) -> None:
        """Whatever comes instead of a handshake is an error of the response."""
        server = scripted(script)
        client = loop.client(f"https://127.0.0.1:{server.port}/")
        answer = loop.ask(client)
        assert answer.errored
        assert f"127.0.0.1:{server.port}" in str(answer.error)
        assert "none" not in str(answer.error).lower()

    def test_hangs(self, loop: Loop, scripted: StartScripted) -> None:
        """A server that says nothing to the handshake keeps nobody waiting."""
        server = scripted([Hold()])
        client = loop.client(f"https://127.0.0.1:{server.port}/")
        client.request()
        loop.until(lambda: client.connector.accepted)
        loop.turn(100)
        assert (client.connector.connected, client.waited) == (False, True)

    def test_reconnects(self, loop: Loop, start: Start) -> None:
        """A connection with TLS is opened again, and a request waits for it."""
        server = start.server([Close()], ALWAYS)
        client = start.client(server, reconnectable=True, tymeout=1.0)
        loop.until(lambda: client.connector.cutoff)
        assert loop.ask(client).status == 200
        assert server.connection_count == 2


class TestEnd:
    BODY = b"HTTP/1.1 200 OK\r\n\r\nuntil the end"

    def test_in_good_order(self, loop: Loop, start: Start) -> None:
        """A body that ends with the connection is whole when TLS says so."""
        server = start.server([Receive(), self.BODY, Close()])
        answer = loop.ask(start.client(server))
        assert (answer.errored, bytes(answer.body)) == (False, b"until the end")

    def test_without_close_notify(self, loop: Loop, start: Start) -> None:
        """Without TLS's own end the body may have been cut off by anybody: an error."""
        gate = threading.Event()
        server = start.server([Receive(), self.BODY, Wait(gate), _Cut()])
        client = start.client(server)
        client.request()
        loop.until(lambda: client.respondent.body)
        gate.set()
        answer = loop.answer(client)
        assert (answer.errored, bytes(answer.body)) == (True, b"until the end")

    def test_known_length_without_close_notify(self, loop: Loop, start: Start) -> None:
        """A body of known length is whole all the same, and the next request is well."""
        server = start.server([Receive(), response(200, b"whole"), _Cut()], ALWAYS)
        client = start.client(server)
        assert bytes(loop.ask(client).body) == b"whole"
        server.wait_for(lambda: not server.open_connections)
        assert loop.ask(client).status == 200

    def test_says_goodbye(self, loop: Loop, start: Start) -> None:
        """Closing tells the server that the end is meant."""
        server = start.server([Receive(), response(200, b"ok"), Receive()])
        client = start.client(server)
        loop.ask(client)
        client.close()
        server.wait_for(lambda: not server.open_connections)
        assert not server.failures

    def test_shutdown_stays_encrypted(self, loop: Loop, start: Start) -> None:
        """After `shutdownSend` nothing that is encrypted is taken for a response."""
        gate = threading.Event()
        server = start.server([Receive(), Wait(gate), response(200, b"late"), Hold()])
        client = start.client(server)
        client.request()
        loop.until(lambda: server.requests)
        gate.set()
        client.connector.shutdownSend()
        for _ in range(20):
            data = client.connector.receive()
            assert not data or data.startswith(b"HTTP/1.1 200")
            loop.pause()


class TestSizes:
    def test_both_ways(self, loop: Loop, start: Start) -> None:
        """Sixteen MiB each way, with the server reading late, come whole."""
        gate = threading.Event()
        body = pattern(1 << 24)
        server = start.server(
            [Receive(body=False), Wait(gate), ReceiveBody(), response(200, body), *ALWAYS]
        )
        client = start.client(server, bufsize=65536)
        client.request("PUT", body=body)
        loop.until(lambda: server.requests)
        loop.turn(50)
        assert client.connector.txbs
        gate.set()
        answer = loop.answer(client)
        assert answer.body == body
        assert server.requests[0].body == body
        assert loop.ask(client, "GET").status == 200
        assert server.connection_count == 1

    def test_wire_log_is_readable(self, loop: Loop, start: Start) -> None:
        """A wire log has what was said, not what it was encrypted to."""
        log = WireLog()
        server = start.server()
        loop.ask(start.client(server, wl=log))
        assert log.sent.startswith(b"GET / HTTP/1.1\r\n")
        assert log.received == response(200, b"ok")


class _Cut:
    """Close TCP without a word of TLS."""

    def play(self, connection: Any) -> None:
        """Do it."""
        connection.shut_down_sending()

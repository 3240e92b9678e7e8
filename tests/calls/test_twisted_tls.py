"""TLS in Twisted mode: what fails on the way to it is heard of, in time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectingTimeout
from twisted.internet.ssl import Certificate, ClientContextFactory, trustRootFromCertificates
from twisted.web.client import BrowserLikePolicyForHTTPS, ResponseNeverReceived

from holdfast.calls import Call, fault_tolerant
from tests.conformance.reactors import react
from tests.servers import Certificates, Close, EchoServer, Hold, ProxyServer
from tests.servers.fixtures import StartScripted

Steps = Generator[Deferred[Any], Any, Any]


def posting(script: Callable[[Any], Steps], port: int, **options: Any) -> None:
    """Run a test of a function that sends a POST over TLS."""

    def work(reactor: Any) -> Deferred[Any]:
        @fault_tolerant(
            reactor=reactor, load_balancer=lambda: ("https", f"localhost:{port}"), **options
        )
        @inlineCallbacks
        def send(call: Call) -> Steps:
            answer = yield call.http.request("POST", "/x", data=b"x")
            return (yield answer.json())

        @inlineCallbacks
        def main() -> Steps:
            yield from script(send)
            assert send.core.endpoints.all[0].in_flight == 0  # type: ignore[attr-defined]
            yield send.core.close()  # type: ignore[attr-defined]

        return main()

    react(work)


def trusting(certificates: Certificates) -> Any:
    """Return a context factory that trusts the tests' certificates."""
    trust: Any = trustRootFromCertificates
    policy: Any = BrowserLikePolicyForHTTPS
    return policy(trust([Certificate.loadPEM(certificates.ca_file.read_bytes())]))


def test_a_context_factory_that_raises(scripted: StartScripted) -> None:
    """Its error is the call's, at once, and nothing is left behind."""
    base: Any = ClientContextFactory

    class Broken(base):  # type: ignore[misc]
        def getContext(self) -> Any:
            raise LookupError("no key")

    def script(send: Any) -> Steps:
        with pytest.raises(LookupError, match="no key") as caught:
            yield send()
        assert len(caught.value.attempts) == 1  # type: ignore[attr-defined]

    server = scripted([Hold()])
    posting(script, server.port, context_factory=Broken(), timeout=5)
    server.wait_for(lambda: not server.open_connections)
    assert not server.leftovers


def test_a_policy_that_raises() -> None:
    """So is that of one that does not know the host."""

    class Broken(BrowserLikePolicyForHTTPS):
        def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
            raise LookupError(hostname.decode())

    make: Any = Broken

    def script(send: Any) -> Steps:
        with pytest.raises(LookupError, match="localhost"):
            yield send()

    posting(script, 1, context_factory=make())


@pytest.mark.parametrize("proxied", [False, True])
def test_a_server_that_does_not_speak_tls(
    scripted: StartScripted,
    forward_proxy: ProxyServer,
    monkeypatch: pytest.MonkeyPatch,
    proxied: bool,
) -> None:
    """The connect timeout is that of TLS, too; as nothing was sent, even a POST is tried again."""
    monkeypatch.setenv("https_proxy", forward_proxy.url)
    server = scripted([Hold()], [Hold()])

    def script(send: Any) -> Steps:
        with pytest.raises(ConnectingTimeout, match="in time") as caught:
            yield send()
        assert len(caught.value.attempts) == 2  # type: ignore[attr-defined]

    posting(script, server.port, retry_attempts=1, connect_timeout=0.1, use_proxy=proxied)


def test_a_server_that_closes_the_connection(scripted: StartScripted) -> None:
    """What ends before the keys are agreed on is a failure to connect."""
    server = scripted([Close()], [Close()])

    def script(send: Any) -> Steps:
        with pytest.raises(ConnectError, match="before TLS") as caught:
            yield send()
        assert len(caught.value.attempts) == 2  # type: ignore[attr-defined]

    posting(script, server.port, retry_attempts=1)


def test_a_certificate_that_is_not_trusted(certificates: Certificates) -> None:
    """It is worded as Twisted words it, and not tried again."""

    def script(send: Any) -> Steps:
        with pytest.raises(ResponseNeverReceived) as caught:
            yield send()
        assert caught.value.reasons[0].check(SSL.Error)
        assert len(caught.value.attempts) == 1  # type: ignore[attr-defined]

    with EchoServer(tls=certificates.server_context()) as server:
        posting(script, server.port)


def test_cancelling_while_keys_are_agreed_on(scripted: StartScripted) -> None:
    """The connection is closed."""
    server = scripted([Hold()])

    def script(send: Any) -> Steps:
        reactor = send.core.driver.reactor
        call = send()
        while not server.connection_count:
            turn: Deferred[None] = Deferred()
            reactor.callLater(0.001, turn.callback, None)
            yield turn
        call.cancel()
        with pytest.raises(CancelledError):
            yield call

    posting(script, server.port, connect_timeout=None)
    server.wait_for(lambda: not server.open_connections)


def test_what_is_agreed_on_in_time(certificates: Certificates) -> None:
    """A call goes through, its connection is kept, and no timer is left."""

    def script(send: Any) -> Steps:
        for _ in range(2):
            assert (yield send())["body"] == "x"

    with EchoServer(tls=certificates.server_context()) as server:
        posting(script, server.port, context_factory=trusting(certificates))
        assert (server.request_count, server.connection_count) == (2, 1)

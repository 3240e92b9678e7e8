"""What is Twisted's own: its agent, its producers, its TLS, and functions found out to be its."""

from __future__ import annotations

import io
from collections.abc import Generator
from typing import Any

import pytest
import treq
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectingTimeout
from twisted.internet.ssl import (
    Certificate,
    ClientContextFactory,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.internet.task import Clock
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer  # type: ignore[import-untyped]

from holdfast.calls import Call, Http, fault_tolerant
from holdfast.calls.twisted_endpoints import Endpoints
from holdfast.calls.twisted_tls import policy_of
from holdfast.http.proxies import Proxies
from tests.calls.conftest import Recorder
from tests.conformance.reactors import react
from tests.servers import Certificates, EchoServer, Hold, ProxyServer, Receive
from tests.servers.fixtures import StartScripted

Steps = Generator[Deferred[Any], Any, Any]


@implementer(IBodyProducer)
class Producer:
    """A body of Twisted's."""

    length = 6

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(b"abc")
        consumer.write(b"def")
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


@pytest.mark.parametrize("body", [Producer, lambda: io.BytesIO(b"abcdef"), lambda: b"abcdef"])
def test_bodies(echo: EchoServer, body: Any) -> None:
    """A body is an IBodyProducer, a file or bytes; the answer is an IResponse."""

    def work(reactor: Any) -> Any:
        @fault_tolerant(reactor=reactor, load_balancer=lambda: ("http", echo.address))
        def send(call: Call) -> Deferred[Any]:
            sent: Deferred[Any] = call.http.request("PUT", "/x", data=body())
            return sent

        @inlineCallbacks
        def main() -> Steps:
            answer = yield send()  # type: ignore[no-untyped-call]
            assert IResponse.providedBy(answer)
            told = yield answer.json()
            assert told["body"] == "abcdef"
            yield send.core.close()  # type: ignore[attr-defined]

        return main()

    react(work)


def test_the_agent_is_twisteds(echo: EchoServer) -> None:
    """`call.agent` is an Agent; `Http` is made of it and its reactor."""

    def work(reactor: Any) -> Any:
        @fault_tolerant(reactor=reactor, load_balancer=lambda: ("http", echo.address))
        @inlineCallbacks
        def fetch(call: Call) -> Generator[Deferred[Any], Any, dict[str, str]]:
            assert isinstance(call.agent, Agent)
            answer = yield call.agent.request(b"GET", echo.url.encode() + b"/y")
            assert answer.code == 200
            yield treq.content(answer)
            answer = yield Http(call.agent, reactor).request("GET", echo.url + "/z")
            told: dict[str, str] = yield answer.json()
            return told

        @inlineCallbacks
        def main() -> Steps:
            told = yield fetch()
            assert told["path"] == "/z"
            yield fetch.core.close()  # type: ignore[attr-defined]

        return main()

    react(work)


@pytest.mark.parametrize("kind", ["policy", "creator"])
def test_tls_context_factory(certificates: Certificates, kind: str) -> None:
    """A context factory of Twisted's decides whom to trust."""
    trust: Any = trustRootFromCertificates
    root = trust([Certificate.loadPEM(certificates.ca_file.read_bytes())])
    factory: Any = BrowserLikePolicyForHTTPS
    given = factory(root) if kind == "policy" else optionsForClientTLS("localhost", root)

    with EchoServer(tls=certificates.server_context()) as server:

        def work(reactor: Any) -> Any:
            @fault_tolerant(
                reactor=reactor,
                load_balancer=lambda: ("https", f"localhost:{server.port}"),
                context_factory=given,
            )
            def fetch(call: Call) -> Deferred[Any]:
                sent: Deferred[Any] = call.http.request("GET", "/x")
                return sent

            @inlineCallbacks
            def main() -> Steps:
                answer = yield fetch()  # type: ignore[no-untyped-call]
                assert (yield answer.json())["path"] == "/x"
                yield fetch.core.close()  # type: ignore[attr-defined]

            return main()

        react(work)


@pytest.mark.parametrize("tls", [False, True])
def test_proxies(
    certificates: Certificates,
    forward_proxy: ProxyServer,
    monkeypatch: pytest.MonkeyPatch,
    tls: bool,
) -> None:
    """Plain requests go to the proxy as they are, those of TLS through a tunnel."""
    monkeypatch.setenv("http_proxy", forward_proxy.url)
    monkeypatch.setenv("https_proxy", forward_proxy.url)
    trust: Any = trustRootFromCertificates
    root = trust([Certificate.loadPEM(certificates.ca_file.read_bytes())])
    factory: Any = BrowserLikePolicyForHTTPS
    context = certificates.server_context() if tls else None
    with EchoServer(tls=context) as server:

        def work(reactor: Any) -> Any:
            place = ("https" if tls else "http", f"localhost:{server.port}")
            if not tls:
                place = ("http", server.address)

            @fault_tolerant(
                reactor=reactor,
                use_proxy=True,
                load_balancer=lambda: place,
                context_factory=factory(root),
            )
            def fetch(call: Call) -> Deferred[Any]:
                sent: Deferred[Any] = call.http.request("GET", "/x")
                return sent

            @inlineCallbacks
            def main() -> Steps:
                answer = yield fetch()  # type: ignore[no-untyped-call]
                assert (yield answer.json())["path"] == "/x"
                yield fetch.core.close()  # type: ignore[attr-defined]

            return main()

        react(work)
    assert forward_proxy.connection_count == 1


def test_functions_that_return_deferreds(recorder: Recorder) -> None:
    """A function that turns out to return a Deferred is Twisted's, also in its first call."""
    failures = [ConnectionError("x")]
    pending: list[Deferred[Any]] = []

    @fault_tolerant("d", statsd=recorder)
    def work() -> Any:
        deferred: Deferred[Any] = Deferred()
        pending.append(deferred)
        return deferred

    def run(reactor: Any) -> Any:
        core: Any = work.core  # type: ignore[attr-defined]
        core.settings = type(core.settings)(
            **{name: getattr(core.settings, name) for name in core.settings.__dataclass_fields__}
            | {"reactor": reactor}
        )

        @inlineCallbacks
        def main() -> Steps:
            call = work()
            assert isinstance(call, Deferred)
            pending.pop().callback(3)
            assert (yield call) == 3
            call = work()
            pending.pop().errback(failures.pop())

            def again() -> None:
                if pending:
                    pending.pop().callback(4)
                else:
                    reactor.callLater(0.001, again)

            again()
            assert (yield call) == 4

        return main()

    react(run)
    assert recorder.counts == {"d.success": 2, "d.retry": 1}


def test_time_of_a_clock() -> None:
    """With a Clock for a reactor time is that clock's: a call is cancelled at its deadline."""
    clock = Clock()
    cancelled: list[Any] = []

    @fault_tolerant(reactor=clock, timeout=3, retry_attempts=0)
    def work() -> Deferred[None]:
        return Deferred(cancelled.append)

    failed: list[Any] = []
    work().addErrback(failed.append)
    clock.advance(2.9)
    assert not failed
    clock.advance(0.2)
    assert isinstance(failed[0].value, TimeoutError)
    assert len(cancelled) == 1


def test_inline_callbacks_are_known() -> None:
    """A function under inlineCallbacks is Twisted's before its first call."""

    @fault_tolerant
    @inlineCallbacks
    def one() -> Steps:
        yield succeed(None)

    @fault_tolerant
    def two() -> Deferred[None]:
        return succeed(None)

    assert one.core.driver is not None  # type: ignore[attr-defined]
    assert two.core.driver is not None  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["nothing", "host and port"])
def test_old_context_factories(certificates: Certificates, how: str) -> None:
    """An old context factory gives its context, whether it is told of the host or not."""
    told: list[Any] = []
    base: Any = ClientContextFactory

    class Plain(base):  # type: ignore[misc]
        pass

    class Web(base):  # type: ignore[misc]
        def getContext(self, hostname: bytes, port: int) -> Any:
            told.append((hostname, port))
            return base.getContext(self)

    factory = Plain() if how == "nothing" else Web()
    with EchoServer(tls=certificates.server_context()) as server:

        def work(reactor: Any) -> Any:
            @fault_tolerant(
                reactor=reactor,
                load_balancer=lambda: ("https", f"localhost:{server.port}"),
                context_factory=factory,
            )
            def fetch(call: Call) -> Deferred[Any]:
                sent: Deferred[Any] = call.http.request("GET", "/x")
                return sent

            @inlineCallbacks
            def main() -> Steps:
                answer = yield fetch()  # type: ignore[no-untyped-call]
                assert (yield answer.json())["path"] == "/x"
                yield fetch.core.close()  # type: ignore[attr-defined]

            return main()

        react(work)
        assert told == ([] if how == "nothing" else [(b"localhost", server.port)])


def through(
    proxy: str, monkeypatch: pytest.MonkeyPatch, place: tuple[str, str], **options: Any
) -> Any:
    """Return what runs a test of a function that sends a POST through a proxy."""
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("https_proxy", proxy)

    def run(script: Any) -> None:
        def work(reactor: Any) -> Any:
            @fault_tolerant(reactor=reactor, use_proxy=True, load_balancer=lambda: place, **options)
            @inlineCallbacks
            def send(call: Call) -> Generator[Deferred[Any], Any, Any]:
                answer = yield call.http.request("POST", "/x", data=b"x")
                return (yield answer.content())

            @inlineCallbacks
            def main() -> Steps:
                yield from script(send)
                yield send.core.close()  # type: ignore[attr-defined]

            return main()

        react(work)

    return run


def test_connections_to_a_proxy_are_kept(
    echo: EchoServer, forward_proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests to a proxy share a connection, they do not leave one behind each."""
    run = through(forward_proxy.url, monkeypatch, ("http", echo.address))

    def script(send: Any) -> Steps:
        for _ in range(3):
            yield send()

    run(script)
    assert (forward_proxy.request_count, forward_proxy.connection_count) == (3, 1)


def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tunnel that is refused is a failure to connect: tried again, and nothing is left over."""
    with ProxyServer(tunnel_status=407) as proxy:
        run = through(proxy.url, monkeypatch, ("https", "localhost:1"), retry_attempts=1)

        def script(send: Any) -> Steps:
            with pytest.raises(ConnectError, match="answered 407") as caught:
                yield send()
            assert len(caught.value.attempts) == 2  # type: ignore[attr-defined]
            assert send.core.endpoints.all[0].in_flight == 0

        run(script)
        assert len(proxy.tunnels) == 2


def test_a_proxy_that_says_nothing(
    scripted: StartScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel that is not there within the connect timeout is a failure to connect."""
    proxy = scripted([Receive(), Hold()], [Receive(), Hold()])
    run = through(
        f"http://{proxy.address}",
        monkeypatch,
        ("https", "localhost:1"),
        retry_attempts=1,
        connect_timeout=0.1,
    )

    def script(send: Any) -> Steps:
        with pytest.raises(ConnectingTimeout, match="in time") as caught:
            yield send()
        assert len(caught.value.attempts) == 2  # type: ignore[attr-defined]

    run(script)


def test_close_and_connections_in_use(echo: EchoServer) -> None:
    """A connection that is in use when all are closed is closed when it is given back."""

    def work(reactor: Any) -> Any:
        @fault_tolerant(reactor=reactor, load_balancer=lambda: ("http", echo.address))
        def fetch(call: Call) -> Deferred[Any]:
            sent: Deferred[Any] = call.http.request("GET", "/x")
            return sent

        @inlineCallbacks
        def main() -> Steps:
            answer = yield fetch()  # type: ignore[no-untyped-call]
            yield fetch.core.close()  # type: ignore[attr-defined]
            yield answer.content()
            answer = yield fetch()  # type: ignore[no-untyped-call]
            yield answer.content()
            yield fetch.core.close()  # type: ignore[attr-defined]

        return main()

    react(work)


def test_deferreds_that_time_out(recorder: Recorder) -> None:
    """A function that gives up by `addTimeout` counts as timeout."""
    clock: Any = Clock()

    @fault_tolerant("d", reactor=clock, statsd=recorder)
    def work() -> Deferred[None]:
        deferred: Deferred[None] = Deferred()
        return deferred.addTimeout(1, clock)

    failed: list[Any] = []
    work().addErrback(failed.append)
    clock.advance(1.1)
    assert len(failed) == 1
    assert recorder.counts == {"d.timeout": 1}


def test_no_connect_timeout() -> None:
    """Without a connect timeout there is none of Twisted's either."""

    def work(reactor: Any) -> Deferred[None]:
        endpoints = Endpoints(reactor, policy_of(None), None, Proxies())
        assert endpoints._to("name", 80)._timeout is None
        return succeed(None)

    react(work)

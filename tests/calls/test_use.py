"""How `fault_tolerant` is put on functions, and what it says to wrong use."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from typing import Any

import pytest

from holdfast.calls import Agent, Call, Http, RoundRobin, fault_tolerant
from holdfast.errors import HoldfastError, InvalidRequest
from tests.calls.conftest import Recorder
from tests.servers import Certificates, EchoServer, ProxyServer


def test_bare_and_with_arguments() -> None:
    """The decorator goes on a function with or without arguments."""

    @fault_tolerant
    def one(x: int) -> int:
        return x

    @fault_tolerant()
    def two(x: int) -> int:
        return x

    @fault_tolerant("three", timeout=1)
    async def three(x: int) -> int:
        return x

    assert one(1) == two(1) == asyncio.run(three(1)) == 1
    assert one.__name__ == "one"
    assert three.core.name == "three"  # type: ignore[attr-defined]


def test_methods() -> None:
    """A method keeps its object, and its call goes where its parameter is."""

    class Service:
        name = "s"

        @fault_tolerant
        def ask(self, call: Call, x: int) -> tuple[str, str, int]:
            return self.name, type(call).__name__, x

    assert Service().ask(3) == ("s", "Call", 3)  # type: ignore[call-arg, arg-type]


def test_parameters_for_a_call() -> None:
    """The annotation tells, or the name; those who call do not see the parameter."""

    @fault_tolerant
    def by_name(a: int, call: Any, b: int = 2) -> Any:
        return a, type(call), b

    @fault_tolerant
    def by_type(a: int, *, service: Call | None = None) -> Any:
        return a, type(service)

    @fault_tolerant
    def another(a: int, calls: int = 1) -> Any:
        return a, calls

    assert by_name(1) == (1, Call, 2)  # type: ignore[call-arg]
    assert by_name(a=1, b=3) == (1, Call, 3)  # type: ignore[call-arg]
    assert by_name(1, call=4) == (1, int, 2)
    assert by_type(1) == (1, Call)
    assert another(1) == (1, 1)
    assert list(inspect.signature(by_name).parameters) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fallback": 3}, "fallback must be a function"),
        ({"load_balancer": "x:1"}, "load_balancer must be a function"),
        ({"timeout": -1}, "timeout must be seconds above 0"),
        ({"timeout": True}, "timeout must be seconds above 0"),
        ({"expected_in": 0}, "expected_in must be"),
        ({"connect_timeout": "1"}, "connect_timeout must be"),
        ({"circuit_reset_timeout": 0}, "circuit_reset_timeout must be"),
        ({"retry_attempts": -1}, "retry_attempts must be a whole number from 0"),
        ({"retry_attempts": 1.5}, "retry_attempts must be a whole number from 0"),
        ({"http_pool_size": 0}, "http_pool_size must be a whole number from 1"),
        ({"max_open_per_netloc": 0}, "max_open_per_netloc must be"),
        ({"retry_on_timeout": 1}, "retry_on_timeout must be True or False"),
        ({"reactor": object()}, "reactor must be a reactor"),
        ({"retry_on": "x"}, "retry_on must be classes"),
        ({"dependency_id": ""}, "dependency_id must be a name"),
        ({"statsd": object()}, "incr, timing and gauge"),
        ({"context_factory": object()}, "context_factory must be an ssl.SSLContext"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], words: str) -> None:
    """What makes no sense is refused at the decoration, and the error says what does."""
    with pytest.raises((ValueError, TypeError), match=words):
        fault_tolerant(**options)(lambda: None)


@pytest.mark.parametrize("place", ["x:1", ("http",), ("http", 1), None, ("", "x"), ("a", "b", "c")])
def test_wrong_places(place: Any) -> None:
    """A load balancer that returns no pair is told of at the call, whatever the fallback."""

    @fault_tolerant(load_balancer=lambda: place, fallback=lambda: None)
    def work() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="pair of strings such as"):
        work()


def test_generators_are_refused() -> None:
    """A generator does its work after its call."""

    def numbers() -> Any:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        fault_tolerant(numbers)


def test_twisted_that_is_not_installed() -> None:
    """Without Twisted, asking for it says what to install; all else works, and imports none."""
    code = """
import sys
sys.modules["twisted"] = None
from holdfast.calls import fault_tolerant
assert fault_tolerant(lambda: 3)() == 3
class Reactor:
    def callLater(self): ...
try:
    fault_tolerant(reactor=Reactor())(lambda: 3)
except ImportError as error:
    assert "holdfast[twisted]" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_call_by_hand(echo: EchoServer) -> None:
    """A test of a function makes its call with the documented arguments."""

    def work(call: Call) -> object:
        return call.http.request("GET", "/x").json()["path"]

    places = RoundRobin([echo.address])
    call = Call(None, "d", work, None, 5, 3, 10, False, None, None, places, 10, False, None)
    assert work(call) == "/x"
    assert isinstance(call.agent, Agent)
    assert call.agent.request("GET", "/status/404").status_code == 404
    assert Http(call.agent).request("GET", echo.url).status_code == 200
    assert (call.dependency, call.timeout, call.connect_timeout) == ("d", 5, 1)
    with pytest.raises(AttributeError):
        _ = call.nothing
    call.services.close()


def test_tls_context(certificates: Certificates) -> None:
    """A context of the standard library's is the context factory outside of Twisted."""
    with EchoServer(tls=certificates.server_context()) as server:

        @fault_tolerant(
            load_balancer=lambda: ("https", server.address),
            context_factory=certificates.client_context(),
        )
        def fetch(call: Call) -> object:
            return call.http.request("GET", "/x").json()["path"]

        assert fetch() == "/x"
        fetch.core.close()  # type: ignore[attr-defined]


def test_proxy_from_the_environment(
    echo: EchoServer, forward_proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With use_proxy the variables of the environment are honoured, without it not."""
    monkeypatch.setenv("http_proxy", forward_proxy.url)

    def fetch(call: Call) -> object:
        return call.http.request("GET", "/x").json()["path"]

    for use, count in ((False, 0), (True, 1)):
        function: Any = fault_tolerant(use_proxy=use, load_balancer=lambda: ("http", echo.address))(
            fetch
        )
        assert function() == "/x"
        function.core.close()
        assert forward_proxy.request_count == count


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": "1"}, {"reactor": object()}])
def test_wrong_requests(echo: EchoServer, options: Any) -> None:
    """Wrong options of a request are the caller's error: not retried, and no fallback hides it."""

    @fault_tolerant(load_balancer=lambda: ("http", echo.address), fallback=lambda: None)
    def fetch(call: Call) -> object:
        return call.http.request("GET", "/", **options)

    with pytest.raises(InvalidRequest):
        fetch()
    assert echo.request_count == 0


def test_listeners_come_and_go() -> None:
    """Who listens is told of each call; when nobody does any more, calls are ordinary again."""
    kinds: list[str] = []

    @fault_tolerant
    def work() -> None:
        pass

    core: Any = work.core  # type: ignore[attr-defined]
    listener = lambda event: kinds.append(event.kind)  # noqa: E731  it is compared
    core.listen(listener)
    work()
    assert kinds == ["call started", "attempt started", "attempt succeeded", "call succeeded"]
    core.unlisten(listener)
    work()
    assert len(kinds) == 4
    assert core.plain


def test_failures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Failed attempts and calls are logged under the dependency's name, successes are not."""

    @fault_tolerant("users", retry_attempts=1)
    def work(well: bool) -> None:
        if not well:
            raise ConnectionError("no")

    work(True)
    assert not caplog.records
    with pytest.raises(ConnectionError):
        work(False)
    assert {record.name for record in caplog.records} == {"holdfast.calls.users"}
    assert any("call" in record.getMessage() for record in caplog.records)


def test_many_netlocs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more netlocs than are remembered, the one that was used longest ago goes."""
    from holdfast.calls import places

    monkeypatch.setattr(places, "PLACES", 3)
    netlocs = iter("abcabd")

    @fault_tolerant(load_balancer=lambda: ("http", next(netlocs)))
    def work() -> None:
        pass

    for _ in range(6):
        work()
    core: Any = work.core  # type: ignore[attr-defined]
    assert sorted(endpoint.name for endpoint in core.endpoints.all) == ["a", "b", "d"]


def test_a_coroutine_falls_back_on_a_plain_function(recorder: Recorder) -> None:
    """Either kind of function has either kind of fallback, where there is a loop to await it."""

    async def later(error: Exception) -> str:
        return str(error)

    @fault_tolerant(fallback=lambda error: str(error), retry_attempts=0)
    async def one() -> str:
        raise ConnectionError("one")

    @fault_tolerant(fallback=later, retry_attempts=0)
    async def two() -> str:
        raise ConnectionError("two")

    async def main() -> tuple[str, str]:
        return await one(), await two()

    assert asyncio.run(main()) == ("one", "two")


def test_errors_are_ours() -> None:
    """Not being able to call at all is an error of this package, with words."""

    @fault_tolerant(load_balancer=lambda: ("redis", "x:1"))
    def work(call: Call) -> object:
        return call.http.request("GET", "/")

    with pytest.raises(HoldfastError, match="redis"):
        work()

"""Functions that use other HTTP clients: what is tried again, and what may not be."""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx2
import pytest
import requests
import urllib3

from holdfast import Cluster
from holdfast.calls import fault_tolerant
from holdfast.calls.judging import judged
from holdfast.policy import Policy
from tests.calls.test_behaviour import OK, unavailable
from tests.servers import Close, Hold, Receive, Reset, Script, Send
from tests.servers.fixtures import StartScripted


def by_requests(method: str, url: str) -> None:
    """Send a request by requests."""
    requests.request(method, url, timeout=1).raise_for_status()


def by_httpx(method: str, url: str) -> None:
    """Send a request by httpx."""
    with httpx2.Client(timeout=1) as client:
        client.request(method, url).raise_for_status()


def by_urllib3(method: str, url: str) -> None:
    """Send a request by urllib3."""
    with urllib3.PoolManager(retries=False, timeout=1) as pool:
        pool.request(method, url)


def by_aiohttp(method: str, url: str) -> None:
    """Send a request by aiohttp."""

    async def main() -> None:
        timeout = aiohttp.ClientTimeout(total=1)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url) as answer,
        ):
            answer.raise_for_status()
            await answer.read()

    asyncio.run(main())


def by_urllib(method: str, url: str) -> None:
    """Send a request by the standard library."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=1) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        raise


def by_http_client(method: str, url: str) -> None:
    """Send a request by what urllib stands on."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=1)
    try:
        connection.request(method, f"/{path}")
        connection.getresponse().read()
    finally:
        connection.close()


def by_cluster(method: str, url: str) -> None:
    """Send a request by holdfast."""
    origin, _, path = url.removeprefix("http://").partition("/")
    with Cluster([origin], policy=Policy(timeout=1, retry=None)) as cluster:
        cluster.request(method, f"/{path}").raise_for_status()


CLIENTS = [by_requests, by_httpx, by_urllib3, by_aiohttp, by_urllib, by_http_client]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_connection(
    client: Callable[[str, str], None], method: str, refusing: tuple[str, int]
) -> None:
    """A connection that is refused is tried again, whatever the method: nothing was sent."""
    calls: list[int] = []

    @fault_tolerant(retry_attempts=2)
    def work() -> None:
        calls.append(1)
        client(method, "http://{}:{}/x".format(*refusing))

    with pytest.raises(Exception) as caught:  # noqa: PT011  each has its own
        work()
    assert len(calls) == len(caught.value.attempts) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("client", CLIENTS)
def test_connections_that_break(
    client: Callable[[str, str], None], scripted: StartScripted
) -> None:
    """A GET whose connection breaks is sent again."""
    server = scripted([Receive(), Reset()], OK)

    @fault_tolerant
    def work() -> None:
        client("GET", f"http://{server.address}/x")

    work()
    assert len(server.requests) == 2


#: The beginning of an answer.
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "steps",
    [[Receive(), Reset()], [Receive(), Close()], [Receive(), Send(BEGUN), Close()], [Hold()]],
    ids=["reset", "closed", "closed in the answer", "late"],
)
def test_what_may_have_been_carried_out(
    client: Callable[[str, str], None], steps: Script, scripted: StartScripted
) -> None:
    """A POST whose connection breaks is not sent again: the error, or its traceback, tells it."""
    server = scripted([Receive(), *steps] if len(steps) == 1 else steps, OK)

    @fault_tolerant(retry_on_timeout=True)
    def work() -> None:
        client("POST", f"http://{server.address}/x")

    with pytest.raises(Exception):  # noqa: B017, PT011  each has its own
        work()
    assert len(server.requests) == 1


@pytest.mark.parametrize("again", [False, True])
def test_what_nothing_is_known_of(again: bool) -> None:
    """A connection that breaks is tried again where no request, or not its method, is known."""
    calls: list[int] = []

    class Own(ConnectionError):
        reason = "a text"

    @fault_tolerant
    def work(method: str) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise (Own("x") if again else ConnectionResetError) from ValueError("y")

    work("POST")
    assert len(calls) == 2


@pytest.mark.parametrize("client", [by_requests, by_httpx, by_aiohttp, by_urllib, by_cluster])
@pytest.mark.parametrize(("method", "count"), [("GET", 2), ("POST", 1)])
def test_raised_statuses(
    client: Callable[[str, str], None], method: str, count: int, scripted: StartScripted
) -> None:
    """A 503 that is raised is tried again when the request may be."""
    server = scripted(unavailable(), OK)

    @fault_tolerant
    def work() -> None:
        client(method, f"http://{server.address}/x")

    if count == 1:
        with pytest.raises(Exception):  # noqa: B017, PT011  each has its own
            work()
    else:
        work()
    assert len(server.requests) == count


@pytest.mark.parametrize(("method", "count"), [("GET", 2), ("POST", 1)])
def test_returned_statuses(method: str, count: int, scripted: StartScripted) -> None:
    """A 503 that is returned is tried again when the request may be, though no Call was asked."""
    server = scripted(unavailable(), OK)

    with Cluster([server.address], policy=Policy(retry=None)) as cluster:

        @fault_tolerant
        def work() -> Any:
            return cluster.request(method, "/x")

        assert work().status_code == (503 if count == 1 else 200)
    assert len(server.requests) == count


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("again", [False, True])
def test_timeouts(client: Callable[[str, str], None], again: bool, scripted: StartScripted) -> None:
    """A timeout is tried again only when that is asked for."""
    server = scripted([Receive(), Hold()], OK)

    @fault_tolerant(retry_on_timeout=again)
    def work() -> None:
        client("GET", f"http://{server.address}/x")

    if again:
        work()
    else:
        with pytest.raises(Exception):  # noqa: B017, PT011  each has its own
            work()
    assert len(server.requests) == 1 + again


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (urllib3.exceptions.MaxRetryError(None, "/", ConnectionError()), False),  # type: ignore[arg-type]
        (urllib3.exceptions.MaxRetryError(None, "/", urllib3.exceptions.ProtocolError()), True),  # type: ignore[arg-type]
        (http.client.IncompleteRead(b""), True),
        (requests.exceptions.ChunkedEncodingError(), True),
        (requests.exceptions.InvalidURL(), False),
        (httpx2.RequestError("no"), False),
        (aiohttp.ClientPayloadError(), True),
        (aiohttp.InvalidURL("x"), False),
    ],
)
def test_what_errors_mean(error: Exception, again: bool) -> None:
    """Errors of connections are worth another attempt, those of the caller are not."""
    assert judged(error, (), False).again is again

"""Where services and tokens come from, and what the arguments must be."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import pytest

from holdfast.blocks.aio import AsyncKeepClient
from holdfast.blocks.client import KeepClient
from holdfast.blocks.errors import KeepReadError, KeepRequestError
from holdfast.errors import HoldfastError
from tests.blocks.client.clients import TOKEN, Api, Client, item, locator, md5
from tests.blocks.client.conftest import StartClient
from tests.blocks.client.stubs import Service, Stubs
from tests.servers import Receive, response
from tests.servers.fixtures import StartScripted

DATA = b"foo"
NAME = md5(DATA)


@pytest.mark.parametrize("of", [KeepClient, AsyncKeepClient])
def test_the_signature(of: type[Any]) -> None:
    """The arguments of a client are those of the Arvados SDK, in their order."""
    given = [
        (one.name, one.default)
        for one in inspect.signature(of).parameters.values()
        if one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    assert given[:9] == [
        ("api_client", None),
        ("proxy", None),
        ("timeout", (2, 256, 32768)),
        ("proxy_timeout", (20, 256, 32768)),
        ("api_token", None),
        ("local_store", None),
        ("block_cache", None),
        ("num_retries", 0),
        ("session", None),
    ]
    assert of.DEFAULT_TIMEOUT == (2, 256, 32768)
    assert of.DEFAULT_PROXY_TIMEOUT == (20, 256, 32768)
    for name in ("KeepService", "KeepWriterQueue", "KeepWriterThreadPool", "KeepWriterThread"):
        assert inspect.isclass(getattr(of, name))


def test_services_of_an_api_object(stubs: Stubs, start: StartClient) -> None:
    """Services are listed at the first need, and not again."""
    client = start(stubs.api, proxy="", driver=stubs.world)
    assert stubs.api.asked == 0
    client.put(DATA)
    client.put(DATA)
    assert stubs.api.asked == 1
    assert [one.uuid for one in client.build_services_list()] == [
        one.item["uuid"] for one in stubs.services
    ]
    assert stubs.api.asked == 1
    client.build_services_list(force_rebuild=True)
    assert stubs.api.asked == 2
    assert not client.keep.using_proxy


def test_the_list_is_refreshed_after_a_round(stubs: Stubs, start: StartClient) -> None:
    """After a failed round the list is asked for again: a service that is new there can help."""
    client = start(stubs.api, proxy="", driver=stubs.world, num_retries=1)
    client.build_services_list()
    saviour = stubs.add(Service(9))
    text = stubs.put(DATA, saviour)
    assert client.get(text) == DATA
    assert stubs.api.asked == 2


def test_a_list_that_cannot_be_refreshed(
    stubs: Stubs, start: StartClient, caplog: pytest.LogCaptureFixture
) -> None:
    """When the API server fails meanwhile, the old list is used; at first, its error is raised."""
    client = start(stubs.api, proxy="", driver=stubs.world, num_retries=1)
    stubs.api.error = RuntimeError(f"no answer for {TOKEN}")
    with pytest.raises(RuntimeError):
        client.get(f"{NAME}+3")
    stubs.api.error = None
    client.build_services_list()
    stubs.api.error = RuntimeError(f"no answer for {TOKEN}")
    text = stubs.put(DATA)
    for service in stubs.services:
        service.plan.append(503)
    with caplog.at_level(logging.DEBUG):
        assert client.get(text) == DATA
    assert "cannot be listed again" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"service_host": "a b"},
        {"service_port": None},
        {"service_port": 99999},
        {"service_host": "u:p@host"},
    ],
)
def test_a_list_that_makes_no_sense(start: StartClient, wrong: dict[str, Any]) -> None:
    """A service that cannot be called is an error that says so."""
    api = Api([{**item(1, "10.0.0.1"), **wrong}])
    client = start(api, proxy="")
    with pytest.raises(KeepRequestError, match="cannot be called"):
        client.build_services_list()
    del api.items[0]["uuid"]
    with pytest.raises(KeepRequestError):
        client.build_services_list()


def test_places_of_services(start: StartClient) -> None:
    """Addresses of IPv6 stand in brackets, and TLS is asked for where the list says so."""
    api = Api(
        [
            item(1, "::1", 25107),
            item(2, "keep.example", 443, service_ssl_flag=True),
            item(3, "[fe80::2]", 80),
        ]
    )
    client = start(api, proxy="")
    assert [one.root for one in client.build_services_list()] == [
        "http://[::1]:25107/",
        "https://keep.example/",
        "http://[fe80::2]/",
    ]


def test_urls_that_are_the_same(start: StartClient) -> None:
    """A service that is listed twice is one, under its first number."""
    client = start(proxy="http://x:1 http://y:1/ http://x:1/ http://X:1")
    assert [(one.uuid[-1], one.root) for one in client.build_services_list()] == [
        ("0", "http://x:1/"),
        ("1", "http://y:1/"),
    ]


def test_urls(start: StartClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs come from the argument, else from the environment; each gets a uuid by its place."""
    monkeypatch.setenv("ARVADOS_KEEP_PROXY", "http://c:1")
    assert [one.root for one in start().build_services_list()] == ["http://c:1/"]
    monkeypatch.setenv("ARVADOS_KEEP_SERVICES", " http://a:1  https://[::1]:2/\n")
    client = start()
    services = client.build_services_list()
    assert [(one.root, one.uuid, one.kind) for one in services] == [
        ("http://a:1/", "00000-bi6l4-000000000000000", "proxy"),
        ("https://[::1]:2/", "00000-bi6l4-000000000000001", "proxy"),
    ]
    assert client.keep.using_proxy
    client = start(proxy="http://x:1 http://y:1")
    expected = [
        f"http://{host}:1/"
        for _, host in sorted(
            [(md5(f"{NAME}{number:015d}".encode()), host) for number, host in enumerate("xy")],
            reverse=True,
        )
    ]
    assert client.weighted_service_roots(NAME) == expected
    api = Api([item(1, "10.0.0.1")])
    assert len(start(api).build_services_list()) == 2  # the environment's, as in the SDK
    assert len(start(api, proxy="").build_services_list()) == 1


def test_tokens(
    scripted: StartScripted, start: StartClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is the argument's, or the API object's, or the environment's, or none."""
    monkeypatch.setenv("ARVADOS_API_TOKEN", "of-the-environment")
    server = scripted([Receive(), response(200, DATA)])
    text = locator(DATA)
    start(proxy=server.url, api_token="mine").get(text)
    start(proxy=server.url).get(text)
    start(Api([], "of-the-api"), proxy=server.url).get(text)
    monkeypatch.delenv("ARVADOS_API_TOKEN")
    start(proxy=server.url).get(text)
    assert [one.header("authorization") for one in server.requests] == [
        "Bearer mine",
        "Bearer of-the-environment",
        "Bearer of-the-api",
        "",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {"api_client": Api([]), "api_token": TOKEN, "proxy": "http://a"},
        {},
        {"proxy": ""},
        {"proxy": "host:25107"},
        {"proxy": "ftp://host/"},
        {"proxy": "http://"},
        {"proxy": "http://a:b:c"},
        {"proxy": f"http://user:{TOKEN}@host/"},
        {"proxy": "http://host:25107/?x=1"},
        {"proxy": "unix:/x"},
        {"proxy": "http://a", "timeout": (0, 1, 1)},
        {"proxy": "http://a", "timeout": "2"},
        {"proxy": "http://a", "proxy_timeout": (1, 2, 3, 4)},
        {"proxy": "http://a", "num_retries": -1},
        {"proxy": "http://a", "num_retries": 1.5},
        {"proxy": "http://a", "api_token": "a\r\nX: y"},
        {"proxy": "http://a", "num_prefetch_threads": 0},
    ],
)
def test_arguments_that_make_no_client(kind: str, arguments: dict[str, Any]) -> None:
    """Such arguments are an error at once, and it does not tell the token."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Client(kind, **arguments)
    assert isinstance(caught.value, HoldfastError)
    assert TOKEN not in str(caught.value)
    assert "X: y" not in str(caught.value)


def test_timeouts(start: StartClient) -> None:
    """A timeout is one number, two, or three; the time to connect doubles with each attempt."""
    client = start(Api([item(1, "10.0.0.1")]), proxy="", timeout=3, proxy_timeout=(4, 5))
    assert client.keep.timeout == (3, 3, 32768)
    assert client.keep.proxy_timeout == (4, 5, 32768)
    assert client.current_timeout(0) == (3, 3, 32768)
    assert client.current_timeout(3) == (24, 3, 32768)
    client = start(proxy="http://a", timeout=None, proxy_timeout=(1.5, 2, 0))
    assert client.keep.timeout == (2, 256, 32768)
    assert client.current_timeout(2) == (6.0, 2, 0)
    assert client.current_timeout(10_000)[0] > 0


def test_the_results_of_rounds() -> None:
    """A result ends the rounds, and so does having nobody left to ask."""
    check = KeepClient._check_loop_result
    assert check((b"", 3)) is True
    assert check((None, 3)) is None
    assert check((False, 1)) is None
    assert check((None, 0)) is False


def test_service_maps(stubs: Stubs, start: StartClient) -> None:
    """A map is given a service for each URL that it does not have yet."""
    client = start(stubs.api, proxy="", driver=stubs.world)
    roots: dict[str, Any] = {}
    order = client.map_new_services(roots, NAME, False, True, {"X-A": "b"})
    assert order == [one.root for one in stubs.order(NAME)]
    assert set(roots) == set(order)
    known = dict(roots)
    stubs.add(Service(9))
    order = client.map_new_services(roots, f"{NAME}+3", True, False, {})
    assert len(order) == 4
    assert all(roots[root] is service for root, service in known.items())


def test_without_services(start: StartClient) -> None:
    """Without services the error says so."""
    client = start(Api([]), proxy="")
    with pytest.raises(KeepReadError, match="no Keep service is available"):
        client.get(f"{NAME}+3")

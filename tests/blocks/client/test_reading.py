"""Get and head, with services at fault in every way; in virtual time."""

from __future__ import annotations

import pickle
from math import inf
from typing import Any

import pytest

import holdfast
from holdfast.blocks.errors import HttpError, KeepReadError, KeepRequestError, NotFoundError
from holdfast.blocks.service import BadBlock
from holdfast.errors import (
    ConnectError,
    ConnectTimeout,
    DeadlineExceeded,
    HoldfastError,
    NetworkError,
    ReadTimeout,
    TooLarge,
    TooSlow,
    Truncated,
)
from holdfast.simulation import Reply
from tests.blocks.client.clients import TOKEN, Client, md5
from tests.blocks.client.conftest import StartClient
from tests.blocks.client.stubs import SIGNATURE, Service, Stubs

DATA = b"foo" * 1000
NAME = md5(DATA)
LOCATOR = f"{NAME}+{len(DATA)}"

SLOWLY = [(200.0, DATA[at : at + 500]) for at in range(0, 3000, 500)]

#: What a service may do instead of its duty: the answer, the error, whether it may be repeated.
FAULTS: dict[str, tuple[Any, type[Exception], bool]] = {
    "a reset": (ConnectionResetError, NetworkError, True),
    "an early close": (EOFError, NetworkError, True),
    "a cut body": (Reply(200, DATA, fate="cut"), Truncated, True),
    "silence": (TimeoutError, ReadTimeout, True),
    "a slow body": (Reply(200, b"", pieces=SLOWLY), TooSlow, True),
    "a body that stops": (Reply(200, DATA[:9], pieces=[(inf, DATA[9:])]), TooSlow, True),
    "another checksum": (Reply(200, b"bar" * 1000), BadBlock, True),
    "a short body": (Reply(200, DATA[:-1]), BadBlock, True),
    "a long body": (Reply(200, DATA + b"x"), BadBlock, True),
    "nothing": (Reply(200, b""), BadBlock, True),
    "a redirect": (Reply(302, b"", {"Location": "http://10.0.0.9/"}), HttpError, False),
    **{str(status): (status, HttpError, True) for status in (408, 409, 423, 500, 502, 503, 504)},
    **{str(status): (status, HttpError, False) for status in (400, 401, 403, 404, 429, 501, 507)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_next_service_is_asked(stubs: Stubs, client: Client, fault: str) -> None:
    """Whatever a service does, the next one in the order is asked."""
    answer, _, _ = FAULTS[fault]
    stubs.put(DATA)
    order = stubs.order(NAME)
    order[0].plan.append(answer)
    assert client.get(LOCATOR) == DATA
    assert stubs.asked == [order[0].host, order[1].host]


@pytest.mark.parametrize("fault", FAULTS)
def test_all_services_at_fault(stubs: Stubs, client: Client, fault: str) -> None:
    """The error lists each service, in the order asked, with what it did, and the request's id."""
    answer, kind, _ = FAULTS[fault]
    for service in stubs.services:
        service.plan.append(answer)
    with pytest.raises(KeepReadError) as caught:
        client.get(LOCATOR + SIGNATURE, request_id="req-mine")
    error = caught.value
    assert isinstance(error, NotFoundError) == (fault == "404")
    order = stubs.order(NAME)
    assert list(error.request_errors()) == [service.root for service in order]
    assert all(isinstance(one, kind) for one in error.request_errors().values())
    text = str(error)
    assert text.startswith("[req-mine] ")
    assert error.request_id == "req-mine"
    assert LOCATOR in text
    places = [text.index(service.root) for service in order]
    assert places == sorted(places)
    assert TOKEN not in text
    assert SIGNATURE not in text
    assert [one.headers["x-request-id"] for one in order[0].asked] == ["req-mine"]


@pytest.mark.parametrize("fault", FAULTS)
def test_another_round(stubs: Stubs, start: StartClient, fault: str) -> None:
    """A service is asked again in the next round, unless it has failed for good."""
    answer, _, repeated = FAULTS[fault]
    stubs.put(DATA)
    client = start(stubs.api, proxy="", driver=stubs.world, num_retries=1)
    for service in stubs.services:
        service.plan.append(answer)
    order = [service.host for service in stubs.order(NAME)]
    if repeated:
        assert client.get(LOCATOR) == DATA
        assert stubs.asked == [*order, order[0]]
        assert stubs.world.now > 0
    else:
        with pytest.raises(KeepReadError):
            client.get(LOCATOR)
        assert stubs.asked == order
        assert stubs.world.now == 0  # there was nothing to wait for


def test_only_those_that_may_do_better_are_asked_again(stubs: Stubs, client: Client) -> None:
    """In later rounds, services that have failed for good are left out."""
    first, second, third = stubs.order(NAME)
    first.always, second.always, third.always = 404, 503, 403
    with pytest.raises(KeepReadError) as caught:
        client.get(LOCATOR, num_retries=2)
    assert not isinstance(caught.value, NotFoundError)
    assert "after 3 attempts" in str(caught.value)
    assert stubs.asked == [first.host, second.host, third.host, second.host, second.host]
    errors = caught.value.request_errors()
    assert list(errors) == [first.root, second.root, third.root]
    statuses = [one.status_code for one in errors.values() if isinstance(one, HttpError)]
    assert statuses == [404, 503, 403]


def test_refused_connections(stubs: Stubs, client: Client) -> None:
    """A service that is down is passed over, and named when no other one helps."""
    stubs.put(DATA)
    first, second, third = stubs.order(NAME)
    stubs.world.hosts[first.host].crash()
    assert client.get(LOCATOR) == DATA
    assert stubs.asked == [second.host]
    stubs.world.hosts[second.host].crash()
    stubs.world.hosts[third.host].crash()
    client.keep.block_cache.clear()
    with pytest.raises(KeepReadError, match="ConnectError") as caught:
        client.get(LOCATOR)
    assert all(type(one) is ConnectError for one in caught.value.request_errors().values())
    assert len(caught.value.request_errors()) == 3


def test_the_time_to_connect_doubles(stubs: Stubs, start: StartClient) -> None:
    """A service is given 2 s to connect, then 4, then 8, with pauses that double between."""
    for service in stubs.services:
        stubs.world.hosts[service.host].crash(silent=True)
    stubs.world.random = lambda: 1.0
    client = start(stubs.api, proxy="", driver=stubs.world, num_retries=2)
    with pytest.raises(KeepReadError) as caught:
        client.get(LOCATOR)
    assert all(type(one) is ConnectTimeout for one in caught.value.request_errors().values())
    assert "within 8 s" in str(caught.value)
    assert stubs.world.now == pytest.approx(3 * (2 + 4 + 8) + 2 + 4)


def test_pauses_have_an_end(stubs: Stubs, client: Client) -> None:
    """Pauses grow up to a minute, and jitter makes them shorter."""
    for service in stubs.services:
        service.always = 503
    client.keep.core.random = lambda: 0.5
    with pytest.raises(KeepReadError):
        client.get(LOCATOR, num_retries=8)
    assert stubs.world.now == pytest.approx(0.5 * (2 + 4 + 8 + 16 + 32 + 60 + 60 + 60))


def test_proxies_have_more_time(start: StartClient) -> None:
    """A proxy is given 20 s to connect."""
    stubs = Stubs(1, "proxy")
    stubs.world.hosts[stubs.services[0].host].crash(silent=True)
    client = start(stubs.api, proxy="", driver=stubs.world)
    with pytest.raises(KeepReadError, match="within 20 s"):
        client.get(LOCATOR)
    assert stubs.world.now == pytest.approx(20)
    assert client.keep.using_proxy
    assert client.keep.current_timeout(1) == (40, 256, 32768)


def test_no_bandwidth_is_asked_of_a_head(stubs: Stubs, client: Client) -> None:
    """A HEAD may take its time, up to the limit of silence."""
    stubs.put(DATA)
    first = stubs.order(NAME)[0]
    first.plan.append(Reply(200, after=255.0))
    assert client.head(LOCATOR) is True
    first.plan.append(TimeoutError)
    assert client.head(LOCATOR) is True
    assert stubs.world.now == pytest.approx(255 + 256)


def test_a_body_at_the_least_bandwidth(stubs: Stubs, start: StartClient) -> None:
    """A body that is as fast as it must be is received, however long it takes."""
    client = start(stubs.api, proxy="", driver=stubs.world, timeout=(2, 10, 100))
    pieces = [(5.0, DATA[at : at + 600]) for at in range(0, 3000, 600)]
    stubs.order(NAME)[0].plan.append(Reply(200, b"", pieces=pieces))
    assert client.get(LOCATOR) == DATA
    assert stubs.world.now == pytest.approx(25)


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 200_000, 3 << 20])
def test_sizes(stubs: Stubs, client: Client, size: int) -> None:
    """Blocks of all sizes come, with and without the size in the locator."""
    data = bytes(range(251)) * (size // 251 + 1)
    locator = stubs.put(data[:size])
    assert client.get(locator) == data[:size]
    client.keep.block_cache.clear()
    assert client.get(locator.partition("+")[0]) == data[:size]


def test_a_body_of_unknown_length(stubs: Stubs, client: Client) -> None:
    """A service that would send more than a block has is not believed."""
    first, second, _ = stubs.order(NAME)
    first.plan.append(Reply(200, DATA, {"X-Ignored": "1"}))
    assert client.get(NAME) == DATA
    client.keep.block_cache.clear()
    second.blocks[NAME] = DATA
    first.plan.append(lambda asked: Reply(200, bytes((64 << 20) + 1)))
    assert client.get(NAME) == DATA
    assert stubs.asked == [first.host, first.host, second.host]


def test_several_locators(stubs: Stubs, client: Client) -> None:
    """Several locators, with commas between, are one piece of data."""
    parts = [b"one", b"", b"two"]
    text = ",".join(stubs.put(part) for part in parts)
    assert client.get(text) == b"onetwo"


def test_the_empty_block(stubs: Stubs, client: Client) -> None:
    """The block without content is always there."""
    assert client.get("d41d8cd98f00b204e9800998ecf8427e+0") == b""
    assert stubs.asked == []


@pytest.mark.parametrize("text", ["", "x", "acbd18db", NAME.upper(), f"{NAME}+3+", f"{NAME}+3+4"])
def test_invalid_locators(stubs: Stubs, client: Client, text: str) -> None:
    """What is no locator is a ValueError, and nobody is asked."""
    for method in ("get", "head"):
        with pytest.raises(ValueError):  # noqa: PT011
            client.call(method, text)
    with pytest.raises(ValueError):  # noqa: PT011
        client.get(f"{LOCATOR},{text}")
    assert stubs.asked == []


def test_a_locator_of_too_much(stubs: Stubs, client: Client) -> None:
    """No memory is taken for a size that no block has."""
    with pytest.raises(ValueError, match="no block has"):
        client.get(f"{NAME}+99999999999")
    assert stubs.asked == []


def test_head(stubs: Stubs, client: Client) -> None:
    """A HEAD tells whether a service has the block, without receiving it."""
    locator = stubs.put(DATA, stubs.order(NAME)[1])
    assert client.head(locator) is True
    assert [method for _, method in stubs.log] == ["HEAD", "HEAD"]
    assert client.keep.download_counter.get() == 0
    with pytest.raises(NotFoundError):
        client.head(f"{'0' * 32}+3")


def test_not_found(stubs: Stubs, client: Client) -> None:
    """A block that no service has is not found; one doubt makes it an error of reading."""
    with pytest.raises(NotFoundError) as caught:
        client.get(LOCATOR)
    assert "no such block" in str(caught.value)
    assert isinstance(caught.value, KeepReadError)
    assert isinstance(caught.value, KeepRequestError)
    assert isinstance(caught.value, HoldfastError)
    stubs.order(NAME)[1].plan.append(503)
    with pytest.raises(KeepReadError) as other:
        client.get(LOCATOR)
    assert not isinstance(other.value, NotFoundError)


def test_hinted_services(stubs: Stubs, client: Client) -> None:
    """A service that the locator names is asked first, also a gateway, which no other asks."""
    gateway = stubs.add(Service(9, "gateway:test"))
    locator = stubs.put(DATA, gateway)
    with pytest.raises(NotFoundError):
        client.get(locator)
    assert gateway.asked == []
    assert client.get(f"{locator}+K@{gateway.item['uuid']}") == DATA
    assert stubs.asked[3:] == [gateway.host]
    assert gateway.asked[0].target == f"/{locator}+K@{gateway.item['uuid']}"


def test_an_error_survives_a_pickle(stubs: Stubs, client: Client) -> None:
    """An error goes from one process to another with all that it tells."""
    stubs.order(NAME)[0].plan.append(503)
    with pytest.raises(KeepReadError) as caught:
        client.get(LOCATOR)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is type(caught.value)
    assert str(copy) == str(caught.value)
    assert list(copy.request_errors()) == list(caught.value.request_errors())


def test_what_services_say_is_cleaned(stubs: Stubs, client: Client) -> None:
    """Neither a token nor a signature comes into an error by the words of a service."""
    for service in stubs.services:
        words = f"no: {TOKEN} {LOCATOR}{SIGNATURE}\x1b[2J\nsecond line".encode()
        service.plan.append(Reply(403, words))
    with pytest.raises(KeepReadError) as caught:
        client.get(LOCATOR)
    text = str(caught.value)
    assert TOKEN not in text
    assert SIGNATURE not in text
    assert "\x1b" not in text
    assert "second line" not in text
    assert "403 Forbidden (no: " in text


def test_long_errors(stubs: Stubs, client: Client) -> None:
    """An error page of any length is a status, and not all of it is read."""
    stubs.put(DATA)
    stubs.order(NAME)[0].plan.append(Reply(404, b"x" * 300_000))
    assert client.get(NAME) == DATA


def test_a_body_that_does_not_fit(stubs: Stubs, client: Client) -> None:
    """Of a large block, more than the locator says is an error of the service."""
    data = bytes(100_000)
    stubs.put(data)
    first = stubs.order(md5(data))[0]
    first.always = Reply(200, bytes(100_001))
    assert client.get(f"{md5(data)}+100000") == data
    for service in stubs.services:
        service.always = first.always
    client.keep.block_cache.clear()
    with pytest.raises(KeepReadError) as caught:
        client.get(f"{md5(data)}+100000")
    assert {type(one) for one in caught.value.request_errors().values()} == {TooLarge}


def test_the_deadline_around(stubs: Stubs, client: Client) -> None:
    """A deadline around the call holds for all of it, and the error tells what was tried."""
    for service in stubs.services:
        service.always = Reply(503, after=1.0)
    with (
        holdfast.deadline(5.5, clock=stubs.world.clock),
        pytest.raises(DeadlineExceeded) as caught,
    ):
        client.get(LOCATOR, num_retries=50)
    assert stubs.world.now == pytest.approx(5.5)
    assert isinstance(caught.value.__cause__, KeepReadError)
    assert "503" in str(caught.value)


def test_headers_of_ones_own(stubs: Stubs, client: Client) -> None:
    """Headers go with each request, and such a request is not answered from the cache."""
    stubs.put(DATA)
    client.get(LOCATOR)
    client.get(LOCATOR, headers={"X-Mine": "1", "User-Agent": "me"})
    asked = stubs.order(NAME)[0].asked[-1]
    assert asked.headers["x-mine"] == "1"
    assert asked.head.lower().count("user-agent:") == 1
    assert asked.headers["user-agent"] == "me"
    with pytest.raises(ValueError, match="forbidden"):
        client.get(LOCATOR, headers={"X-Mine": "1\r\nX-Yours: 2"})
    with pytest.raises(ValueError, match="forbidden"):
        client.head(LOCATOR, request_id="1\r\nX-Yours: 2")


def test_request_ids(stubs: Stubs, client: Client) -> None:
    """All requests of one operation have one id, and each operation has its own."""
    for service in stubs.services:
        service.plan.append(503)
    with pytest.raises(KeepReadError):
        client.get(LOCATOR)
    ids = {one.asked[0].headers["x-request-id"] for one in stubs.services}
    assert len(ids) == 1
    assert len(next(iter(ids))) == 24
    with pytest.raises(NotFoundError):
        client.get(LOCATOR)
    assert stubs.services[0].asked[1].headers["x-request-id"] not in ids
    stubs.api.request_id = "req-api"  # type: ignore[attr-defined]
    with pytest.raises(NotFoundError, match=r"^\[req-api\]"):
        client.get(LOCATOR)


def test_refresh_signature(stubs: Stubs, client: Client) -> None:
    """A locator of another cluster is exchanged for a local one by a HEAD."""
    remote = f"{LOCATOR}+Rabcde-{'6' * 40}@7fffffff"
    first, second, _ = stubs.order(NAME)
    first.plan.append(404)
    second.plan.append(Reply(200, b"", {"X-Keep-Locator": f"{LOCATOR}{SIGNATURE}"}))
    assert client.refresh_signature(remote) == f"{LOCATOR}{SIGNATURE}"
    asked = second.asked[0]
    assert asked.method == "HEAD"
    assert asked.target == f"/{remote}"
    mode, _, when = asked.headers["x-keep-signature"].partition(", ")
    assert mode == "local"
    assert when.endswith("Z")
    assert "T" in when
    first.plan.append(Reply(200))
    with pytest.raises(KeepReadError, match="no local signature"):
        client.refresh_signature(remote)


def test_counters(stubs: Stubs, client: Client) -> None:
    """What was asked for, found in the cache and received is counted."""
    stubs.put(DATA)
    for _ in range(3):
        client.get(LOCATOR)
    keep = client.keep
    assert (keep.get_counter.get(), keep.hits_counter.get(), keep.misses_counter.get()) == (3, 2, 1)
    assert keep.download_counter.get() == len(DATA)
    assert repr(keep.get_counter) == "<Counter 3>"
    assert TOKEN not in repr(keep)

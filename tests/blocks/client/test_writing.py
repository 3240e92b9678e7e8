"""Put: as many copies as asked for, no more, and no fewer without an error; in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.blocks.copies import KeepWriterQueue
from holdfast.blocks.errors import ArgumentError, HttpError, KeepWriteError
from holdfast.blocks.requests import Fields
from holdfast.blocks.service import BadBlock, KeepService
from holdfast.blocks.threads import KeepWriterThread, KeepWriterThreadPool
from holdfast.errors import NetworkError, ReadTimeout
from holdfast.simulation import Asked, Reply
from tests.blocks.client.clients import KINDS, TOKEN, Client, md5
from tests.blocks.client.conftest import StartClient
from tests.blocks.client.stubs import SIGNATURE, Service, Stubs
from tests.servers import (
    Hold,
    Receive,
    ReceiveBody,
    ReceiveEnd,
    Script,
    response,
    response_head,
)
from tests.servers.fixtures import StartScripted

DATA = b"foo"
NAME = md5(DATA)

FAULTS: dict[str, tuple[Any, type[Exception], bool]] = {
    "a reset": (ConnectionResetError, NetworkError, True),
    "an early close": (EOFError, NetworkError, True),
    "silence": (TimeoutError, ReadTimeout, True),
    "another locator": (Reply(200, b"0" * 32 + b"+3\n"), BadBlock, True),
    **{str(status): (status, HttpError, True) for status in (408, 409, 423, 500, 502, 503, 504)},
    **{str(status): (status, HttpError, False) for status in (400, 401, 403, 404, 413, 429, 507)},
}


def stored(stubs: Stubs) -> int:
    """Return how many copies all services have."""
    return sum(service.copies_stored for service in stubs.services)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_copies(stubs: Stubs, client: Client, copies: int) -> None:
    """As many services as copies are asked, the first ones in the order, for one copy each."""
    assert client.put(DATA, copies=copies) == f"{NAME}+3{SIGNATURE}"
    order = stubs.order(NAME)
    assert [NAME in service.blocks for service in order] == [i < copies for i in range(3)]
    assert stored(stubs) == copies
    asked = order[0].asked[0]
    assert asked.target == f"/{NAME}"
    assert asked.headers["x-keep-desired-replicas"] == "1"
    assert asked.headers["content-length"] == "3"
    assert client.keep.upload_counter.get() == 3 * copies
    assert client.keep.put_counter.get() == 1


def test_side_by_side(stubs: Stubs, client: Client) -> None:
    """Services are sent the block at the same time."""
    for service in stubs.services:
        service.plan.append(lambda asked: Reply(200, f"{NAME}+3\n".encode(), after=1.0))
    client.put(DATA, copies=3)
    assert stubs.world.now == pytest.approx(1.0)


def test_no_copies(stubs: Stubs, client: Client) -> None:
    """Without copies nothing is sent, and the locator is returned."""
    assert client.put(DATA, copies=0) == f"{NAME}+3"
    assert stubs.asked == []


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("füü", md5("füü".encode())),
        (bytearray(b"foo"), NAME),
        (memoryview(b"xfoox")[1:4], NAME),
        (memoryview(b"f-o-o-")[::2], NAME),
        (b"", "d41d8cd98f00b204e9800998ecf8427e"),
    ],
)
def test_kinds_of_data(stubs: Stubs, client: Client, data: Any, name: str) -> None:
    """Blocks are bytes of any kind, or text, which is encoded as UTF-8."""
    assert client.put(data).startswith(f"{name}+")
    assert sum(name in service.blocks for service in stubs.services) == 2


@pytest.mark.parametrize("data", [None, 3, ["foo"], bytes(64 * 1024 * 1024 + 1)], ids=type)
def test_no_block(client: Client, data: Any) -> None:
    """What is no block, or more than one, is an error of the caller's."""
    with pytest.raises(ArgumentError):
        client.put(data)


@pytest.mark.parametrize("copies", [-1, 1.5, "2", True])
def test_no_number_of_copies(client: Client, copies: Any) -> None:
    """The number of copies is one."""
    with pytest.raises(ArgumentError):
        client.put(DATA, copies=copies)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_more_for_each_failure(stubs: Stubs, client: Client, fault: str) -> None:
    """When a service fails, whatever it does, the next one takes its copy."""
    answer, _, _ = FAULTS[fault]
    order = stubs.order(NAME)
    order[0].plan.append(answer)
    client.put(DATA, copies=2)
    assert [NAME in service.blocks for service in order] == [False, True, True]
    assert stored(stubs) == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_too_few(stubs: Stubs, client: Client, fault: str) -> None:
    """The error tells how many copies were written, and what each service did."""
    answer, kind, _ = FAULTS[fault]
    order = stubs.order(NAME)
    order[0].plan.append(answer)
    order[2].plan.append(answer)
    with pytest.raises(KeepWriteError) as caught:
        client.put(DATA, copies=2, request_id="req-mine")
    error = caught.value
    text = str(error)
    assert text.startswith(f"[req-mine] failed to write {NAME} after 1 attempt")
    assert "(wanted 2 copies but wrote 1)" in text
    assert list(error.request_errors()) == [order[0].root, order[2].root]
    assert all(isinstance(one, kind) for one in error.request_errors().values())
    assert TOKEN not in text
    assert stored(stubs) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_another_round(stubs: Stubs, start: StartClient, fault: str) -> None:
    """In the next round only what is missing is written, where it may go better."""
    answer, _, repeated = FAULTS[fault]
    client = start(stubs.api, proxy="", driver=stubs.world, num_retries=1)
    order = stubs.order(NAME)
    order[0].plan.append(answer)
    order[2].plan.append(answer)
    if repeated:
        client.put(DATA, copies=2)
        assert [len(service.asked) for service in order] == [2, 1, 1]
        assert stored(stubs) == 2
    else:
        with pytest.raises(KeepWriteError, match="wrote 1"):
            client.put(DATA, copies=2)
        assert [len(service.asked) for service in order] == [1, 1, 1]


def test_nobody_to_write_to(start: StartClient) -> None:
    """Without a service that takes blocks, the error says so."""
    stubs = Stubs(2)
    for service in stubs.services:
        service.item["read_only"] = True
    client = start(stubs.api, proxy="", driver=stubs.world)
    with pytest.raises(KeepWriteError, match="no Keep service is available"):
        client.put(DATA)
    stubs.put(DATA)
    assert client.get(f"{NAME}+3") == DATA


def test_more_copies_than_services(stubs: Stubs, client: Client) -> None:
    """A service is asked for one copy only, however many are wanted."""
    with pytest.raises(KeepWriteError, match="wanted 4 copies but wrote 3"):
        client.put(DATA, copies=4)
    assert [len(service.asked) for service in stubs.services] == [1, 1, 1]


def test_replicas_are_counted(stubs: Stubs, client: Client) -> None:
    """A service may store more than one copy, which counts; without a word it is one."""
    order = stubs.order(NAME)
    order[0].plan.append(Reply(500, after=1.0))
    order[1].plan.append(lambda asked: Reply(200, b"", {"X-Keep-Replicas-Stored": "2"}))
    assert client.put(DATA, copies=2) == f"{NAME}+3"
    assert stubs.order(NAME)[2].asked == []


@pytest.mark.parametrize("text", ["x", "", "-1", "1.5", "²", "9" * 30])
def test_replicas_that_are_no_number(stubs: Stubs, client: Client, text: str) -> None:
    """What a service says is no number of copies counts as none."""
    headers = {"X-Keep-Replicas-Stored": text.encode().decode("latin-1")}
    order = stubs.order(NAME)
    order[0].plan.append(Reply(200, f"{NAME}+3\n".encode(), headers))
    client.put(DATA, copies=1)
    assert len(order[1].asked) == 1


def test_a_proxy_is_asked_for_all(start: StartClient) -> None:
    """A proxy is asked for all copies at once, and the next one for what is missing then."""
    stubs = Stubs(3, "proxy")
    client = start(stubs.api, proxy="", driver=stubs.world)
    client.put(DATA, copies=3)
    order = stubs.order(NAME)
    assert [one.headers["x-keep-desired-replicas"] for one in order[0].asked] == ["3"]
    assert order[1].asked == []
    stubs.put(DATA)
    body = f"{NAME}+3\n".encode()
    order[0].plan.append(Reply(200, body, {"X-Keep-Replicas-Stored": "2"}))
    client.put(DATA, copies=3)
    assert [one.headers["x-keep-desired-replicas"] for one in order[1].asked] == ["1"]
    order[0].plan.append(503)
    client.put(DATA, copies=2)
    assert order[1].asked[-1].headers["x-keep-desired-replicas"] == "2"


def classed(*classes: str) -> Any:
    """Return an answer that confirms what was asked of some storage classes."""

    def answer(asked: Asked) -> Reply:
        wanted = asked.headers.get("x-keep-storage-classes", "").split(", ")
        told = ", ".join(f"{name}=1" for name in wanted if name in classes)
        headers = {"X-Keep-Storage-Classes-Confirmed": told} if told else {}
        return Reply(200, f"{NAME}+3\n".encode(), headers)

    return answer


def test_storage_classes(stubs: Stubs, client: Client) -> None:
    """Services are asked until there are enough copies in each storage class."""
    first, second, third = stubs.order(NAME)
    first.always, second.always, third.always = classed("hot"), classed(), classed("hot", "cold")
    client.put(DATA, copies=1, classes=["hot", "cold"])
    asked = [one.asked[0].headers["x-keep-storage-classes"] for one in (first, second, third)]
    assert asked == ["hot, cold", "cold", "cold"]
    with pytest.raises(KeepWriteError, match="too few in the storage classes cold"):
        client.put(DATA, copies=2, classes=["hot", "cold", "hot"])
    for wrong in (["a,b"], ["a=1"], ["a\r\nb"], [""]):
        with pytest.raises(ArgumentError):
            client.put(DATA, classes=wrong)


OUTCOMES = st.sampled_from(["stores", "stores", "503", "507", "resets", "lies"])


@settings(max_examples=60)
@given(
    plans=st.lists(st.lists(OUTCOMES, min_size=4, max_size=4), min_size=1, max_size=6),
    copies=st.integers(1, 4),
    retries=st.integers(0, 3),
    kind=st.sampled_from(["disk", "proxy"]),
    client_kind=st.sampled_from(KINDS),
    seed=st.integers(0, 100),
)
def test_never_more_never_fewer(
    plans: list[list[str]], copies: int, retries: int, kind: str, client_kind: str, seed: int
) -> None:
    """Whatever services do, there are as many copies as asked for, or an error with the number."""
    stubs = Stubs(len(plans), kind, seed)
    for service, plan in zip(stubs.services, plans, strict=True):
        answers: dict[str, Any] = {
            "stores": service.usual,
            "503": 503,
            "507": 507,
            "resets": ConnectionResetError,
            "lies": Reply(200, b"0" * 32 + b"+3\n"),
        }
        service.plan.extend(answers[outcome] for outcome in plan)
    client = Client(client_kind, stubs.api, proxy="", driver=stubs.world, num_retries=retries)
    told = ""
    try:
        client.put(DATA, copies=copies)
    except KeepWriteError as error:
        told = str(error)
    client.close()
    if told:
        assert stored(stubs) < copies
        assert f"wrote {stored(stubs)}" in told
    else:
        assert stored(stubs) == copies
    assert all(
        service.copies_stored <= (1 if kind == "disk" else copies) for service in stubs.services
    )


# On real connections.


ASKING: Script = [Receive(body=False)]
BIG = bytes(100_000)
GO_ON: Script = [*ASKING, response_head(100), ReceiveBody()]


def test_a_large_block_is_asked_for_first(scripted: StartScripted, start: StartClient) -> None:
    """A service that does not want a block says so before it is sent."""
    full = scripted([*ASKING, response(507, b"full\n", [("Connection", "close")]), ReceiveEnd()])
    good = scripted([*GO_ON, response(200, f"{md5(BIG)}+{len(BIG)}\n".encode())])
    client = start(proxy=f"{full.url} {good.url}", api_token="t")
    roots = client.weighted_service_roots(md5(BIG), need_writable=True)
    if roots[0].startswith(good.url):
        client.close()
        client = start(proxy=f"{good.url} {full.url}", api_token="t")
    client.put(BIG, copies=1)
    assert good.requests[0].body == BIG
    for request in [*full.requests, *good.requests]:
        assert request.expects_continue
    full.wait_for(lambda: full.open_connections == 0)
    assert full.leftovers.get(0, b"") == b""


def test_a_small_block_goes_along(scripted: StartScripted, start: StartClient) -> None:
    """A small block is sent with the head of its request, in one packet."""
    script: Script = [Receive(), response(200, f"{NAME}+3\n".encode())] * 2
    server = scripted(script)
    client = start(proxy=server.url, api_token="t")
    for _ in range(2):
        assert client.put(DATA, copies=1) == f"{NAME}+3"
    assert server.connection_count == 1
    assert not server.requests[0].expects_continue
    assert server.requests[1].body == DATA


def test_a_service_that_takes_nothing(scripted: StartScripted, start: StartClient) -> None:
    """A service that takes a body slower than it must is given up."""
    data = bytes(32 * 1024 * 1024)
    server = scripted([*ASKING, response_head(100), Hold()])
    client = start(proxy=server.url, api_token="t", proxy_timeout=(2, 0.3, 1 << 30))
    with pytest.raises(KeepWriteError, match="TooSlow"):
        client.put(data, copies=1)


# The names of the Arvados SDK.


def test_the_writers_of_the_sdk(scripted: StartScripted) -> None:
    """A pool writes a block to the services that it is given, until there are enough copies."""
    good = scripted([Receive(), response(200, f"{NAME}+3\n".encode())])
    bad = scripted([Receive(), response(503, b"busy\n")])
    spare = scripted([Receive(), response(200, f"{NAME}+3\n".encode())])
    unasked = scripted([Receive(), response(200, f"{NAME}+3\n".encode())])
    pool = KeepWriterThreadPool(DATA, NAME, 2, 1, timeout=(2, 10, 1))
    services = [
        KeepService(f"{one.url}/", headers={"X-A": "b"}) for one in (bad, good, spare, unasked)
    ]
    for service in services:
        pool.add_task(service, service.root)
    pool.join()
    assert pool.done() == 2
    assert pool.response() == f"{NAME}+3"
    assert pool.total_task_nr == 4
    assert [one.request_count for one in (bad, good, spare, unasked)] == [1, 1, 1, 0]
    assert [one.finished() for one in services] == [False, True, True, False]
    assert good.requests[0].header("x-a") == "b"
    for service in services:
        service.close()


def test_the_thread_of_the_sdk(scripted: StartScripted) -> None:
    """A thread writes to the services of a queue."""
    server = scripted([Receive(), response(200, f"{NAME}+3\n".encode())] * 2)
    bad = scripted([Receive(), response(503, b"")])
    queue = KeepWriterQueue(1)
    good, other = KeepService(f"{server.url}/"), KeepService(f"{bad.url}/")
    queue.put(good)
    thread = KeepWriterThread(queue, DATA, NAME)
    thread.start()
    thread.join()
    assert queue.satisfied
    assert queue.response == f"{NAME}+3"
    again = KeepWriterThread(KeepWriterQueue(2), DATA, NAME)
    assert again.do_task(good) == (f"{NAME}+3", 1)
    assert again.do_task(other) is None
    good.close()
    other.close()
    assert again.queue.pending_copies() == 1


def test_a_single_service(scripted: StartScripted) -> None:
    """A service makes requests, and keeps what came of the last one."""
    server = scripted(
        [
            Receive(),
            response(200, DATA),
            Receive(),
            response(503, b"busy\n"),
            Receive(),
            response(404, b"no such block\n"),
            Receive(),
            response(200, f"{NAME}+3\n".encode()),
        ]
    )
    service = KeepService(f"{server.url}/")
    assert service.last_result() == {"error": None}
    assert service.usable()
    assert not service.finished()
    assert service.get(f"{NAME}+3") == DATA
    assert service.last_result()["error"] is False
    assert service.last_result()["status_code"] == 200
    assert service.get(f"{NAME}+3") is None
    assert service.usable()
    assert service.get(f"{NAME}+3") is None
    assert not service.usable()
    error = service.last_result()["error"]
    assert isinstance(error, HttpError)
    assert (error.status_code, error.reason) == (404, "Not Found")
    assert service.put(NAME, DATA, timeout=5, headers={"X-Keep-Desired-Replicas": "2"})
    assert service.finished()
    assert server.requests[-1].header("x-keep-desired-replicas") == "2"
    assert "503" not in repr(service)
    service.close()


def test_the_counting_of_copies() -> None:
    """A queue gives no more tasks than copies are missing, and one more for each failure."""
    services = [KeepService(f"http://10.0.0.{n}/", headers=Fields()) for n in range(4)]
    queue = KeepWriterQueue(2)
    for service in services:
        queue.put(service)
    first, second = queue.get_next_task(), queue.get_next_task()
    assert first is not None
    assert second is not None
    assert queue.get_next_task() is None
    queue.write_fail(first)
    third = queue.get_next_task()
    assert third is not None
    assert third.service is services[2]
    assert queue.get_next_task() is None
    queue.write_success(second, "a", 1, {})
    queue.write_success(third, "b", 1, {})
    assert queue.get_next_task() is None
    assert queue.satisfied
    assert queue.response == "b"
    assert repr(queue) == "<KeepWriterQueue: 2 of 2 copies, 0 under way, 1 waiting>"
    classes = KeepWriterQueue(1, ["a", "b", "a"])
    assert classes.pending_classes() == ["a", "b"]
    classes.put(services[0])
    task = classes.get_next_task()
    assert task is not None
    classes.write_success(task, "", 1, {"a": 1, "z": 3})
    assert classes.satisfied_classes() == ["a"]
    assert not classes.satisfied


def test_services_of_both_kinds(start: StartClient) -> None:
    """Disks are asked for one copy each, also beside proxies."""
    stubs = Stubs(2)
    stubs.add(Service(3, "proxy"))
    client = start(stubs.api, proxy="", driver=stubs.world)
    for number in range(30):
        data = b"%d" % number
        before = stored(stubs)
        client.put(data, copies=3)
        assert stored(stubs) - before == 3
        assert all(
            asked.headers["x-keep-desired-replicas"] == "1"
            for service in stubs.services[:2]
            for asked in service.asked
        )

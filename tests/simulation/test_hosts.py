"""Simulated hosts: what they answer, how they queue, and how they fail."""

from __future__ import annotations

from math import inf
from statistics import fmean
from typing import Any

import pytest

from holdfast import ops
from holdfast.drivers.simulated import Task, World
from holdfast.simulation import Asked, Exponential, Host, Network, Reply, Service

ADDRESS = (2, ("10.0.0.1", 80))
GET = b"GET /x HTTP/1.1\r\nHost: a\r\nX-Y:  z \r\n\r\n"


def call(deadline: float = inf, data: bytes = GET, pieces: int = 1) -> ops.Program[list[bytes]]:
    """Connect, send, and return what comes, so many times."""
    stream = yield ops.Connect(ADDRESS, deadline)
    try:
        got = [(yield ops.RoundTrip(stream, data, 1 << 16, deadline))]
        while len(got) < pieces:
            got.append((yield ops.Receive(stream, 1 << 16, deadline)))
        return got
    finally:
        stream.close()


def world_of(behaviour: Any = None, **options: Any) -> tuple[World, Host]:
    """Return a world with a host that records."""
    world = World()
    return world, Host(world, "10.0.0.1:80", behaviour, record=True, **options)


def statuses(tasks: list[Task]) -> list[Any]:
    """Return the status of each answer, or the name of the error, or None while there is none."""
    found: list[Any] = []
    for task in tasks:
        if not task.done:
            found.append(None)
        elif task.error is not None:
            found.append(type(task.error).__name__)
        else:
            found.append(int(task.value[0][9:12]))
    return found


def test_a_function_answers() -> None:
    """It gets the request and says the status, headers, body and time."""

    def behave(asked: Asked) -> Reply:
        assert asked.headers == {"host": "a", "x-y": "z"}
        return Reply(201, b"body", {"X-A": "b"}, after=2.5)

    world, host = world_of(behave)
    answer = b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\nX-A: b\r\n\r\nbody"
    assert world.run(call()) == [answer]
    assert world.now == 2.5
    assert host.asked == [Asked("GET", "/x", GET.decode(), b"", 0.0, "client")]
    assert (host.requests, host.served, host.connects) == (1, 1, 1)
    world.advance(0)
    assert host.open == 0


def test_a_body_comes_in_pieces() -> None:
    """Each piece at its time; HEAD has none of them."""
    world, _ = world_of(Reply(pieces=[(1, b"one"), (2, b"two")]))
    head, one, two = world.run(call(pieces=3))
    assert b"Content-Length: 6" in head
    assert (one, two, world.now) == (b"one", b"two", 3)
    (head,) = world.run(call(data=GET.replace(b"GET", b"HEAD")))
    assert head.endswith(b"Content-Length: 6\r\n\r\n")


@pytest.mark.parametrize("fate", ["reset", "close", "cut", OSError(113, "No route to host")])
def test_hosts_fail_as_told(fate: Any) -> None:
    """A reset is an error, a close the end, a cut an end too early, an error itself."""
    world, host = world_of(Reply(fate=fate, body=b"half"))
    if fate == "reset":
        with pytest.raises(ConnectionResetError):
            world.run(call())
    elif fate == "close":
        assert world.run(call()) == [b""]
    elif fate == "cut":
        answer, end = world.run(call(pieces=2))
        assert b"Content-Length: 14" in answer
        assert end == b""
    else:
        with pytest.raises(OSError, match="No route"):
            world.run(call())
    world.advance(0)
    assert host.open == 0


def test_requests_come_as_bytes_do() -> None:
    """Half a request is not answered yet; of two at once the second is answered second."""
    world, host = world_of(Reply(body=b"x", after=1))
    chunked = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [
        b"POST /a HTTP/1.1\r\nContent-",
        b"Length: 4\r\n\r\nab",
        b"cd" + GET + chunked,
        b"2;ext\r\nhi\r\n0\r",
        b"\n\r\n",
    ]

    def program() -> ops.Program[bytes]:
        stream = yield ops.Connect(ADDRESS, inf)
        got = b""
        for piece in pieces:
            yield ops.Send(stream, piece, inf)
        while got.count(b"HTTP") < 3:
            got += yield ops.Receive(stream, 1 << 16, inf)
        return got

    world.run(program())
    assert world.now == 3
    assert [(asked.target, asked.body) for asked in host.asked] == [
        ("/a", b"abcd"),
        ("/x", b""),
        ("/c", b"2;ext\r\nhi\r\n0\r\n\r\n"),
    ]


def test_a_client_that_expects_it_is_told_to_go_on() -> None:
    """100 (Continue) comes before the body."""
    world, host = world_of()

    def program() -> ops.Program[bytes]:
        stream = yield ops.Connect(ADDRESS, inf)
        head = b"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        assert (yield ops.RoundTrip(stream, head, 99, inf)) == b"HTTP/1.1 100 Continue\r\n\r\n"
        return (yield ops.RoundTrip(stream, b"hi", 99, inf))  # type: ignore[no-any-return]

    assert world.run(program()).startswith(b"HTTP/1.1 200 OK")
    assert host.asked[0].body == b"hi"


def test_a_queue_has_workers_and_an_end() -> None:
    """So many at a time, so many wait, the rest is told 503 at once."""
    world, host = world_of(Service(1.0, workers=2, queue=3))
    tasks = [world.start(call()) for _ in range(7)]
    world.advance(0.5)
    assert (host.busy, host.queued, host.rejected) == (2, 3, 2)
    assert statuses(tasks) == [None] * 5 + [503] * 2
    assert repr(host) == "<Host 10.0.0.1:80 up: 2 busy, 3 queued>"
    world.advance(0.5)
    assert statuses(tasks)[:5] == [200, 200, None, None, None]
    world.advance(2)
    assert statuses(tasks)[:5] == [200] * 5
    assert (host.busy, host.queued, host.requests, host.served) == (0, 0, 7, 7)


@pytest.mark.slow
def test_a_queue_waits_as_theory_says() -> None:
    """The mean time in an M/M/1 queue is 1 / (service rate - arrival rate)."""
    world, _ = world_of(Service(Exponential(0.01), workers=1, queue=10_000))
    random = world.randomness("arrivals").random
    seconds: list[float] = []

    def timed() -> ops.Program[None]:
        began = world.now
        yield from call()
        seconds.append(world.now - began)

    at = 0.0
    for _ in range(20_000):
        at += Exponential(1 / 50).sample(random)
        world.at(at, lambda: world.start(timed()))
    world.run_until(at + 10)
    assert fmean(seconds) == pytest.approx(1 / (100 - 50), rel=0.1)


@pytest.mark.parametrize(("abandoned", "wasted"), [("waste", 3), ("drop", 0)])
def test_work_for_clients_that_left(abandoned: Any, wasted: int) -> None:
    """It is done all the same, or it ends: what makes or breaks a retry storm."""
    world, host = world_of(Service(1.0, workers=1, queue=10, abandoned=abandoned))
    for _ in range(3):
        world.start(call(deadline=0.5))
    world.run_until(0.6)
    assert host.open == 0
    last = world.start(call())
    world.advance(10)
    assert statuses([last]) == [200]
    assert host.wasted == wasted
    assert host.served == 1
    assert (host.busy, host.queued) == (0, 0)


def test_a_behaviour_may_be_replaced_at_any_time() -> None:
    """What waits for a worker is served as the new behaviour says."""
    world, host = world_of(Service(1.0, workers=1, queue=5))
    tasks = [world.start(call()) for _ in range(4)]
    world.advance(0.5)
    host.behaviour = Service(1.0, workers=2)
    world.advance(0.5)
    assert (host.busy, host.queued) == (2, 1)
    host.behaviour = Reply(404)
    world.advance(1)
    assert statuses(tasks) == [200, 200, 200, 404]
    assert (host.busy, host.queued) == (0, 0)


def test_errors_may_be_fast() -> None:
    """A gray failure answers sooner than a good host."""
    world, _ = world_of(Service(1.0, errors=1.0, status=502, error_time=0.001))
    task = world.start(call())
    world.advance(0.01)
    assert statuses([task]) == [502]


def test_errors_have_their_share() -> None:
    """So many of the requests fail, the same ones with the same seed."""

    def failures() -> list[Any]:
        world, _ = world_of(Service(0.0, workers=5, queue=5000, errors=0.3))
        tasks = [world.start(call()) for _ in range(2000)]
        world.advance(9)
        return statuses(tasks)

    first = failures()
    assert first == failures()
    assert first.count(500) / 2000 == pytest.approx(0.3, abs=0.03)


def test_a_host_may_be_slow() -> None:
    """Everything takes so many times as long, until it does not."""
    world, host = world_of(Service(1.0))
    host.slow(10)
    world.run(call())
    assert world.now == 10
    host.slow(1)
    world.run(call())
    assert world.now == 11
    host.behaviour = Reply(after=1)
    host.slow(3)
    world.run(call())
    assert world.now == 14
    with pytest.raises(ValueError, match="factor must be a number above 0, not 0"):
        host.slow(0)


@pytest.mark.parametrize("behaviour", [Service(1.0, workers=1), Reply(after=1)])
def test_a_frozen_host_takes_connections_and_is_silent(behaviour: Any) -> None:
    """Nothing is answered until it thaws; then everything is."""
    world, host = world_of(behaviour)
    tasks = [world.start(call()) for _ in range(2)]
    world.advance(0.5)
    host.freeze()
    tasks.append(world.start(call()))
    world.advance(100)
    assert statuses(tasks) == [None] * 3
    assert host.open == 3
    host.thaw()
    host.thaw()
    world.advance(5)
    assert statuses(tasks) == [200] * 3


def test_a_crash_loses_all_work() -> None:
    """Clients see resets, the queue is empty, late events do nothing, and it comes back as new."""
    world, host = world_of(Service(1.0, workers=1, queue=5))
    tasks = [world.start(call()) for _ in range(3)]
    world.advance(0.5)
    host.crash()
    host.crash()
    world.advance(0.1)
    assert statuses(tasks) == ["ConnectionResetError"] * 3
    assert (host.busy, host.queued, host.open, host.up) == (0, 0, 0, False)
    late = world.start(call())
    world.advance(0.1)
    assert statuses([late]) == ["ConnectionRefusedError"]
    host.restart()
    tasks = [world.start(call()) for _ in range(2)]
    world.advance(1.5)
    assert statuses(tasks) == [200, None]
    host.restart()
    world.advance(0)
    assert statuses(tasks) == [200, "ConnectionResetError"]


def test_a_host_that_stops_finishes_its_work() -> None:
    """New connections are refused, idle ones closed, and answers still come."""
    world, host = world_of(Reply(after=1, body=b"x"))

    def keeps() -> ops.Program[bytes]:
        stream = yield ops.Connect(ADDRESS, inf)
        return (yield ops.Receive(stream, 10, inf))  # type: ignore[no-any-return]

    busy, idle = world.start(call(pieces=2)), world.start(keeps())
    world.advance(0.5)
    host.stop()
    refused = world.start(call())
    world.advance(0)
    assert idle.result() == b""
    assert statuses([refused]) == ["ConnectionRefusedError"]
    world.advance(1)
    assert busy.result()[1] == b""
    assert host.open == 0
    host.restart()
    assert world.run(call())


def test_refusals_are_of_the_host_or_the_network() -> None:
    """Either may refuse, and cease to."""
    world, host = world_of()
    network = Network(world)
    network.refuse(host.address)
    with pytest.raises(ConnectionRefusedError):
        world.run(call())
    network.allow(host.address)
    world.run(call())
    host.accepts = False
    with pytest.raises(ConnectionRefusedError):
        world.run(call())
    host.accepts = True
    world.run(call())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "Service.workers must be a whole number from 1 on, not 0"),
        ({"workers": "many"}, "Service.workers must be a whole number from 1 on, not 'many'"),
        ({"queue": -1}, "Service.queue must be a whole number from 0 on, not -1"),
        ({"queue": 1.5}, "Service.queue"),
        ({"errors": 1.01}, "Service.errors must be a number from 0 to 1, not 1.01"),
        ({"errors": True}, "Service.errors"),
        ({"status": 99}, "Service.status must be a whole number from 200 to 599, not 99"),
        ({"abandoned": "keep"}, "Service.abandoned must be 'waste' or 'drop', not 'keep'"),
        ({"time": -1}, "Service.time: Constant.seconds must be a number 0 or more, not -1"),
        ({"error_time": "x"}, "Service.error_time: "),
    ],
)
def test_a_wrong_service_is_named(options: Any, message: str) -> None:
    """A ValueError tells the field and the value."""
    with pytest.raises(ValueError, match=message):
        Service(**options)


def test_the_abandoned_keep_nobody_out_of_the_queue() -> None:
    """Where abandoned work is dropped, who leaves the queue makes room for others."""
    world, host = world_of(Service(10.0, workers=1, queue=2, abandoned="drop"))
    first = world.start(call())
    leaving = [world.start(call(deadline=1.0)) for _ in range(2)]
    world.advance(2)
    assert statuses(leaving) == ["TimeoutError", "TimeoutError"]
    assert host.queued == 0
    later = [world.start(call()) for _ in range(3)]
    world.advance(100)
    assert statuses([first, *later]) == [200, 200, 200, 503]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"status": 99}, "status must be a code from 200 to 999, not 99"),
        ({"status": True}, "status must be a code"),
        ({"body": "text"}, "body must be bytes, not 'text'"),
        ({"after": -1}, "after must be at least 0 seconds, not -1"),
        ({"fate": "burn"}, "fate must be one of 'answer', 'reset', 'close', 'cut' or an OSError"),
    ],
)
def test_a_wrong_reply_is_named(options: dict[str, Any], message: str) -> None:
    """A ValueError tells the field and the value, where the reply is made."""
    with pytest.raises(ValueError, match=message):
        Reply(**options)

"""The virtual driver does what a real one does."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from holdfast import ops
from tests.virtual import Host, Reply, World

ADDRESS = (2, ("10.0.0.1", 80))
GET = b"GET /x HTTP/1.1\r\n\r\n"


@pytest.fixture
def world() -> World:
    """A world with one host."""
    world = World()
    world.host("10.0.0.1:80", Reply(body=b"hello", after=2))
    return world


def exchange(deadline: float) -> ops.Program[bytes]:
    """Ask the host and return all that comes."""
    stream = yield ops.Connect(ADDRESS, deadline)
    yield ops.Send(stream, GET, deadline)
    return (yield ops.Receive(stream, 1 << 16, deadline))  # type: ignore[no-any-return]


def nap(world: World, seconds: float, log: list[Any]) -> ops.Program[float]:
    """Sleep and note when; also when it was closed."""
    try:
        yield ops.Sleep(world.now + seconds)
    except GeneratorExit:
        log.append(("closed", seconds))
        raise
    log.append(seconds)
    return seconds


def test_time_passes_only_in_waits(world: World) -> None:
    """An answer after two seconds takes two seconds of virtual time, and no other."""
    assert world.run(exchange(inf)).endswith(b"\r\n\r\nhello")
    assert world.now == world.start + 2
    assert world.hosts["10.0.0.1:80"].asked[0].target == "/x"


def test_a_wait_ends_at_its_deadline(world: World) -> None:
    """Connect, receive and wait raise TimeoutError at their deadlines."""
    with pytest.raises(TimeoutError):
        world.run(exchange(world.now + 1.5))
    assert world.now == world.start + 1.5
    world.hosts["10.0.0.1:80"].connect_after = 9
    with pytest.raises(TimeoutError):
        world.run(exchange(world.start + 4))
    assert world.now == world.start + 4

    def wait() -> ops.Program[None]:
        yield ops.Wait(ops.Signal(), world.start + 5)

    with pytest.raises(TimeoutError):
        world.run(wait())
    assert world.now == world.start + 5


def test_endless_waits_are_found(world: World) -> None:
    """What nothing will ever end is an error of the test, not a test that hangs."""
    world.hosts["10.0.0.1:80"].behave = lambda asked: Reply(after=inf)
    with pytest.raises(AssertionError, match="waits for ever"):
        world.run(exchange(inf))


@pytest.mark.parametrize("fate", ["reset", "close", "cut"])
def test_hosts_fail_as_told(world: World, fate: str) -> None:
    """A reset is an error, a close the end, and a cut an end too early."""
    world.hosts["10.0.0.1:80"].behave = lambda asked: Reply(fate=fate, body=b"half")
    if fate == "reset":
        with pytest.raises(ConnectionResetError):
            world.run(exchange(inf))
    elif fate == "close":
        assert world.run(exchange(inf)) == b""
    else:
        assert b"Content-Length: 14" in world.run(exchange(inf))


def test_programs_take_turns(world: World) -> None:
    """All waits for all; First closes those that are not first."""
    log: list[Any] = []
    naps = [nap(world, seconds, log) for seconds in (3, 1, 2)]

    def together(operation: ops.Operation) -> ops.Program[Any]:
        return (yield operation)

    assert world.run(together(ops.All(naps))) == [3, 1, 2]
    assert log == [1, 2, 3]
    assert world.now == world.start + 3
    log.clear()
    naps = [nap(world, seconds, log) for seconds in (3, 1, 2)]
    assert world.run(together(ops.First(naps))) == (1, 1)
    assert log == [1, ("closed", 3), ("closed", 2)]
    assert world.now == world.start + 4
    refused: list[ops.Program[Any]] = [exchange(inf), exchange(inf)]
    world.hosts["10.0.0.1:80"].up = False
    with pytest.raises(ExceptionGroup):
        world.run(together(ops.First(refused)))
    assert world.run(together(ops.All([]))) == []


def test_cancelling_closes_all_that_runs_within(world: World) -> None:
    """Closing a program closes what it runs at the same time."""
    log: list[Any] = []

    def together() -> ops.Program[Any]:
        return (yield ops.All([nap(world, 1, log), nap(world, 5, log)]))

    task = world.begin(together())
    world.advance(2)
    world.cancel(task)
    world.advance(9)
    assert log == [1, ("closed", 5)]


def test_a_host_answers_whole_requests_only(world: World) -> None:
    """Half a request is not answered yet; two at once are answered in turn."""
    host: Host = world.hosts["10.0.0.1:80"]

    def halves() -> ops.Program[None]:
        stream = yield ops.Connect(ADDRESS, inf)
        for piece in (b"POST / HTTP/1.1\r\nContent-", b"Length: 4\r\n\r\nab", b"cd" + GET):
            yield ops.Send(stream, piece, inf)

    world.run(halves())
    assert [(asked.method, asked.body) for asked in host.asked] == [("POST", b"abcd"), ("GET", b"")]

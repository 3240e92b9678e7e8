"""Connections of one's own, that carry JSON lines."""

from __future__ import annotations

import asyncio
import threading

import pytest

from holdfast import deadline
from holdfast.jobs import CommunicationError, CommunicationTimeout, InvalidCall
from tests.jobs.client.conftest import StartLines
from tests.jobs.client.faces import Face, scripted
from tests.jobs.client.scripts import Do, Hear, HearEnd, Say
from tests.servers import Close, Hold, Reset, Send, Wait
from tests.servers.certificates import Certificates


@scripted
async def test_values_both_ways(face: Face, lines: StartLines) -> None:
    """Values come and go, a line each."""
    server = lines([Hear({"Ω": [1, None]}), Say([1], "two"), Hear(None), Say(3)])
    connection = await face.connection(server)
    await face.got(connection.send({"Ω": (1, None)}))
    assert await face.got(connection.receive()) == [1]
    assert await face.got(connection.receive()) == "two"
    await face.got(connection.send(None))
    assert await face.got(connection.receive()) == 3


@scripted
async def test_connecting_again(face: Face, lines: StartLines) -> None:
    """A connection is made anew by connect, after which the old one is closed."""
    closed = threading.Event()
    server = lines([HearEnd(closed)], [Say("again")])
    connection = await face.connection(server)
    name = type(connection).__name__
    assert repr(connection) == f"<{name} {server.address} open>"
    await face.got(connection.connect())
    assert await asyncio.to_thread(closed.wait, 10)
    assert await face.got(connection.receive()) == "again"
    await face.close(connection)
    assert repr(connection) == f"<{name} {server.address} closed>"


@scripted
async def test_a_context_manager(face: Face, lines: StartLines) -> None:
    """A connection is closed with its context."""
    closed = threading.Event()
    server = lines([Say(1), HearEnd(closed)])
    connection = await face.connection(server)
    if face.blocks:
        with connection as same:
            assert same.receive() == 1
    else:
        async with connection as same:
            assert await same.receive() == 1
    assert same is connection
    assert await asyncio.to_thread(closed.wait, 10)


@scripted
async def test_tls(face: Face, lines: StartLines, certificates: Certificates) -> None:
    """Certificates are verified with ca_file, and not without."""
    server = lines([Say("hi")], tls=certificates.server_context())
    for arguments in ((), (str(certificates.ca_file),)):
        connection = await face.connection(server, *arguments, tls=True)
        assert await face.got(connection.receive()) == "hi"
    other = lines([Say("hi")], tls=certificates.server_context("other.example"))
    with pytest.raises(CommunicationError, match="TLS"):
        await face.connection(other, certificates.ca_file, tls=True)
    connection = await face.connection(other, tls=True)
    assert await face.got(connection.receive()) == "hi"


@pytest.mark.parametrize("end", [Close(), Reset()], ids=str)
@pytest.mark.parametrize("before", [b"", b'{"a'])
@scripted
async def test_the_end(end: object, before: bytes, face: Face, lines: StartLines) -> None:
    """The end of a connection is an error, and there is nothing after it."""
    connected = threading.Event()
    server = lines([Wait(connected), Send(before), end])  # type: ignore[list-item]
    connection = await face.connection(server)
    connected.set()
    for _ in range(2):
        with pytest.raises(CommunicationError):
            await face.got(connection.receive())


@scripted
async def test_garbage(face: Face, lines: StartLines) -> None:
    """What is no JSON is an error, and so is a line above the limit."""
    connection = await face.connection(lines([Send(b"garbage\n")]))
    with pytest.raises(CommunicationError, match="not JSON"):
        await face.got(connection.receive())
    connection = await face.connection(lines([Send(b"1\n" + b"2" * 100 + b"\n")]), max_line=99)
    assert await face.got(connection.receive()) == 1
    with pytest.raises(CommunicationError, match="longer than 99 bytes"):
        await face.got(connection.receive())
    connection = await face.connection(lines([Hold()]))
    with pytest.raises(InvalidCall, match="JSON can carry"):
        await face.got(connection.send(object()))


@scripted
async def test_what_comes_late_is_not_lost(face: Face, lines: StartLines) -> None:
    """A wait that took too long may be begun again."""
    late = threading.Event()
    server = lines([Send(b'"la'), Wait(late), Send(b'te"\n')])
    connection = await face.connection(server, timeout=0.05)
    for _ in range(2):
        with pytest.raises(CommunicationTimeout, match=r"silent for 0\.05 s"):
            await face.got(connection.receive())
    with deadline(0.01), pytest.raises(CommunicationTimeout):
        await face.got(connection.receive())
    late.set()
    connection._link.timeout = None
    assert await face.got(connection.receive()) == "late"


@scripted
async def test_a_dropped_connection(face: Face, lines: StartLines) -> None:
    """A connection that nobody holds is closed."""
    closed = threading.Event()
    server = lines([Do(lambda: None), HearEnd(closed)])
    await face.connection(server)
    face.made.clear()
    assert await asyncio.to_thread(closed.wait, 10)


@scripted
async def test_nobody_there(
    face: Face, refusing: tuple[str, int], unanswering: tuple[str, int]
) -> None:
    """Nobody there is an error, in time."""
    with pytest.raises(CommunicationError, match="refused"):
        await face.connection(refusing)
    with pytest.raises(CommunicationTimeout):
        await face.connection(unanswering, connect_timeout=0.05)

"""Procedures on a host daemon, called directly."""

from __future__ import annotations

import asyncio
import copy
import threading
from typing import Any

import pytest

from holdfast import deadline
from holdfast.errors import CertificateError
from holdfast.jobs import (
    CommunicationError,
    CommunicationTimeout,
    HarpException,
    HarpProcedure,
    HarpServer,
    HarpStreamIterator,
    InvalidCall,
    RemoteError,
    RemoteException,
    Result,
)
from tests.jobs.client.conftest import StartLines
from tests.jobs.client.faces import Face, scripted
from tests.jobs.client.scripts import Hear, HearEnd, Say
from tests.servers import Close, Hold, Reset, Send
from tests.servers.certificates import Certificates
from tests.servers.scripted import Script

CALL = {
    "harp": 1,
    "procedure": "restart",
    "arguments": [],
    "auth": {"user": "me", "password": "secret"},
}
PLAIN = {"harp": 1, "stream_result": False}
STREAM = {"harp": 1, "stream_result": True}


@scripted
async def test_a_result(face: Face, lines: StartLines, certificates: Certificates) -> None:
    """A call has a connection of its own, and returns the procedure's result."""
    server = lines(
        [Hear(CALL | {"arguments": ["Ω", 2**70]}), Say(PLAIN, {"result": {"a": None}})],
        [Hear(CALL | {"arguments": {"x": 1}}), Say(PLAIN, {"result": None})],
        tls=certificates.server_context(),
    )
    host = face.server(server)
    assert await face.got(host.restart("Ω", 2**70)) == {"a": None}
    assert await face.got(host.restart(x=1)) is None
    assert server.connection_count == 2


@scripted
async def test_a_stream(face: Face, lines: StartLines, certificates: Certificates) -> None:
    """A streaming procedure gives packets, and its result last."""
    messages = [{"stream": 1}, {"stream": None}, {"stream": {"result": 2}}, {"result": [3]}]
    server = lines([Hear(CALL), Say(STREAM, *messages)], tls=certificates.server_context())
    stream = await face.got(face.server(server).restart())
    assert type(stream).__name__.endswith("HarpStreamIterator")
    found = await face.all(stream)
    assert found == [1, None, {"result": 2}, Result([3])]
    assert found[-1].value == [3]
    assert await face.all(stream) == []


@pytest.mark.parametrize("before", [[], [PLAIN], [STREAM], [STREAM, {"stream": 1}]])
@pytest.mark.parametrize("data", [{}, {"data": {"class": "KeyError", "module": "builtins"}}])
@scripted
async def test_failures_of_the_host(
    before: list[Any], data: Any, face: Face, lines: StartLines, certificates: Certificates
) -> None:
    """Errors of the host are raised, wherever they come."""
    end = {"harp": 1, "error": {"type": "timeout", "message": "too long", **data}}
    server = lines([Hear(CALL), Say(*before, end)], tls=certificates.server_context())
    with pytest.raises(RemoteError) as caught:
        await _consume(face, face.server(server).restart())
    assert (caught.value.type, caught.value.message) == ("timeout", "too long")
    assert caught.value.data == data.get("data")


async def _consume(face: Face, call: Any) -> list[Any]:
    found = await face.got(call)
    return await face.all(found) if hasattr(found, "close") or hasattr(found, "aclose") else []


@pytest.mark.parametrize("before", [[PLAIN], [STREAM], [STREAM, {"stream": 1}]])
@scripted
async def test_exceptions_of_the_procedure(
    before: list[Any], face: Face, lines: StartLines, certificates: Certificates
) -> None:
    """What the procedure raised is raised."""
    end = {"exception": {"type": "KeyError", "message": "'x'"}}
    server = lines([Hear(CALL), Say(*before, end)], tls=certificates.server_context())
    with pytest.raises(RemoteException, match="KeyError: 'x'"):
        await _consume(face, face.server(server).restart())


@pytest.mark.parametrize(
    "rest",
    [
        [Close()],
        [Reset()],
        [Send(b'{"harp": 1, "str'), Close()],
        [Say(PLAIN), Close()],
        [Say(STREAM), Close()],
        [Say(STREAM, {"stream": 1}), Reset()],
        [Say(STREAM, {"stream": 1}), Send(b'{"res'), Close()],
        [Send(b"garbage\n")],
        [Say([])],
        [Say({"harp": 2, "stream_result": True})],
        [Say({"harp": True, "stream_result": True})],
        [Say({"harp": 1, "stream_result": 1})],
        [Say({"harp": 1, "stream_result": True, "x": 1})],
        [Say({"harp": 1, "error": "x"})],
        [Say({"result": 1})],
        [Say(PLAIN, {"stream": 1})],
        [Say(STREAM, {"stream": 1, "x": 2})],
        [Say(STREAM, {"cancelled": True})],
        [Say(STREAM, 7)],
        [Say(PLAIN, {})],
        [Say(PLAIN), Send(b"\xff\n")],
    ],
    ids=str,
)
@scripted
async def test_broken_answers(
    rest: Script, face: Face, lines: StartLines, certificates: Certificates
) -> None:
    """A connection that breaks, and an answer that is none, are errors; nothing is repeated."""
    server = lines([Hear(CALL), *rest], tls=certificates.server_context())
    with pytest.raises(CommunicationError, match=r"call restart: 127\.0\.0\.1") as caught:
        await _consume(face, face.server(server).restart())
    assert isinstance(caught.value, HarpException)
    assert "secret" not in str(caught.value)
    assert server.connection_count == 1


@scripted
async def test_leaving_a_stream_cancels_the_call(
    face: Face, lines: StartLines, certificates: Certificates
) -> None:
    """Closing the iterator, or dropping it, closes the connection, which ends the procedure."""
    closed = threading.Event()
    script: Script = [Hear(CALL), Say(STREAM, {"stream": 1}), HearEnd(closed)]
    server = lines(script, tls=certificates.server_context())
    stream = await face.got(face.server(server).restart())
    assert await face.next(stream) == 1
    await face.close(stream)
    assert await face.all(stream) == []
    assert await asyncio.to_thread(closed.wait, 10)
    closed.clear()
    stream = await face.got(face.server(server).restart())
    del stream
    assert await asyncio.to_thread(closed.wait, 10)


@scripted
async def test_a_verified_host(face: Face, lines: StartLines, certificates: Certificates) -> None:
    """With ca_file the host is verified, name and all, before it learns the password."""
    good = lines(
        [Hear(CALL), Say(PLAIN, {"result": 1})],
        tls=certificates.server_context(client_required=True),
    )
    host = face.server(good, ca_file=certificates.ca_file, cert=str(certificates.client_file))
    assert await face.got(host.restart()) == 1
    bad = lines([Hold()], tls=certificates.server_context("other.example"))
    with pytest.raises(CommunicationError) as caught:
        await face.got(face.server(bad, ca_file=str(certificates.ca_file)).restart())
    assert isinstance(caught.value.__cause__, CertificateError)
    assert not caught.value.sent


@scripted
async def test_limits_of_time(face: Face, lines: StartLines, certificates: Certificates) -> None:
    """Each wait has its limit, and the deadline around the call holds as well."""
    tls = certificates.server_context()
    silent = lines([Hear(CALL), Hold()], tls=tls)
    with pytest.raises(CommunicationTimeout, match=r"silent for 0\.05 s"):
        await face.got(face.server(silent, reply_timeout=0.05).restart())
    slow = lines([Hear(CALL), Say(PLAIN), Hold()], tls=certificates.server_context())
    with pytest.raises(CommunicationTimeout, match=r"silent for 0\.05 s"):
        await face.got(face.server(slow, timeout=0.05).restart())
    with deadline(0.1), pytest.raises(CommunicationTimeout, match="deadline"):
        await face.got(face.server(slow).restart())


@scripted
async def test_nobody_there(
    face: Face, refusing: tuple[str, int], unanswering: tuple[str, int]
) -> None:
    """A host that cannot be reached has not been asked."""
    with pytest.raises(CommunicationError, match="connection refused") as caught:
        await face.got(face.server(refusing).restart())
    assert not caught.value.sent
    with pytest.raises(CommunicationTimeout, match="no connection") as late:
        await face.got(face.server(unanswering, connect_timeout=0.05).restart())
    assert not late.value.sent


@scripted
async def test_wrong_calls(face: Face) -> None:
    """What makes no call is refused before anything is sent."""
    host = face.server(("127.0.0.1", 1))
    with pytest.raises(InvalidCall, match="not both"):
        await face.got(host.restart(1, x=2))
    with pytest.raises(InvalidCall, match="JSON can carry"):
        await face.got(host.restart({1, 2}))
    with pytest.raises(InvalidCall):
        face.server(("127.0.0.1", 0))
    with pytest.raises(InvalidCall):
        face.server(("no/host", 1))


def test_any_iterator_can_be_wrapped() -> None:
    """A stream iterator passes on what the iterator gives that it wraps."""
    stream = HarpStreamIterator(iter([1, Result(2)]))
    assert list(stream) == [1, Result(2)]
    stream.close()


def test_objects() -> None:
    """A host is named in repr, without the password, and can be copied."""
    server = HarpServer("db01", "me", "secret", ca_file=None)
    assert repr(server) == "<HarpServer db01:4306>"
    assert repr(server.restart) == "<HarpProcedure restart at db01:4306>"
    assert isinstance(HarpProcedure(server, "close"), HarpProcedure)
    for other in (copy.copy(server), copy.deepcopy(server)):
        assert repr(other) == repr(server)
        assert other._settings == server._settings
    with pytest.raises(AttributeError):
        server.__missing__  # noqa: B018
    with server as same:
        assert same is server

"""Several calls on one connection, for those who ask for it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.jobs.agent import service
from holdfast.jobs.agent.config import read
from holdfast.jobs.keeping import PROTOCOL
from tests.jobs.agent.conftest import StartDaemon
from tests.jobs.agent.daemons import Daemon, Wire, error_of, request, wait_for_exit


def result(wire: Wire) -> Any:
    """Return the result of a call, which streams nothing."""
    assert wire.message() == {"harp": 1, "stream_result": False}
    return wire.message()["result"]


def test_calls_one_after_the_other(daemon: Daemon) -> None:
    """Each call has its own process, arguments and end; an exception is an end like any."""
    with daemon.connect(keep=True) as wire:
        assert wire.socket.selected_alpn_protocol() == PROTOCOL
        pids = set()
        for number in range(5):
            wire.send(request("echo", [number]))
            assert result(wire) == number
            wire.send(request("fails", ["no"]))
            assert wire.message() == {"harp": 1, "stream_result": False}
            assert "exception" in wire.message()
            wire.send(request("process"))
            pids.add(str(result(wire)))
            wire.send(request("count", [2]))
            assert [next(iter(wire.message())) for _ in range(4)] == [
                "harp",
                "stream",
                "stream",
                "result",
            ]
        assert len(pids) == 5


def test_who_does_not_ask_gets_one_call(daemon: Daemon) -> None:
    """A caller that does not know of it sees the end of the connection after the call."""
    with daemon.connect() as wire:
        assert wire.socket.selected_alpn_protocol() is None
        wire.send(request("echo", [1]))
        assert len(wire.lines()) == 2


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"rubbish\n", "parse_error"),
        (request("echo", [1], password="wrong"), "auth_error"),
        (request("missing"), "no_such_procedure"),
        (request("echo", [1, 2, 3]), "invalid_argument_list"),
    ],
)
def test_an_error_ends_the_connection(daemon: Daemon, data: bytes, kind: str) -> None:
    """After an error there is no other call, and each call needs its own credentials."""
    with daemon.connect(keep=True) as wire:
        wire.send(request("echo", [1]))
        assert result(wire) == 1
        wire.send(data)
        assert error_of([json.loads(line) for line in wire.lines()]) == kind


@pytest.mark.parametrize(
    "data",
    [request("echo", [1]) + request("echo", [2]), request("echo", [1]) + b"x"],
    ids=["a request", "a byte"],
)
def test_nothing_may_come_before_the_end(daemon: Daemon, data: bytes) -> None:
    """A request that did not wait for the end of the call before it is not taken."""
    with daemon.connect(keep=True) as wire:
        wire.send(data)
        assert result(wire) == 1
        assert wire.line() == b""


@pytest.mark.parametrize(
    "line", ['{"result":"forged"}', '{"exception":{"type":"A","message":"b"}}']
)
def test_nothing_follows_the_end(daemon: Daemon, line: str) -> None:
    """What comes after the first end is not sent, lest the next call seem to have ended so."""
    with daemon.connect(keep=True) as wire:
        wire.send(request("writes_to_all", [line]))
        assert [wire.message() for _ in range(3)] == [
            {"harp": 1, "stream_result": True},
            {"stream": "before"},
            json.loads(line),
        ]
        for _ in range(10):
            wire.send(request("returns_twice"))
            assert str(result(wire)).startswith("in the ")
        wire.send(request("echo", ["next"]))
        assert result(wire) == "next"


def test_no_message(daemon: Daemon) -> None:
    """A process that sends anything else has failed."""
    for line in ("rubbish", '{"error": 1}', '{"cancelled":true}', "{}", ""):
        messages = daemon.call("writes_to_all", [line])
        assert messages[1] == {"stream": "before"}
        assert error_of(messages) == "system_error"


def test_closing_cancels(daemon: Daemon) -> None:
    """Whichever call it is, its process ends when the caller goes."""
    with daemon.connect(keep=True) as wire:
        wire.send(request("echo", [1]))
        assert result(wire) == 1
        wire.send(request("waits"))
        wire.message()
        pid = int(wire.message()["stream"][0])
    wait_for_exit(pid)


def test_the_rest_of_a_request_has_a_limit(start_daemon: StartDaemon) -> None:
    """A further request that does not come whole is refused as the first one is."""
    daemon = start_daemon(limits={"request_time": 1})
    with daemon.connect(keep=True) as wire:
        wire.send(request("echo", [1]))
        assert result(wire) == 1
        wire.send(b"{")
        assert error_of([json.loads(line) for line in wire.lines()]) == "timeout"


def test_a_daemon_that_is_stopped(start_daemon: StartDaemon) -> None:
    """A connection that waits for a request does not keep the daemon."""
    daemon = start_daemon()
    with daemon.connect(keep=True) as wire:
        wire.send(request("echo", [1]))
        assert result(wire) == 1
        daemon.process.terminate()
        assert error_of([json.loads(line) for line in wire.lines()]) == "shutdown"
    assert daemon.wait() == 0


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connections wait for a moment only."""
    monkeypatch.setattr(service, "SERVER_IDLE", 0.01)
    monkeypatch.setattr(service, "LOOK", 0.01)


@pytest.mark.usefixtures("soon")
def test_waiting_has_a_limit(make_daemon: Callable[[], Daemon], certificate: Any) -> None:
    """A connection without a call is closed after a time, without a word."""
    daemon = make_daemon()
    context = ssl.create_default_context(cafile=certificate[0])
    context.set_alpn_protocols([PROTOCOL])

    async def main() -> None:
        running = service.Service(read(daemon.config), daemon.procedures, None, None)
        port = int((await running.start()).rpartition(":")[2])
        try:
            async with asyncio.timeout(30):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=context, server_hostname="localhost"
                )
                writer.write(request("echo", [1]))
                assert (await reader.read()).endswith(b'{"result":1}\n')
                writer.close()
                await writer.wait_closed()
        finally:
            await running.stop()

    asyncio.run(main())

"""Calls that are ended: by their caller, by their time, by the daemon's end."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.jobs.agent.conftest import StartDaemon
from tests.jobs.agent.daemons import LIMIT, Daemon, error_of, request, until, wait_for_exit


@pytest.mark.parametrize(
    ("procedure", "manner"),
    [
        ("waits", "close"),
        ("waits", "shutdown"),
        ("waits", "reset"),
        ("stubborn", "close"),
        ("leaves_stubborn", "close"),
    ],
)
def test_closing_cancels(daemon: Daemon, procedure: str, manner: str) -> None:
    """Who closes the connection ends the process and what it has started, also if that is deaf."""
    with daemon.connect() as wire:
        wire.send(request(procedure))
        wire.message()
        pids = wire.message()["stream"]
        if manner == "shutdown":
            wire.socket.settimeout(LIMIT)
            wire.socket.unwrap()
        elif manner == "reset":
            linger = b"\1\0\0\0\0\0\0\0"
            wire.socket.setsockopt(1, 13, linger)  # SO_LINGER: send RST
        wire.close()
        for pid in pids:
            wait_for_exit(pid)


def test_cancelled_call_cleans_up(daemon: Daemon, tmp_path: Path) -> None:
    """Cancelling raises in the procedure, so that it can clean up."""
    cleaned = tmp_path / "cleaned"
    with daemon.connect() as wire:
        wire.send(request("waits", [str(cleaned)]))
        wire.message()
        pid, _ = wire.message()["stream"]
        wire.close()
        wait_for_exit(pid)
    assert cleaned.exists()


def test_cancelled_before_it_began(start_daemon: StartDaemon) -> None:
    """A call that waits for its process is forgotten when its caller goes."""
    daemon = start_daemon()
    for _ in range(20):
        with daemon.connect() as wire:
            wire.send(request("nothing"))
    assert daemon.result("nothing") is None


def test_cancelled_while_nobody_reads(daemon: Daemon) -> None:
    """Closing cancels a stream that is stopped because its reader is slow."""
    with daemon.connect(buffer=4096) as wire:
        wire.send(request("large", [10**9, 1000]))
        wire.message()
        line = daemon.logged(r": large, process \d+")
        wire.close()
    wait_for_exit(int(line.rpartition(" ")[2]))


def test_timeout_lets_clean_up(daemon: Daemon, tmp_path: Path) -> None:
    """When its time is over, the procedure cleans up, and the call ends with an error."""
    cleaned = tmp_path / "cleaned"
    messages = daemon.call("slow", [str(cleaned)])
    assert messages[0] == {"harp": 1, "stream_result": False}
    assert error_of(messages) == "timeout"
    assert cleaned.exists()


@pytest.mark.parametrize("procedure", ["slow_but_returns", "slow_and_deaf"])
def test_timeout_is_certain(daemon: Daemon, procedure: str) -> None:
    """A procedure can neither return after its time nor overlook it."""
    assert error_of(daemon.call(procedure)) == "timeout"


def test_timeout_of_a_stream(daemon: Daemon, tmp_path: Path) -> None:
    """Packets before the time is over arrive whole; what was started ends, too."""
    cleaned = tmp_path / "cleaned"
    messages = daemon.call("slow_stream", [str(cleaned)])
    assert error_of(messages) == "timeout"
    assert {"x" * 1000} == {one["stream"] for one in messages[2:-1]}
    assert cleaned.exists()
    for pid in messages[1]["stream"]:
        wait_for_exit(pid)


def test_timeout_while_nobody_reads(daemon: Daemon, tmp_path: Path) -> None:
    """A slow reader does not put off the end; what it gets is whole lines and the error."""
    cleaned = tmp_path / "cleaned"
    with daemon.connect(buffer=4096) as wire:
        wire.send(request("slow_stream", [str(cleaned)]))
        wire.message()
        pids = wire.message()["stream"]
        until(cleaned.exists)
        messages = [json.loads(line) for line in wire.lines()]
        assert error_of(messages) == "timeout"
        for pid in pids:
            wait_for_exit(pid)


def test_in_time(daemon: Daemon) -> None:
    """A limit does not matter to who keeps it."""
    assert daemon.result("in_time") == "in time"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_killed_process(daemon: Daemon, number: signal.Signals) -> None:
    """A call whose process is killed ends with an error that says so."""
    messages = daemon.call("kills_itself", [number])
    assert error_of(messages) == "system_error"
    assert number.name in messages[-1]["error"]["message"]


def test_killed_in_a_stream(daemon: Daemon) -> None:
    """What came before is sent."""
    messages = daemon.call("dies_later")
    assert messages[1] == {"stream": "before"}
    assert error_of(messages) == "system_error"


@pytest.mark.parametrize("status", [0, 7])
def test_process_that_leaves(daemon: Daemon, status: int) -> None:
    """A process that exits without an end has failed, whatever it says."""
    messages = daemon.call("leaves_abruptly", [status])
    assert error_of(messages) == "system_error"
    assert f"exited with {status}" in messages[-1]["error"]["message"]


def test_process_that_closes_its_connection(daemon: Daemon) -> None:
    """A process that closes its connection and goes on is ended."""
    assert error_of(daemon.call("closes_everything")) == "system_error"


def test_connection_that_outlives_its_process(daemon: Daemon) -> None:
    """What a killed process has forked does not keep the call open, and is ended."""
    messages = daemon.call("forks_and_dies")
    assert error_of(messages) == "system_error"
    assert "SIGKILL" in messages[-1]["error"]["message"]


def test_stop(start_daemon: StartDaemon) -> None:
    """SIGTERM tells every caller, ends every call, and exits."""
    daemon = start_daemon()
    with daemon.connect() as running, daemon.connect() as waiting:
        running.send(request("stubborn"))
        running.message()
        pids = running.message()["stream"]
        parent = daemon.parent
        daemon.signal(signal.SIGTERM)
        assert error_of([running.message()]) == "shutdown"
        assert running.line() == b""
        assert error_of([waiting.message()]) == "shutdown"
    assert daemon.wait() == 0
    for pid in [*pids, parent]:
        wait_for_exit(pid)


def test_stop_while_nobody_reads(start_daemon: StartDaemon) -> None:
    """A caller that does not read cannot keep the daemon."""
    daemon = start_daemon()
    with daemon.connect(buffer=4096) as wire:
        wire.send(request("large", [10**9, 1000]))
        wire.message()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0


@pytest.mark.slow
def test_killed_daemon(start_daemon: StartDaemon) -> None:
    """When the daemon is killed, so is everything that it has started."""
    daemon = start_daemon()
    with daemon.connect() as wire:
        wire.send(request("stubborn"))
        wire.message()
        pids = wire.message()["stream"]
        parent = daemon.parent
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        for pid in [*pids, parent]:
            wait_for_exit(pid)


def test_killed_parent(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """When the parent of the calls dies, what runs goes on, and there is a new one."""
    daemon = start_daemon(
        "from holdfast.jobs.procedures import *\n"
        "import os\n"
        "@streaming_procedure\n"
        "def through(path):\n"
        "    yield os.getpid()\n"
        "    with open(path) as file:\n"
        "        yield Result(file.read())\n"
        "@streaming_procedure\n"
        "def dies(path):\n"
        "    yield os.getpid()\n"
        "    with open(path) as file:\n"
        "        os._exit(3)\n"
        "@procedure\n"
        "def nothing(): pass\n"
    )
    paths = [tmp_path / str(number) for number in range(3)]
    for path in paths:
        os.mkfifo(path)
    parent = daemon.parent
    with daemon.connect() as goes_on, daemon.connect() as fails, daemon.connect() as cancelled:
        pids = []
        for wire, name, path in (
            (goes_on, "through", paths[0]),
            (fails, "dies", paths[1]),
            (cancelled, "through", paths[2]),
        ):
            wire.send(request(name, [str(path)]))
            wire.message()
            pids.append(wire.message()["stream"])
        os.kill(parent, signal.SIGKILL)
        daemon.logged("parent of the calls has died")
        assert daemon.result("nothing") is None
        assert daemon.parent != parent
        paths[0].write_text("still there")
        assert goes_on.message() == {"result": "still there"}
        paths[1].write_text("")
        assert error_of([fails.message()]) == "system_error"
        cancelled.close()
        wait_for_exit(pids[2])


def test_parent_that_cannot_load_again(start_daemon: StartDaemon) -> None:
    """When the file is broken meanwhile, calls say so, until it is mended."""
    daemon = start_daemon()
    whole = daemon.procedures.read_text()
    daemon.procedures.write_text("1 +")
    os.kill(daemon.parent, signal.SIGKILL)
    daemon.logged("there can be no calls")
    messages = daemon.call("nothing")
    assert error_of(messages) == "procedure_loading_error"
    assert "SyntaxError" in messages[-1]["error"]["message"]
    daemon.procedures.write_text(whole)
    daemon.reload()
    assert daemon.result("nothing") is None

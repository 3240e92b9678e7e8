"""The dispatcher as a process: commands, signals, restarts."""

from __future__ import annotations

import json
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.jobs.dispatcher.administration import NotRunning, ask
from holdfast.jobs.dispatcher.command import main
from tests.jobs.dispatcher.kit import host_line
from tests.jobs.dispatcher.lines import Lines
from tests.jobs.dispatcher.playing import ThreadedHost, playing
from tests.jobs.dispatcher.process import DispatcherProcess
from tests.servers.certificates import Certificates


@pytest.fixture(scope="module")
def host(certificates: Certificates) -> Iterator[ThreadedHost]:
    """Run the stand-in."""
    with playing(certificates) as host:
        yield host


@pytest.fixture
def dispatcher(host: ThreadedHost, tmp_path: Path) -> Iterator[DispatcherProcess]:
    """Run a dispatcher that knows the stand-in as web01."""
    (tmp_path / "hosts").write_text(host_line("web01", host.port))
    with DispatcherProcess(tmp_path, host_db="hosts") as process:
        yield process


def command(dispatcher: DispatcherProcess, name: str, **options: Any) -> list[dict[str, Any]]:
    """Give an administrative command."""
    return list(ask(dispatcher.socket, name, options, timeout=60))


def test_listings(dispatcher: DispatcherProcess, host: ThreadedHost) -> None:
    """The commands list jobs, queues and hosts, one object a line."""
    with Lines(dispatcher.port) as client:
        ended = client.call("echo", 1)
        client.ask(get_result=ended)
        running = client.call("hold", queue={"name": {"a": 1}, "concurrency": 1}, info="i")
        host.call()
        waiting = client.call("hold", queue={"name": {"a": 1}})
        lone = client.call("hold")
        host.call()
        listed = command(dispatcher, "list")
        assert [one["job"] for one in listed] == [running, waiting, lone]
        assert listed[0].keys() == {"job", "call", "time"}
        assert listed[0]["call"] == {"host": "web01", "procedure": "hold", "arguments": []}
        assert listed[0]["time"]["start"] is not None
        assert listed[1]["time"]["start"] is None
        everything = dispatcher.lines("list", "--all", "--queue")
        assert [one["job"] for one in everything] == [ended, running, waiting, lone]
        assert [one["queue"] for one in everything] == [None, {"a": 1}, {"a": 1}, None]
        (info,) = command(dispatcher, "info", job=running)
        assert (info["info"], info["queue"], info["end"], info["packets"]) == (
            "i",
            {"a": 1},
            None,
            0,
        )
        (info,) = command(dispatcher, "info", job=ended)
        assert info["end"] == {"result": [1]}
        (queue,) = command(dispatcher, "queue-list")
        assert queue == {"queue": {"a": 1}, "concurrency": 1, "running": 1, "waiting": 1}
        inside = dispatcher.lines("queue-list", '{"a": 1}')
        assert [(one["job"], one["running"]) for one in inside] == [
            (running, True),
            (waiting, False),
        ]
        assert command(dispatcher, "queue-list", queue={"a": 2}) == []
        (known,) = command(dispatcher, "hosts-list")
        assert known == {"hostname": "web01", "address": "127.0.0.1", "port": host.port}
        (state,) = command(dispatcher, "status")
        assert state["jobs"] == {"running": 2, "waiting": 1}
        assert dispatcher.lines("queue-cancel", '{"a": 1}') == [{"cancelled": 2}]
        assert client.ask(get_result=waiting) == {"cancelled": True}
        assert command(dispatcher, "cancel", job=lone) == [{"cancelled": True}]
        assert dispatcher.ask("cancel", lone).returncode == 1
        assert command(dispatcher, "prune-jobs", age=30) == [{"pruned": 0}]
        assert len(command(dispatcher, "prune-jobs", age=0)) == 1


def test_many_in_a_listing(dispatcher: DispatcherProcess) -> None:
    """A listing has all jobs, however many pages that takes."""
    with Lines(dispatcher.port) as client:
        ids = [client.call("echo", host="none") for _ in range(1201)]
        client.ask(get_result=ids[-1])
    assert [one["job"] for one in command(dispatcher, "list", all=True)] == ids


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"rubbish\n", "not JSON"),
        (b"{}\n", "command is missing"),
        (b'{"command":"rm"}\n', "there is no command"),
        (b'{"command":"list","everything":1}\n', "unknown fields"),
        (b'{"command":"info"}\n', "job is missing"),
        (b'{"command":"info","job":"x"}\n', "no job has this id"),
        (b'{"command":"queue-cancel","queue":1}\n', "must be an object"),
        (b'{"command":"prune-jobs","age":-1}\n', "must be a number from 0"),
        (b'{"command":"hosts-refresh"}\n', "no host_db_script"),
    ],
)
def test_bad_commands(dispatcher: DispatcherProcess, line: bytes, message: str) -> None:
    """A command that makes no sense is refused with a reason."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(dispatcher.socket))
        sock.sendall(line)
        with sock.makefile("rb") as answer:
            reply = json.loads(answer.readline())
    assert message in reply["error"]["message"]
    assert command(dispatcher, "status")[0]["status"] == "running"


def test_control_socket_is_private(dispatcher: DispatcherProcess) -> None:
    """Only the dispatcher's own user may give commands."""
    assert stat.S_IMODE(dispatcher.socket.stat().st_mode) == 0o600


def test_graceful_stop(dispatcher: DispatcherProcess, host: ThreadedHost) -> None:
    """What runs may end, what waits is interrupted, what is new is refused."""
    with Lines(dispatcher.port) as client, Lines(dispatcher.port) as other:
        running = client.call("hold", queue={"name": {}})
        waiting = client.call("hold", queue={"name": {}})
        call = host.call()
        dispatcher.signal(signal.SIGTERM)
        end = client.ask(get_result=waiting)
        assert end["error"]["type"] == "missing_result"
        asked = {"host": "web01", "procedure": "echo", "arguments": []}
        assert other.ask(**asked)["error"]["type"] == "shutdown"
        with pytest.raises(ConnectionRefusedError):
            Lines(dispatcher.port)
        client.send(get_result=running)
        host.finish(call, "late but whole")
        assert client.receive() == {"result": "late but whole"}
        assert client.receive() is None
    assert dispatcher.wait() == 0
    assert not dispatcher.socket.exists()
    dispatcher.start()
    with Lines(dispatcher.port) as client:
        assert client.ask(get_result=running) == {"result": "late but whole"}


@pytest.mark.parametrize("way", ["command", "signals"])
def test_stop_at_once(dispatcher: DispatcherProcess, host: ThreadedHost, way: str) -> None:
    """What has not ended in time ends as interrupted, and its packets are kept."""
    with Lines(dispatcher.port) as client:
        job_id = client.call("hold")
        client.send(follow_stream=job_id, since=0)
        host.stream(host.call(), "x")
        assert client.receive() == {"packet": 0, "data": "x"}
        if way == "command":
            done = dispatcher.ask("stop", "--timeout=0", "--print-pid")
            assert done.stdout == f"{dispatcher.pid}\n"
        else:
            dispatcher.signal(signal.SIGINT)
            command(dispatcher, "status")
            dispatcher.signal(signal.SIGTERM)
        end = client.receive()
        assert end["error"]["type"] == "missing_result"
    assert dispatcher.wait() == 0
    dispatcher.start()
    with Lines(dispatcher.port) as client:
        client.send(read_stream=job_id)
        assert client.receive() == {"packet": 0, "data": "x"}
        assert client.receive() == end


def test_killed(dispatcher: DispatcherProcess, host: ThreadedHost) -> None:
    """After a kill every job is there with its packets, and those that ran are interrupted."""
    with Lines(dispatcher.port) as client:
        ended = client.call("count", 1000)
        assert client.ask(get_result=ended) == {"result": 1000}
        running = client.call("hold", queue={"name": {}})
        waiting = client.call("hold", queue={"name": {}})
        client.send(follow_stream=running, since=0)
        host.stream(host.call(), "a", "b")
        assert [client.receive()["data"] for _ in "ab"] == ["a", "b"]
        dispatcher.kill()
        assert client.receive() is None
    dispatcher.start()
    missing = {"error": {"type": "missing_result", "message": "job interrupted abruptly"}}
    with Lines(dispatcher.port) as client:
        assert client.ask(get_result=ended) == {"result": 1000}
        client.send(read_stream=ended, recent=1)
        assert client.receive() == {"packet": 999, "data": 999}
        client.receive()
        client.send(follow_stream=running, since=0)
        assert [client.receive() for _ in range(3)] == [
            {"packet": 0, "data": "a"},
            {"packet": 1, "data": "b"},
            missing,
        ]
        assert client.ask(get_result=waiting) == missing
        times = client.ask(get_status=running)["time"]
        assert None not in times.values()
        times = client.ask(get_status=waiting)["time"]
        assert times["start"] is None
        assert times["end"] is not None
        # Its queue has gone with it.
        assert client.ask(get_result=client.call("echo", 1, queue={"name": {}})) == {"result": [1]}


def test_reload(dispatcher: DispatcherProcess, host: ThreadedHost) -> None:
    """A reload changes limits, keeps what runs, and refuses what is wrong."""
    with Lines(dispatcher.port) as client:
        running = client.call("hold")
        call = host.call()
        dispatcher.configure(host_db="hosts", default_timeout=77)
        assert dispatcher.lines("reload") == [{"reloaded": True}]
        (info,) = dispatcher.lines("info", client.call("echo"))
        assert info["timeout"] == 77
        dispatcher.configure(host_db="hosts", default_timeout=0)
        failed = dispatcher.ask("reload")
        assert failed.returncode == 1
        assert "default_timeout must be" in failed.stderr
        dispatcher.configure(host_db="hosts", default_timeout=78, listen=["127.0.0.1:1"])
        dispatcher.signal(signal.SIGHUP)
        while True:
            (info,) = command(dispatcher, "info", job=client.call("echo"))
            if info["timeout"] == 78:
                break
        assert "listen has changed" in dispatcher.log.read_text()
        host.finish(call, 1)
        assert client.ask(get_result=running) == {"result": 1}


def test_reopened_log(dispatcher: DispatcherProcess) -> None:
    """A log that was moved away is begun anew."""
    moved = dispatcher.log.with_name("log.1")
    dispatcher.log.rename(moved)
    command(dispatcher, "reopen-logs")
    command(dispatcher, "reload")
    assert "read again" in dispatcher.log.read_text()


def test_second_dispatcher(dispatcher: DispatcherProcess, tmp_path: Path) -> None:
    """A second dispatcher with the same store or the same socket does not start."""
    second = DispatcherProcess(tmp_path)
    with pytest.raises(RuntimeError, match="another dispatcher uses"):
        second.start()
    second.configure(stream_directory="others")
    with pytest.raises(RuntimeError, match="another dispatcher listens"):
        second.start()
    assert command(dispatcher, "status")[0]["pid"] == dispatcher.pid


def test_port_in_use(dispatcher: DispatcherProcess, tmp_path: Path) -> None:
    """An address that is taken is told, and the store is left."""
    (tmp_path / "second").mkdir()
    second = DispatcherProcess(tmp_path / "second", listen=[f"127.0.0.1:{dispatcher.port}"])
    with pytest.raises(RuntimeError, match=r"(?i)address already in use"):
        second.start()


def test_status(tmp_path: Path) -> None:
    """The status is asked for with or without a dispatcher, or waited for."""
    process = DispatcherProcess(tmp_path)
    stopped = process.ask("status")
    assert (stopped.returncode, json.loads(stopped.stdout)["status"]) == (1, "stopped")
    assert process.ask("status", "--wait", "--timeout=0.1").returncode == 1
    assert process.ask("list").returncode == 1
    with process:
        (state,) = process.lines("status", "--wait", "--timeout=10")
        assert (state["status"], state["pid"]) == ("running", process.pid)


def test_checked_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration can be checked without a start."""
    process = DispatcherProcess(tmp_path)
    assert main(["start", "--test", "--config", str(process.config)]) == 0
    process.configure(listen="everywhere")
    assert main(["start", "--test", "--config", str(process.config)]) == 1
    assert "listen must be a list" in capsys.readouterr().err
    assert not (tmp_path / "jobs").exists()


def test_pidfile(tmp_path: Path) -> None:
    """The process id is in the file for as long as the dispatcher runs."""
    process = DispatcherProcess(tmp_path)
    process.arguments = ["--pidfile", str(tmp_path / "pid")]
    with process:
        assert (tmp_path / "pid").read_text() == f"{process.pid}\n"
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert not (tmp_path / "pid").exists()


def test_new_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new token is shown once, beside the table that makes it known."""
    assert main(["new-token", "web"]) == 0
    output = capsys.readouterr()
    token = output.err.removeprefix("token: ").strip()
    assert token not in output.out
    (tmp_path / "tokens").write_text(output.out)
    with (
        DispatcherProcess(tmp_path, tokens_file="tokens") as process,
        Lines(process.port) as client,
    ):
        assert client.ask(hosts="*")["error"]["type"] == "auth_error"
        assert client.ask(hosts="*", token=token) == {"hosts": []}
        assert token not in process.log.read_text()


def test_nobody_there(tmp_path: Path) -> None:
    """Asking where no dispatcher is says so."""
    with pytest.raises(NotRunning, match="no dispatcher answers"):
        list(ask(tmp_path / "none", "status"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        with pytest.raises(TimeoutError):
            list(ask(tmp_path / "socket", "status", timeout=0.05))
    with pytest.raises(NotRunning):
        list(ask(tmp_path / "socket", "status"))

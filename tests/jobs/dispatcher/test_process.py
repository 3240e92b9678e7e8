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
from holdfast.jobs.dispatcher.config import parse
from holdfast.jobs.dispatcher.rules import Rule, hash_token
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


@pytest.fixture(scope="module")
def shared(
    host: ThreadedHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DispatcherProcess]:
    """Run a dispatcher for tests that leave nothing behind but jobs that have ended."""
    directory = tmp_path_factory.mktemp("shared")
    (directory / "hosts").write_text(host_line("web01", host.port))
    with DispatcherProcess(directory, host_db="hosts") as process:
        yield process


def command(dispatcher: DispatcherProcess, name: str, **options: Any) -> list[dict[str, Any]]:
    """Give an administrative command."""
    return list(ask(dispatcher.socket, name, options, timeout=60))


def test_listings(shared: DispatcherProcess, host: ThreadedHost) -> None:
    """The commands list jobs, queues and hosts, one object a line."""
    with Lines(shared.port) as client:
        ended = client.call("echo", 1)
        client.ask(get_result=ended)
        running = client.call("hold", queue={"name": {"a": 1}, "concurrency": 1}, info="i")
        host.call()
        waiting = client.call("hold", queue={"name": {"a": 1}})
        lone = client.call("hold")
        host.call()
        listed = command(shared, "list")
        assert [one["job"] for one in listed] == [running, waiting, lone]
        assert listed[0].keys() == {"job", "call", "time"}
        assert listed[0]["call"] == {"host": "web01", "procedure": "hold", "arguments": []}
        assert listed[0]["time"]["start"] is not None
        assert listed[1]["time"]["start"] is None
        everything = shared.lines("list", "--all", "--queue")[-4:]
        assert [one["job"] for one in everything] == [ended, running, waiting, lone]
        assert [one["queue"] for one in everything] == [None, {"a": 1}, {"a": 1}, None]
        (info,) = command(shared, "info", job=running)
        assert (info["info"], info["queue"], info["end"], info["packets"]) == (
            "i",
            {"a": 1},
            None,
            0,
        )
        (info,) = command(shared, "info", job=ended)
        assert info["end"] == {"result": [1]}
        (queue,) = command(shared, "queue-list")
        assert queue == {"queue": {"a": 1}, "concurrency": 1, "running": 1, "waiting": 1}
        inside = shared.lines("queue-list", '{"a": 1}')
        assert [(one["job"], one["running"]) for one in inside] == [
            (running, True),
            (waiting, False),
        ]
        assert command(shared, "queue-list", queue={"a": 2}) == []
        (known,) = command(shared, "hosts-list")
        assert known == {"hostname": "web01", "address": "127.0.0.1", "port": host.port}
        (state,) = command(shared, "status")
        assert state["jobs"] == {"running": 2, "waiting": 1}
        assert shared.lines("queue-cancel", '{"a": 1}') == [{"cancelled": 2}]
        assert client.ask(get_result=waiting) == {"cancelled": True}
        assert command(shared, "cancel", job=lone) == [{"cancelled": True}]
        assert shared.ask("cancel", lone).returncode == 1
        assert command(shared, "prune-jobs", age=30) == [{"pruned": 0}]
        assert len(command(shared, "prune-jobs", age=0)) == 1


def test_many_in_a_listing(shared: DispatcherProcess) -> None:
    """A listing has all jobs, however many pages that takes."""
    with Lines(shared.port) as client:
        ids = [client.call("echo", "x" * 500_000, host="none") for _ in range(5)]
    assert [one["job"] for one in command(shared, "list", all=True)][-5:] == ids


def test_bad_commands(shared: DispatcherProcess) -> None:
    """A command that makes no sense is refused with a reason."""
    for line, message in [
        (b"rubbish\n", "not JSON"),
        (b"{}\n", "command is missing"),
        (b'{"command":"rm"}\n', "there is no command"),
        (b'{"command":"list","everything":1}\n', "unknown fields"),
        (b'{"command":"info"}\n', "job is missing"),
        (b'{"command":"info","job":"x"}\n', "no job has this id"),
        (b'{"command":"queue-cancel","queue":1}\n', "must be an object"),
        (b'{"command":"prune-jobs","age":-1}\n', "must be a number from 0"),
        (b'{"command":"hosts-refresh"}\n', "no host_db_script"),
    ]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(shared.socket))
            sock.sendall(line)
            with sock.makefile("rb") as answer:
                reply = json.loads(answer.readline())
        assert message in reply["error"]["message"], line
    assert command(shared, "status")[0]["status"] == "running"


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that makes no sense is refused, under the name that was called."""
    for arguments, message in [
        (["prune-jobs", "--age=x"], "'x' is no number from 0"),
        (["stop", "--timeout=nan"], "'nan' is no number from 0"),
        (["queue-list", "[]"], "'[]' is no JSON object"),
        (["queue-cancel", '{"a":'], "is no JSON object"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main(arguments, "holdfast dispatcher")
        assert caught.value.code == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.startswith("usage: holdfast dispatcher")
    socket = tmp_path / ("x" * 120)
    assert main(["--socket", str(socket), "list"], "holdfast dispatcher") == 1
    assert capsys.readouterr().err.startswith("holdfast dispatcher: no dispatcher answers")


def test_control_socket_is_private(shared: DispatcherProcess) -> None:
    """Only the dispatcher's own user may give commands."""
    assert stat.S_IMODE(shared.socket.stat().st_mode) == 0o600


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
    if way == "command":
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


def test_reopened_log(shared: DispatcherProcess) -> None:
    """A log that was moved away is begun anew."""
    moved = shared.log.with_name("log.1")
    shared.log.rename(moved)
    command(shared, "reopen-logs")
    command(shared, "reload")
    assert "read again" in shared.log.read_text()


def test_second_dispatcher(shared: DispatcherProcess, tmp_path: Path) -> None:
    """A second dispatcher with the same store, socket or address does not start, and says why."""
    jobs = str(shared.directory / "jobs")
    address = f"127.0.0.1:{shared.port}"
    second = DispatcherProcess(tmp_path)
    second.configure(stream_directory=jobs)
    with pytest.raises(RuntimeError, match="another dispatcher uses"):
        second.start()
    second.configure(listen=[address])
    with pytest.raises(RuntimeError, match=r"(?i)address already in use"):
        second.start()
    second.configure()
    second.socket = shared.socket
    with pytest.raises(RuntimeError, match="control: another dispatcher listens"):
        second.start()
    assert command(shared, "status")[0]["pid"] == shared.pid


def test_status(tmp_path: Path) -> None:
    """The status is asked for with or without a dispatcher, or waited for; a file has its id."""
    process = DispatcherProcess(tmp_path)
    process.arguments = ["--pidfile", str(tmp_path / "pid")]
    stopped = process.ask("status")
    assert (stopped.returncode, json.loads(stopped.stdout)["status"]) == (1, "stopped")
    assert process.ask("status", "--wait", "--timeout=0.1").returncode == 1
    assert process.ask("list").returncode == 1
    with process:
        (state,) = process.lines("status", "--wait", "--timeout=10")
        assert (state["status"], state["pid"]) == ("running", process.pid)
        assert (tmp_path / "pid").read_text() == f"{process.pid}\n"
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert not (tmp_path / "pid").exists()


def test_checked_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration can be checked without a start."""
    process = DispatcherProcess(tmp_path)
    assert main(["start", "--test", "--config", str(process.config)]) == 0
    process.configure(listen="everywhere")
    assert main(["start", "--test", "--config", str(process.config)]) == 1
    assert "listen must be a list" in capsys.readouterr().err
    assert not (tmp_path / "jobs").exists()


def test_new_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new token is shown once, beside the table that makes it known."""
    assert main(["new-token", "web"]) == 0
    output = capsys.readouterr()
    token = output.err.removeprefix("token: ").strip()
    assert token not in output.out
    (tmp_path / "tokens").write_text(output.out)
    (rule,) = parse('tokens_file = "tokens"', tmp_path).tokens
    assert rule == Rule("web", hash=hash_token(token))


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

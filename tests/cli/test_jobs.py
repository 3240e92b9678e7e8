"""Jobs from the command line: a dispatcher and a host daemon as processes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from rich.console import Console

from holdfast.cli.call import EPILOG, arguments_of, call
from holdfast.console.jobs import jobs_table, state_of
from holdfast.jobs import HarpCaller
from holdfast.jobs.agent.init import init
from tests.cli.conftest import COMMAND, LIMIT, Invoke
from tests.jobs.agent.daemons import Daemon
from tests.jobs.client.scripts import Hear, LineServer, Say, hear_line
from tests.jobs.client.test_exchanges import JOB, STATUS
from tests.jobs.dispatcher.process import DispatcherProcess
from tests.servers.connection import Connection
from tests.servers.scripted import Script

NOBODY = "00000000-0000-4000-8000-000000000000"

PROCEDURES = """
import os, signal
from holdfast.jobs.procedures import Result, procedure, streaming_procedure

@procedure
def echo(*args, **kwargs):
    return kwargs or list(args)

@procedure
def fail():
    raise LookupError("no \\x1b[2J such thing")

@procedure
def hold():
    signal.pause()

@streaming_procedure
def count(to):
    for number in range(to):
        yield {"number": number}
    yield Result("done")

@streaming_procedure
def tell():
    yield os.getpid()
    signal.pause()
"""


@pytest.fixture(scope="module")
def dispatcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DispatcherProcess]:
    """Run a dispatcher that knows a host daemon as web1."""
    folder = tmp_path_factory.mktemp("jobs")
    init(folder / "new", "harpd")
    certificate = folder / "new" / "harpd.cert.pem", folder / "new" / "harpd.key.pem"
    (folder / "host").mkdir()
    daemon = Daemon(folder / "host", certificate, PROCEDURES).start()
    try:
        credentials = {"user": "ann", "password": "s3cret"}
        host = {"hostname": "web1", "address": "127.0.0.1", "port": daemon.port}
        (folder / "hosts").write_text(json.dumps({**host, "credentials": credentials}) + "\n")
        with DispatcherProcess(folder, host_db="hosts") as process:
            yield process
    finally:
        daemon.stop()


@pytest.fixture
def env(dispatcher: DispatcherProcess) -> dict[str, str | None]:
    """Give the environment that names the dispatcher."""
    return {
        "HOLDFAST_DISPATCHER": f"127.0.0.1:{dispatcher.port}",
        "HOLDFAST_CONTROL": str(dispatcher.socket),
        "HOLDFAST_TOKEN": None,
    }


@pytest.fixture
def caller(dispatcher: DispatcherProcess) -> Iterator[HarpCaller]:
    """Give a client."""
    with HarpCaller("127.0.0.1", dispatcher.port) as caller:
        yield caller


@pytest.fixture
def run(invoke: Invoke, env: dict[str, str | None]) -> Callable[..., Any]:
    """Run a command: `run("call", …)` gives what click knows of it."""
    return lambda *arguments: invoke(*arguments, env=env)


Run = Callable[..., Any]


def values(text: str) -> list[Any]:
    """Return what lines of JSON say."""
    return [json.loads(line) for line in text.splitlines()]


def test_call_prints_the_result(run: Run) -> None:
    """Arguments are JSON where they parse, else strings, and the result is laid out."""
    done = run("call", "web1", "echo", "5", "x y", '"5"', "true", '{"a": [1]}', "--", "-5", "NaN")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [5, "x y", "5", True, {"a": [1]}, -5, "NaN"]
    assert "\n  5,\n" in done.stdout


def test_call_by_name(run: Run) -> None:
    """KEY=VALUE gives an argument by name."""
    done = run("call", "web1", "echo", "width=800", "name=a=b", "--json")
    said = values(done.stdout)
    assert re.fullmatch("[0-9a-f-]{36}", said[0]["job"])
    assert said[1:] == [{"result": {"width": 800, "name": "a=b"}}]


def test_arguments() -> None:
    """What is no name and has = in it is a string."""
    assert arguments_of(["1+1=2", '"a=b"']) == (["1+1=2", "a=b"], {})
    assert arguments_of(["a=", 'b="1"']) == ([], {"a": "", "b": "1"})
    assert arguments_of(["[" * 100_000])[0] == ["[" * 100_000]


def test_examples_of_the_help() -> None:
    """The calls that the help shows are calls that may be given."""
    shown = re.findall("holdfast (call .*)", EPILOG)
    assert len(shown) > 2
    for example in shown:
        with call.make_context("call", shlex.split(example)[1:]) as context:
            arguments_of(context.params["arguments"])


def test_any_name_of_an_argument(run: Run) -> None:
    """Arguments may have any names, and a name that is no text is no reason to fail."""
    done = run("call", "web1", "echo", "self=1", "host=2", "--json")
    assert values(done.stdout)[1:] == [{"result": {"self": 1, "host": 2}}]
    done = run("call", "web1", "echo", "\udcff")
    assert (done.exit_code, json.loads(done.stdout)) == (0, ["\udcff"])


def test_follow_prints_packets(run: Run) -> None:
    """With --follow the packets come first, each in a line."""
    done = run("call", "web1", "count", "3", "--follow")
    assert values(done.stdout) == [{"number": 0}, {"number": 1}, {"number": 2}, "done"]
    said = values(run("call", "web1", "count", "to=2", "--follow", "--json").stdout)
    assert said[1:] == [
        {"packet": 0, "data": {"number": 0}},
        {"packet": 1, "data": {"number": 1}},
        {"result": "done"},
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("web1", "fail"), 3, "the procedure raised LookupError: no \\x1b[2J such thing"),
        (("web2", "echo"), 4, "unknown_host"),
        (("web1", "nothing"), 4, "no_such_procedure"),
        (("web1", "hold", "--timeout", "1"), 4, "timeout"),
    ],
)
def test_failures(run: Run, arguments: tuple[str, ...], status: int, said: str) -> None:
    """What went wrong has a status of its own, and a sentence on the standard error."""
    done = run("call", *arguments)
    assert (done.exit_code, done.stdout) == (status, "")
    assert said in done.stderr
    if status == 3:
        message = values(run("call", *arguments, "--json").stdout)[-1]
        assert message["exception"]["type"] == "LookupError"


@pytest.mark.parametrize(
    "arguments",
    [
        ("1", "a=1"),
        ("a=1", "a=2"),
        ("--queue", "nonsense"),
        ("--queue", "5"),
        ("--info", "NaN"),
        ("--concurrency", "3"),
        ("--timeout", "0.5"),
        ("--follow", "--detach"),
        ("--dispatcher", ","),
        ("--dispatcher", "http://x"),
        ("--ca", os.devnull),
    ],
)
def test_wrong_command_lines(run: Run, arguments: tuple[str, ...]) -> None:
    """What makes no call ends with status 2, and nothing is sent."""
    done = run("call", "web1", "echo", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Error: " in done.stderr


def test_no_dispatcher(invoke: Invoke) -> None:
    """A dispatcher that cannot be reached is named, and the status is 1."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{closed.getsockname()[1]}"
        for command in (("call", "web1", "echo"), ("jobs", "show", NOBODY)):
            done = invoke(*command, "--dispatcher", name)
            assert (done.exit_code, done.stdout) == (1, "")
            assert name in done.stderr


def test_several_dispatchers(run: Run, env: dict[str, str | None]) -> None:
    """The first dispatcher that can be reached is called."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        both = f"127.0.0.1:{closed.getsockname()[1]}, {env['HOLDFAST_DISPATCHER']}"
        done = run("call", "web1", "echo", "1", "--dispatcher", both)
    assert (done.exit_code, json.loads(done.stdout)) == (0, [1])


def test_a_jobs_life(run: Run, caller: HarpCaller) -> None:
    """A detached job is listed, shown, followed, and cancelled."""
    options = ("--queue", '{"disk": "sda"}', "--info", '"who"', "--max-exec-time", "60")
    job_id = run("call", "web1", "tell", "--detach", *options).stdout.strip()
    with caller.job(job_id).follow(since=0) as packets:
        pid = next(packets)
    waiting = values(run("call", "web1", "hold", "--detach", "--json", *options).stdout)[0]["job"]

    listed = {one["job"]: one for one in values(run("jobs", "list", "--json").stdout)}
    assert listed[job_id]["queue"] == {"disk": "sda"}
    assert state_of(listed[job_id]["time"]) == "running"
    assert state_of(listed[waiting]["time"]) == "waiting"
    table = run("jobs", "list").stdout
    assert re.search(rf'{job_id} +web1 +tell +\[\] +{{"disk":"sda"}} +running ', table)
    assert re.search(rf'{waiting} +web1 +hold +\[\] +{{"disk":"sda"}} +waiting ', table)

    (shown,) = values(run("jobs", "show", job_id, "--json").stdout)
    assert shown["call"] == {"host": "web1", "procedure": "tell", "arguments": []}
    assert (shown["info"], shown["end"], shown["time"]["end"]) == ("who", None, None)
    assert "running" in run("jobs", "show", job_id).stdout

    done = run("jobs", "cancel", waiting, job_id)
    assert (done.exit_code, done.stdout.count(" was cancelled\n")) == (0, 2)
    done = run("jobs", "cancel", job_id, "--json")
    assert (done.exit_code, values(done.stdout)) == (1, [{"job": job_id, "cancelled": False}])

    done = run("jobs", "follow", job_id, "--json")
    assert (done.exit_code, values(done.stdout)) == (
        5,
        [{"packet": 0, "data": pid}, {"cancelled": True}],
    )
    assert values(run("jobs", "follow", job_id, "--since", "1", "--json").stdout) == [
        {"cancelled": True}
    ]
    assert "cancelled" in run("jobs", "show", job_id).stdout
    everything = {one["job"]: one for one in values(run("jobs", "list", "-a", "--json").stdout)}
    assert state_of(everything[waiting]["time"]) == "never ran"
    assert job_id in run("jobs", "list", "--all").stdout


def test_list_tells_the_ends(run: Run) -> None:
    """Each job of a listing that has ended says how, and in which queue it was."""
    queue = '{"tape": 7}'
    calls = {"ok": ("echo",), "raised": ("fail",), "error": ("nothing",), "cancelled": ("hold",)}
    ids = {end: run("call", "web1", *one, "--detach").stdout.strip() for end, one in calls.items()}
    run("jobs", "cancel", ids["cancelled"])
    held = run("call", "web1", "hold", "--queue", queue, "--detach").stdout.strip()
    never = run("call", "web1", "hold", "--queue", queue, "--detach").stdout.strip()
    run("jobs", "cancel", never, held)
    for job_id in ids.values():
        run("jobs", "follow", job_id)
    table = run("jobs", "list", "--all").stdout
    for end, job_id in ids.items():
        assert re.search(rf"{job_id} .* {end} ", table)
    assert re.search(rf'{never} .* {{"tape":7}} +never ran ', table)
    said = {one["job"]: one["end"] for one in values(run("jobs", "list", "-a", "--json").stdout)}
    kinds = [said[job_id] for job_id in ids.values()]
    assert kinds == ["result", "exception", "error", "cancelled"]


def test_the_column_of_queues() -> None:
    """A table of jobs tells their queues if one of them is in one."""
    call = {"host": "web1", "procedure": "echo", "arguments": []}
    times = {"submit": 1, "start": None, "end": None}
    job = {"job": JOB, "call": call, "time": times, "queue": None, "end": None}

    def shown(*jobs: dict[str, Any]) -> str:
        console = Console(file=StringIO(), width=150)
        console.print(jobs_table(jobs))
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    assert "queue" not in shown(job)
    assert '{"a":1}' in shown(job, {**job, "queue": {"a": 1}})


class HangUp:
    """A step of a server that closes the connection after the first line, whatever it says."""

    def play(self, connection: Connection) -> None:
        hear_line(connection)


def test_a_dispatcher_that_wants_tls(invoke: Invoke) -> None:
    """Where a connection is closed that is not encrypted, it may be for want of encryption."""
    with LineServer([HangUp()]) as server:
        name = f"{server.host}:{server.port}"
        done = invoke("call", "web1", "echo", "--dispatcher", name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "--tls" in done.stderr


def test_show_tells_the_end(run: Run) -> None:
    """A result is laid out, an exception told."""
    job_id = values(run("call", "web1", "echo", "a=[1]", "--json").stdout)[0]["job"]
    assert '"a": [\n' in run("jobs", "show", job_id).stdout
    job_id = values(run("call", "web1", "fail", "--json").stdout)[0]["job"]
    shown = run("jobs", "show", job_id).stdout
    assert "LookupError: no \\x1b[2J such thing" in shown


@pytest.mark.parametrize("command", ["show", "follow"])
def test_unknown_job(run: Run, command: str) -> None:
    """A job that nobody knows ends with status 1."""
    done = run("jobs", command, NOBODY)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "invalid_jobid" in done.stderr


def test_prune(run: Run) -> None:
    """Jobs that ended before some days are forgotten, and counted."""
    run("call", "web1", "echo")
    assert run("jobs", "prune").stdout == "0 jobs forgotten\n"
    assert values(run("jobs", "prune", "--age", "1000", "--json").stdout) == [{"pruned": 0}]


@pytest.mark.parametrize("command", ["list", "prune"])
def test_control_socket(invoke: Invoke, tmp_path: Path, command: str) -> None:
    """Without the control socket a sentence says what is needed."""
    done = invoke("jobs", command, env={"HOLDFAST_CONTROL": None})
    assert (done.exit_code, done.stdout) == (2, "")
    assert "HOLDFAST_CONTROL" in done.stderr
    done = invoke("jobs", command, "--control", str(tmp_path / "none"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"no dispatcher answers at {tmp_path / 'none'}" in done.stderr
    done = invoke("jobs", command, "--dispatcher", "127.0.0.1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "the dispatcher's administrator" in done.stderr
    assert "--control" in done.stderr


ASK = Hear({"harpcaller": 1, "get_status": JOB})
RESULT = Hear({"harpcaller": 1, "get_result": JOB, "wait": False})


def test_times_that_are_none(invoke: Invoke) -> None:
    """What a dispatcher says of time is shown, whatever it is."""
    status = {**STATUS, "time": {"submit": -(10**18), "start": None, "end": None}}
    asked: list[Any] = [ASK, Say(status)]
    with LineServer([RESULT, Say({"no_result": True}), *asked * 9]) as server:
        done = invoke("jobs", "show", JOB, "--dispatcher", f"{server.host}:{server.port}")
    assert (done.exit_code, done.stderr) == (0, "")
    assert str(-(10**18)) in done.stdout


def test_a_job_that_ends_while_it_is_shown(invoke: Invoke) -> None:
    """A job that has ended is not shown without its end."""
    status = {**STATUS, "time": {"submit": 1, "start": 1, "end": 2}}
    script: Script = [
        RESULT,
        Say({"no_result": True}),
        ASK,
        Say(status),
        RESULT,
        Say({"result": 5}),
    ]
    with LineServer(script) as server:
        done = invoke("jobs", "show", JOB, "--json", "--dispatcher", f"{server.host}:{server.port}")
    (shown,) = values(done.stdout)
    assert (shown["end"], shown["time"]["end"]) == ({"result": 5}, 2)


def test_cancelling_goes_on(invoke: Invoke) -> None:
    """A job that may not be cancelled is no reason to leave out those that may."""
    denied = {"error": {"type": "access_denied", "message": "not yours"}}
    cancel = Hear({"harpcaller": 1, "cancel": JOB})
    with LineServer([cancel, Say(denied), cancel, Say({"cancelled": True})]) as server:
        where = "--dispatcher", f"{server.host}:{server.port}"
        done = invoke("jobs", "cancel", JOB, JOB, *where)
    assert (done.exit_code, done.stdout) == (1, f"{JOB} was cancelled\n")
    assert "access_denied: not yours" in done.stderr


def test_a_lost_follower(invoke: Invoke) -> None:
    """Who cannot follow any more is told how to come back, and nothing that nobody knows."""
    follow = Hear({"harpcaller": 1, "follow_stream": JOB, "since": 0})
    with LineServer([follow, Say({"packet": 0, "data": 7}, [])]) as server:
        done = invoke("jobs", "follow", JOB, "--dispatcher", f"{server.host}:{server.port}")
    assert (done.exit_code, done.stdout) == (1, "7\n")
    assert f"holdfast jobs follow {JOB} --since 1" in done.stderr
    assert "goes on" not in done.stderr


class Called:
    """A call as a process, with pipes or on a terminal, that waits for its job."""

    def __init__(self, env: dict[str, str | None], terminal: bool) -> None:
        environ = {**os.environ, **{name: value or "" for name, value in env.items()}}
        self.terminal = terminal
        ours, theirs = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            [*COMMAND, "call", "web1", "tell", "--follow", *(() if terminal else ("--json",))],
            stdin=theirs if terminal else subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env={**environ, "TERM": "dumb"},
        )
        os.close(theirs)
        self.end = ours
        self.seen = ""

    def __enter__(self) -> Called:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.end)

    def until(self, pattern: str) -> re.Match[str]:
        """Read until something is there."""
        deadline = monotonic() + LIMIT
        while not (match := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.end], [], [], max(0.0, deadline - monotonic()))
            assert ready, self.seen
            try:
                data = os.read(self.end, 4096)
            except OSError:  # Linux: the other side of the terminal was closed
                data = b""
            assert data, self.seen
            self.seen += data.decode()
        return match

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)


needs_interrupts = pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    reason="whoever started the tests has SIGINT ignored, as in the background of a shell",
)


@needs_interrupts
@pytest.mark.parametrize("answer", ["y", "n"])
def test_interrupt_on_a_terminal(
    env: dict[str, str | None], caller: HarpCaller, answer: str
) -> None:
    """Ctrl-C asks whether to cancel; a job that is not says how to go on with it."""
    with Called(env, terminal=True) as called:
        job = caller.job(called.until(r"job ([0-9a-f-]{36})\r?\n\d+\r?\n")[1])
        called.interrupt()
        called.until(r"Cancel job .*\?")
        os.write(called.end, f"{answer}\n".encode())
        if answer == "y":
            called.until(rf"job {job.id()} was cancelled")
        else:
            called.until(rf"holdfast jobs follow {job.id()} --since 1")
        assert called.process.wait(LIMIT) == 130
    assert job.cancel() is (answer == "n")


@needs_interrupts
def test_interrupt_elsewhere(env: dict[str, str | None], caller: HarpCaller) -> None:
    """Without a terminal nothing is asked, and the job goes on."""
    with Called(env, terminal=False) as called:
        job = caller.job(called.until(r'"job":"([0-9a-f-]{36})"}\n{"packet":0,"data":\d+}\n')[1])
        called.interrupt()
        called.until(rf"Job {job.id()} goes on.*holdfast jobs follow {job.id()} --since 1\n")
        assert called.process.wait(LIMIT) == 130
        assert "Traceback" not in called.seen
    assert job.cancel()


def test_servers_have_their_own_help() -> None:
    """The arguments of the two servers are read by themselves."""
    for name, option in (("agent", "--procedures"), ("dispatcher", "--socket")):
        done = subprocess.run(
            [*COMMAND, name, "--help"], capture_output=True, text=True, timeout=LIMIT
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert option in done.stdout


def test_scripts_are_installed() -> None:
    """The daemons have their classic names, too."""
    folder = Path(sys.executable).parent
    for name in ("harpd", "harpcallerd"):
        done = subprocess.run(
            [folder / name, "--help"], capture_output=True, text=True, timeout=LIMIT
        )
        assert (done.returncode, done.stdout.split()[:2]) == (0, ["usage:", name])

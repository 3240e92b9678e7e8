import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from holdfast.cli.demo import course
from holdfast.cli.demo.callers import Answer
from holdfast.cli.demo.dispatching import most_at_once
from holdfast.cli.demo.servers import ServerProcess
from holdfast.cli.demo.tally import Phase, Tally, figures
from holdfast.cli.demo.traffic import Pace, Traffic
from holdfast.console.display import ServerView, View, display_on
from holdfast.console.report import Dispatched, Report, Stored
from holdfast.console.tables import report_tables
from tests.cli.conftest import COMMAND, LIMIT, Invoke, OnTerminal

# A whole demonstration takes half a minute, and more on a busy machine.
pytestmark = pytest.mark.timeout(240)

FEW = ("demo", "--calls", "300", "--rate", "400", "--threads", "2", "--mib", "64")


@pytest.mark.slow
def test_no_call_is_lost(invoke: Invoke) -> None:
    """A killed server costs no call, and gets calls again once it is back."""
    done = invoke(*FEW, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 0, report["losses"]
    assert (report["ok"], report["kills"], report["errors"]) == (True, 1, 0)
    assert report["came_back"]
    assert report["calls"] >= 300
    assert report["attempts"] == report["calls"] + report["retries"]
    assert report["retries"] > 0
    assert 0 < report["p50_ms"] <= report["p99_ms"] <= report["max_ms"]

    phases = {phase["name"]: phase for phase in report["phases"]}
    assert list(phases) == ["before", "during", "after"]
    assert phases["before"]["servers"][report["killed"]] > 0
    assert phases["after"]["servers"][report["killed"]] > 0
    clients = [client["name"] for client in report["clients"]]
    assert clients == [
        "Cluster, 2 threads",
        "Replicas, 2 threads",
        "AsyncCluster, 16 tasks",
        "AsyncReplicas, 16 tasks",
    ]
    for parts in (report["phases"], report["clients"]):
        assert sum(part["calls"] for part in parts) == report["calls"]
    assert sum(report["servers"].values()) == report["calls"]

    watched = report["flow"]
    assert watched["once"]
    assert watched["received"] == watched["events"]
    assert watched["reconnects"] >= watched["kills"] > 0
    assert watched["polls"] > 0

    jobs = report["jobs"]
    assert jobs["ok"]
    assert jobs["jobs"] == jobs["done"] == jobs["kept"] == 100
    assert 0 < jobs["at_once"] <= jobs["limit"] == 3
    assert jobs["packets"] >= 200
    assert jobs["once"]
    assert jobs["ended"] == "missing_result"
    assert jobs["cancelled"]
    assert jobs["gone"]

    stored = report["blocks"]
    assert stored["ok"]
    assert stored["same"] == stored["files"] > 200
    assert stored["lost"] == stored["repaired"] > 0
    assert stored["whole"]

    guarded = report["fault_tolerant"]
    assert guarded["answered"] + guarded["fell_back"] == guarded["calls"]
    assert guarded["answered"] > guarded["calls"] / 2
    counts = guarded["counts"]
    ended = (counts.get(f"demo.{how}", 0) for how in ("success", "failure", "timeout"))
    assert sum(ended) == guarded["calls"]
    assert counts["demo.retry"] > 0
    assert counts["demo.circuit.open"] > 0

    # Without a terminal the progress comes in plain lines, on the standard error.
    said = done.stderr
    assert "\x1b" not in said
    for event in ("300 calls begin", "was killed (SIGKILL)", "started again", "serves again"):
        assert event in said


@pytest.mark.slow
def test_calls_are_lost_without_retries(on_terminal: OnTerminal) -> None:
    """When calls are lost, the tables say so and the status is 1."""
    status, seen = on_terminal(*FEW, "--no-retry")
    assert status == 1
    assert "calls were lost." in seen or "1 call was lost." in seen
    assert "lost, for example: ConnectError: " in seen or "NetworkError: " in seen
    assert "phase" in seen
    assert "answered by" in seen
    assert "\x1b[?25h" in seen  # the cursor that the live display hid is back


@pytest.mark.slow
def test_interrupt() -> None:
    """Ctrl-C ends the demonstration with status 130, and its servers with it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("whoever started the tests has SIGINT ignored, as in the background of a shell")
    process = subprocess.Popen(
        [*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stderr is not None
            said = ""
            while "calls begin" not in said:
                said += process.stderr.readline()
            servers = children(process.pid)
            assert len(servers) == 3
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in errors
    assert not any(os.path.exists(f"/proc/{pid}") for pid in servers)


def children(parent: int) -> list[int]:
    """Return the process ids of a process's children."""
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        return [int(pid) for pid in file.read().split()]


@pytest.mark.slow
def test_server_ends_with_its_parent() -> None:
    """A server whose parent has gone ends by itself, also while it starts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast.cli.demo.server", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.close()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(LIMIT) == 0


def test_server_that_cannot_start(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a server does not start, a sentence says so and the status is 1."""
    monkeypatch.setattr(ServerProcess, "start", start_nothing)
    result = invoke(*FEW)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "did not start" in result.stderr


def start_nothing(server: ServerProcess) -> None:
    """Start a process that ends at once."""
    server._process = subprocess.Popen(
        [sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_status(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, lost: int, options: tuple[str, ...]
) -> None:
    """One lost call among many makes the status 1."""
    monkeypatch.setattr(course, "run", lambda plan, display: report_with(lost))
    result = invoke(*FEW, *options)
    assert result.exit_code == lost
    if options:
        assert json.loads(result.stdout)["errors"] == lost
    else:
        assert ("No call was lost." in result.stdout) is (not lost)
        assert ("1 call was lost." in result.stdout) is bool(lost)


def report_with(lost: int) -> Report:
    """Return the report on twenty calls."""
    tally = Tally()
    for number in range(20):
        if number < lost:
            tally.lost(Phase.DURING, 0.5, 3, "ConnectError: \x1b[2J")
        else:
            tally.answered(Phase(number % 3), number / 1000, 1, 8001 + number % 2)
    hosts = {8001: "127.0.0.1:8001", 8002: "127.0.0.1:8002"}
    phases = [figures(phase.name.lower(), [tally], hosts, [phase]) for phase in Phase]
    total = figures("all", [tally], hosts)
    return Report(
        seconds=1.0,
        kills=1,
        killed="127.0.0.1:8002",
        came_back=not lost,
        total=total,
        phases=tuple(phases),
        clients=(total,),
        losses=tuple(tally.losses),
        recovery=0.5,
    )


RIGHT_JOBS = Dispatched(3, 100, 100, 3, 3, 100, 2, 250, True, "missing_result", True, True, 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"done": 99, "kept": 99},
        {"kept": 99},
        {"at_once": 4},
        {"packets": 0},
        {"once": False},
        {"ended": "timeout"},
        {"cancelled": False},
        {"gone": False},
    ],
)
def test_wrong_jobs(changes: dict[str, Any]) -> None:
    """Whatever is not as promised of the jobs makes the demonstration fail, in red."""
    for jobs in (RIGHT_JOBS, replace(RIGHT_JOBS, **changes)):
        report = replace(report_with(0), dispatched=jobs)
        assert report.ok is jobs.ok is (jobs is RIGHT_JOBS)
        console = Console(file=StringIO(), width=100, force_terminal=True)
        console.print(report_tables(report))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "100 jobs in a queue" in text
        assert ("\x1b[31m" in text) is not jobs.ok


RIGHT_FILES = Stored(5, 2, 219, 1 << 30, 19, 5.0, 4.0, 219, 12, 12, True)


@pytest.mark.parametrize(
    "changes", [{"same": 218}, {"lost": 0, "repaired": 0}, {"repaired": 11}, {"whole": False}]
)
def test_wrong_files(changes: dict[str, Any]) -> None:
    """Whatever is not as promised of the files makes the demonstration fail, in red."""
    for stored in (RIGHT_FILES, replace(RIGHT_FILES, **changes)):
        report = replace(report_with(0), stored=stored)
        assert report.ok is stored.ok is (stored is RIGHT_FILES)
        console = Console(file=StringIO(), width=100, force_terminal=True)
        console.print(report_tables(report))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "219 files of 1,024 MiB in 19 blocks" in text
        assert ("\x1b[31m" in text) is not stored.ok
        assert ("but something else" in text) is not stored.ok


def test_most_at_once() -> None:
    """Spans that only touch are not at one time."""
    assert most_at_once([]) == 0
    assert most_at_once([(0, 1), (1, 2), (2, 3)]) == 1
    assert most_at_once([(0, 2), (1, 3), (1.5, 4), (3, 5)]) == 3


def test_figures() -> None:
    """Counts add up, and quantiles are those of the nearest rank."""
    tally, other = Tally(), Tally()
    for number in range(1, 100):
        tally.answered(Phase.BEFORE, number / 1000, 1, 1)
    other.lost(Phase.BEFORE, 0.1, 3, "why")
    other.lost(Phase.AFTER, 9.0, 0, "why")
    got = figures("x", [tally, other], {1: "a", 2: "b"}, [Phase.BEFORE])
    assert (got.calls, got.attempts, got.retries, got.errors) == (100, 102, 2, 1)
    assert (got.p50, got.p99, got.max) == (50, 99, 100)
    assert got.servers == {"a": 99, "b": 0}
    assert figures("none", [], {}).max == 0
    assert (other.calls, other.errors, other.retries, other.losses) == (2, 2, 2, ["why"])


def test_phases() -> None:
    """A call that overlaps the outage belongs to it."""
    before, during, after = Phase
    assert Phase.of(before, before) is before
    assert Phase.of(after, after) is after
    assert {Phase.of(before, during), Phase.of(during, after), Phase.of(before, after)} == {during}


def test_pace() -> None:
    """Calls are numbered, and are due at even distances; without a rate all are due at once."""
    now = 100.0
    pace = Pace(4, 10, clock=lambda: now)
    assert [pace.next() for _ in range(3)] == [(10, 0.0), (11, 0.25), (12, 0.5)]
    now = 101.0
    assert pace.next() == (13, -0.25)
    assert Pace(0, 1, clock=lambda: now).next() == (1, 0.0)


RIGHT = {"number": 8, "written": 8, "port": 1, "pid": 2}


class FakeCaller:
    """Makes one call, of a known outcome, and has the traffic end."""

    name = "fake"

    def __init__(self, traffic: Traffic, outcome: Answer | Exception) -> None:
        self.traffic = traffic
        self.outcome = outcome
        self.closed = False

    def call(self, number: int) -> Answer:
        self.traffic.end()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        self.closed = True


class AsyncFakeCaller:
    """The same, asynchronous."""

    name = "fake"

    def __init__(self, caller: FakeCaller) -> None:
        self.caller = caller

    async def call(self, number: int) -> Answer:
        return self.caller.call(number)

    async def close(self) -> None:
        self.caller.close()


def call_once(outcome: Answer | Exception, by_task: bool) -> Tally:
    """Make call number 8 from a thread or a task; return its tally."""
    traffic = Traffic()
    caller = FakeCaller(traffic, outcome)
    if by_task:
        traffic.by_tasks([(AsyncFakeCaller(caller), 1, Pace(0, 8))])
    else:
        traffic.by_threads(caller, 1, Pace(0, 8))
    traffic.join()
    assert caller.closed
    (tally,) = traffic.tallies
    return tally


@pytest.mark.parametrize("by_task", [False, True])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, RIGHT),
        (200, {**RIGHT, "number": 9}),
        (200, {**RIGHT, "written": None}),
        (200, b"nonsense"),
    ],
)
def test_wrong_answers_are_lost_calls(status: int, body: object, by_task: bool) -> None:
    """An answer to something else counts as an error, though the client was content."""
    tally = call_once(Answer(status, body, 2), by_task)
    assert (tally.calls, tally.errors, tally.retries) == (1, 1, 1)
    assert tally.losses[0].startswith("WrongAnswer: call 8 ")


@pytest.mark.parametrize("by_task", [False, True])
def test_outcomes(by_task: bool) -> None:
    """A right answer counts for the server that gave it; whatever is raised is a lost call."""
    right = call_once(Answer(200, RIGHT, 1), by_task)
    assert (right.calls, right.errors, right.answers(1), right.losses) == (1, 0, 1, [])
    wrong = call_once(RuntimeError("out of order"), by_task)
    assert (wrong.calls, wrong.errors) == (1, 1)
    assert wrong.losses == ["RuntimeError: out of order"]


def test_plain_progress() -> None:
    """Without a terminal there is a line for each event, and one for the progress at times."""
    console = Console(file=StringIO(), width=100)
    server = ServerView("127.0.0.1:1", "up", 1)
    with display_on(console) as display:
        for seconds in (0.0, 1.9, 2.1, 2.2, 4.0, 4.2):
            view = View(seconds, "before the kill", 1200, 20000, 3, 0, (server,))
            display.update(view)
        display.event(5.25, "it was killed")
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "  2.1 s  1,200 of 20,000 calls, 3 retries, 0 errors",
        "  4.2 s  1,200 of 20,000 calls, 3 retries, 0 errors",
        "  5.2 s  it was killed",
    ]

"""Exchanges with the daemon, line by line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.agent.conftest import StartDaemon
from tests.jobs.agent.daemons import LIMIT, Daemon, error_of, request, wait_for_exit

ACKNOWLEDGED = b'{"harp":1,"stream_result":false}\n'
STREAMING = b'{"harp":1,"stream_result":true}\n'


def test_a_result(daemon: Daemon) -> None:
    """A procedure's call is acknowledged, and ends with its result."""
    assert daemon.exchange(
        b'{"harp": 1, "procedure": "echo", "arguments": ["value"],'
        b' "auth": {"user": "ann", "password": "s3cret"}}\n'
    ) == [ACKNOWLEDGED, b'{"result":"value"}\n']


def test_a_stream(daemon: Daemon) -> None:
    """A streaming procedure's packets come in order, and its Result last."""
    assert daemon.exchange(request("count", [3])) == [
        STREAMING,
        b'{"stream":0}\n',
        b'{"stream":1}\n',
        b'{"stream":2}\n',
        b'{"result":{"counted":3}}\n',
    ]


def test_a_stream_without_a_result(daemon: Daemon) -> None:
    """Where no Result is yielded, it is null."""
    assert daemon.exchange(request("without_result", [1])) == [
        STREAMING,
        b'{"stream":0}\n',
        b'{"result":null}\n',
    ]


def test_a_stream_of_anything_iterable(daemon: Daemon) -> None:
    """A streaming procedure may return what can be iterated over."""
    assert daemon.call("listed")[1:] == [{"stream": "a"}, {"stream": "b"}, {"result": None}]


def test_packets_come_as_they_are_yielded(daemon: Daemon) -> None:
    """A packet does not wait for the next one."""
    with daemon.connect() as wire:
        wire.send(request("waits"))
        assert wire.message() == {"harp": 1, "stream_result": True}
        assert len(wire.message()["stream"]) == 2


def test_what_follows_a_result_is_not_run(daemon: Daemon, tmp_path: Path) -> None:
    """A Result ends the stream, and the generator is closed."""
    closed = tmp_path / "closed"
    assert daemon.call("after_result", [str(closed)])[1:] == [{"result": "the end"}]
    assert closed.exists()


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ([1], [1, "two", [], None, {}]),
        ([1, 2, 3, 4], [1, 2, [3, 4], None, {}]),
        ({"first": 1, "third": 3, "x": 4}, [1, "two", [], 3, {"x": 4}]),
    ],
)
def test_arguments(daemon: Daemon, arguments: Any, result: Any) -> None:
    """An array gives positional arguments, an object named ones."""
    assert daemon.result("both", arguments) == result


@pytest.mark.parametrize(
    ("procedure", "arguments"),
    [
        ("echo", []),
        ("echo", [1, 2]),
        ("echo", {"other": 1}),
        ("both", {}),
        ("marked", []),
        ("count", []),
        ("built_in", [1, 2]),
    ],
)
def test_arguments_that_do_not_fit(daemon: Daemon, procedure: str, arguments: Any) -> None:
    """Arguments that do not fit get an error instead of the acknowledgement."""
    messages = daemon.call(procedure, arguments)
    assert len(messages) == 1
    assert error_of(messages) == "invalid_argument_list"


def test_objects_of_the_classes(daemon: Daemon) -> None:
    """Objects of the classes are exposed, too."""
    assert daemon.result("marked", [1]) == 2
    assert daemon.result("built_in", ["four"]) == 4
    assert daemon.call("marked_stream", [2])[1:] == [
        {"stream": 0},
        {"stream": 1},
        {"result": None},
    ]


@pytest.mark.parametrize("name", ["hidden", "os", "Procedure", "__name__", "absent", "é"])
def test_nothing_else_can_be_called(daemon: Daemon, name: str) -> None:
    """What is not marked does not exist."""
    messages = daemon.call(name)
    assert len(messages) == 1
    assert error_of(messages) == "no_such_procedure"


def test_exception(daemon: Daemon) -> None:
    """An exception is told with its class's name, its text, and where the class is from."""
    assert daemon.call("fails", ["because é"]) == [
        {"harp": 1, "stream_result": False},
        {
            "exception": {
                "type": "Refusal",
                "message": "because é",
                "data": {"class": "Refusal", "module": "harpd_procedures"},
            }
        },
    ]
    daemon.logged("Refusal: because é")


def test_exception_of_any_length(daemon: Daemon) -> None:
    """A text that nobody would read is cut."""
    message = daemon.call("fails_at_length")[1]["exception"]["message"]
    assert message == "é" * 65536 + f"… ({20 << 20} characters)"


def test_exception_in_a_stream(daemon: Daemon) -> None:
    """An exception may end a stream."""
    messages = daemon.call("fails_later")
    assert messages[1] == {"stream": 1}
    assert messages[2]["exception"]["type"] == "ValueError"


def test_exit_in_a_procedure(daemon: Daemon) -> None:
    """A procedure that exits has raised."""
    assert daemon.call("exits")[1]["exception"]["message"] == "no more"


@pytest.mark.parametrize("kind", ["nan", "set", "bytes", "date", "generator"])
def test_values_that_json_cannot_carry(daemon: Daemon, kind: str) -> None:
    """A result that is no JSON is an invalid_message."""
    assert error_of(daemon.call("unspeakable", [kind])) == "invalid_message"


def test_packets_that_json_cannot_carry(daemon: Daemon, tmp_path: Path) -> None:
    """A packet that is no JSON ends the stream, and the generator is closed."""
    closed = tmp_path / "closed"
    messages = daemon.call("unspeakable_later", [str(closed)])
    assert messages[1] == {"stream": 1}
    assert len(messages) == 3
    assert error_of(messages) == "invalid_message"
    assert closed.exists()


def test_a_result_that_is_too_large(daemon: Daemon) -> None:
    """A message beyond the limit is refused where it is made."""
    assert error_of(daemon.call("too_large")) == "invalid_message"


@pytest.mark.parametrize(
    "value",
    [
        None,
        10**30,
        -(2**63),
        1.5,
        "\x00\x7f\u2028 é ℵ 😀 \ud800",
        {"é": [{}, [], ""]},
        "\n\r",
        [True, False],
        "x" * 65536,
        list(range(50000)),
    ],
    ids=lambda value: str(value)[:10].encode("unicode_escape").decode(),
)
def test_values_arrive_as_they_were(daemon: Daemon, value: Any) -> None:
    """Every value of JSON goes there and back."""
    assert daemon.result("echo", [value]) == value


def test_lines_of_64_kib(daemon: Daemon) -> None:
    """Requests and packets may be as long as the limits say."""
    messages = daemon.call("large", [20, 1 << 16])
    assert messages[1:-1] == [{"stream": "x" * (1 << 16)}] * 20


def test_each_call_has_its_process_and_group(daemon: Daemon) -> None:
    """No process answers two calls, and each leads its own group."""
    processes = [daemon.result("process") for _ in range(5)]
    assert len({pid for pid, _, _ in processes}) == 5
    assert {parent for _, parent, _ in processes} == {daemon.parent}
    assert all(group == pid for pid, _, group in processes)


def test_a_call_inherits_nothing(daemon: Daemon) -> None:
    """A call has its three standard files, its connection, and the listing's own descriptor."""
    assert len(daemon.result("descriptors")) == 5
    assert daemon.result("environment", ["LD_BIND_NOW"]) == os.environ.get("LD_BIND_NOW")


def test_what_has_ended_well_may_leave_something(daemon: Daemon) -> None:
    """What a procedure has started goes on when the call ended by itself."""
    pid = daemon.result("leaves")
    daemon.result("nothing")
    os.kill(pid, 0)
    os.kill(pid, 9)
    wait_for_exit(pid)


def test_output_goes_to_the_log(daemon: Daemon) -> None:
    """What is printed stands in the log, line by line, and not in the answer."""
    assert daemon.call("prints") == [
        {"harp": 1, "stream_result": False},
        {"result": "returned"},
    ]
    for text in ("to stdout", "to stderr", "from a program", "without an end"):
        daemon.logged(rf"prints\[\d+\]: {text}$")


def test_output_cannot_forge_lines(daemon: Daemon) -> None:
    """Control characters are shown, not sent to the terminal; long lines are cut."""
    daemon.result("prints_tricks")
    daemon.logged(r"prints_tricks\[\d+\]: one\\x1b\[31m\\rtwo$")
    daemon.logged(r"prints_tricks\[\d+\]: three\\xff$")
    daemon.logged(r"prints_tricks\[\d+\]: l{3616}$")


def test_what_the_file_prints(start_daemon: StartDaemon) -> None:
    """What the file of procedures prints is in the log once; that it starts threads, too."""
    daemon = start_daemon(
        "from holdfast.jobs.procedures import procedure\n"
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "print('loaded', end='')\n"
        "@procedure\n"
        "def says(): print('called')\n"
    )
    for _ in range(3):
        daemon.result("says")
    daemon.logged("has started threads")
    assert sum("loaded" in line for line in daemon.log) == 1


def test_standard_input_is_empty(start_daemon: StartDaemon) -> None:
    """A procedure that reads gets the end of the file."""
    daemon = start_daemon(
        "from holdfast.jobs.procedures import procedure\n"
        "import sys\n"
        "@procedure\n"
        "def read(): return sys.stdin.read()\n"
    )
    assert daemon.result("read") == ""


def test_bytes_after_the_request_are_ignored(daemon: Daemon) -> None:
    """There is one call a connection, whatever else is sent."""
    assert daemon.exchange(request("echo", [1]) + request("echo", [2]) + b"\xff" * 100000) == [
        ACKNOWLEDGED,
        b'{"result":1}\n',
    ]


def test_a_request_in_pieces(daemon: Daemon) -> None:
    """A request may come byte by byte."""
    with daemon.connect() as wire:
        for byte in request("nothing"):
            wire.send(bytes([byte]))
        assert wire.lines() == [ACKNOWLEDGED, b'{"result":null}\n']


def test_a_slow_reader_stops_the_process(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """What nobody reads is not produced, and takes no memory."""
    made = tmp_path / "made"
    daemon = start_daemon(
        "from holdfast.jobs.procedures import streaming_procedure\n"
        "import os\n"
        "@streaming_procedure\n"
        "def endless(path):\n"
        "    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "    for number in range(20_000):\n"
        "        os.write(file, b'x')\n"
        "        yield 'y' * 1000\n"
    )
    before = memory(daemon.process.pid)
    with daemon.connect(buffer=4096) as wire:
        wire.send(request("endless", [str(made)]))
        assert wire.message() == {"harp": 1, "stream_result": True}
        size = settled(made)
        assert 100 < size < 15_000
        assert memory(daemon.process.pid) - before < 4 << 20
        # Then it goes on.
        lines = wire.lines()
        assert len(lines) == 20_001
        assert lines[-1] == b'{"result":null}\n'


def memory(pid: int) -> int:
    """Return the bytes that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def settled(path: Path) -> int:
    """Return the size of a file once it has not grown for a while."""
    from threading import Event
    from time import monotonic

    pause = Event()
    size = -1
    end = monotonic() + LIMIT
    while monotonic() < end:
        pause.wait(0.5)
        now = path.stat().st_size if path.exists() else 0
        if now == size:
            return size
        size = now
    raise AssertionError("it grows without end")


def test_many_calls_at_once(daemon: Daemon) -> None:
    """Calls do not mix."""
    wires = [daemon.connect() for _ in range(30)]
    for number, wire in enumerate(wires):
        wire.send(request("echo", [number]))
    for number, wire in enumerate(wires):
        assert json.loads(wire.lines()[-1]) == {"result": number}
        wire.close()

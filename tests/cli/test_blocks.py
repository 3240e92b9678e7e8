"""Files as blocks from the command line: services in threads, and as processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from holdfast.blocks.files import Progress
from holdfast.console import transfers
from holdfast.console.blocks import path_text, size_text
from holdfast.console.pieces import count
from tests.blocks.client.clients import locator
from tests.cli.conftest import COMMAND, LIMIT, Invoke, OnTerminal

pytest.importorskip("uvicorn", reason="the service needs it")

from holdfast.blocks.server.memory import MemoryVolume
from tests.blocks.server.services import QUIET, SYSTEM, Running, md5, running

TREE = {"a": b"one", "sub/b c\n": b"two" * 1000, "empty": b""}

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def services() -> Iterator[list[Running]]:
    """Serve three services."""
    with ExitStack() as stack:
        yield [stack.enter_context(running([MemoryVolume()])) for _ in range(3)]


@pytest.fixture
def env(services: list[Running], tmp_path: Path) -> dict[str, str | None]:
    """Give the environment that names the services, which have no blocks yet."""
    for one in services:
        for volume in one.service.mounts:
            for block in list(volume.index()):
                volume.trash(block.md5sum, 1 << 62, 0)
    return {
        "ARVADOS_KEEP_SERVICES": " ".join(one.url for one in services),
        "ARVADOS_API_TOKEN": SYSTEM,
        "ARVADOS_KEEP_PROXY": None,
        "KEEP_LOCAL_STORE": None,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }


@pytest.fixture
def run(invoke: Invoke, env: dict[str, str | None]) -> Run:
    """Run a command: `run("put", …)` gives what click knows of it."""
    return lambda *arguments: invoke(*map(str, arguments), env=env)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Have a folder of files."""
    root = tmp_path / "data"
    for path, content in TREE.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


@pytest.fixture
def stored(run: Run, data: Path) -> str:
    """Store the folder, and give the locator that was printed."""
    done = run("put", data)
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1)
    return str(done.stdout.strip())


def copies(services: list[Running], content: bytes) -> list[MemoryVolume]:
    """Return the volumes that have a block."""
    volumes = [volume for one in services for volume in one.service.mounts]
    return [
        one for one in volumes if isinstance(one, MemoryVolume) and any(one.index(md5(content)))
    ]


def test_put_and_get(run: Run, services: list[Running], data: Path, tmp_path: Path) -> None:
    """`put` prints the locator that `get` restores from; each tells on the side what it did."""
    done = run("put", data, "--copies", "3")
    assert done.exit_code == 0
    assert re.fullmatch(r"[0-9a-f]{32}\+\d+\n", done.stdout)
    assert re.fullmatch(
        r"3 files, 2\.9 KiB, in 2 blocks; sent 2 blocks \(\d\.\d KiB\) in \d+\.\d s\n",
        done.stderr,
    )
    assert len(copies(services, b"onetwo" + b"two" * 999)) == 3
    back = run("get", done.stdout.strip(), tmp_path / "back")
    assert (back.exit_code, back.stdout) == (0, "")
    assert "3 files, 2.9 KiB; fetched 1 block (2.9 KiB) in " in back.stderr
    for path, content in TREE.items():
        assert (tmp_path / "back" / "data" / path).read_bytes() == content
    said = json.loads(run("put", data, "--copies", "3", "--json").stdout)
    assert said == {
        "locator": done.stdout.strip(),
        "files": 3,
        "size": 3003,
        "blocks": 2,
        "sent_blocks": 0,
        "sent": 0,
        "skipped": [],
    }
    said = json.loads(run("get", said["locator"], tmp_path / "back", "--json").stdout)
    assert said == {"files": 3, "size": 3003, "fetched_blocks": 0, "fetched": 0}
    (tmp_path / "back" / "data" / "a").write_bytes(b"two")
    done = run("get", done.stdout.strip(), tmp_path / "back")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "another file is there" in done.stderr
    assert "--overwrite" in done.stderr


def test_what_is_left_out(run: Run, data: Path) -> None:
    """What cannot be stored fails the command; with --skip it is named."""
    (data / "nowhere").symlink_to("nothing")
    done = run("put", data)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"{data}/nowhere: a link to nothing" in done.stderr
    assert "--skip" in done.stderr
    done = run("put", data, "--skip")
    assert done.exit_code == 0
    assert f"holdfast: left out: {data}/nowhere: a link to nothing" in done.stderr
    done = run("put", data / "a", data / "nowhere", "--skip")
    assert done.exit_code == 0
    assert "1 file, " in done.stderr
    (data / "b\nc").symlink_to("nothing")
    assert "b\\nc: a link to nothing" in run("put", data / "b\nc").stderr
    (data / "b\nc").unlink()
    skipped = json.loads(run("put", data, "--no-follow-links", "--json").stdout)["skipped"]
    assert skipped == [{"path": f"{data}/nowhere", "why": "a link"}]


def test_ls(run: Run, stored: str) -> None:
    """`ls` prints sizes and paths, each in one line, and as JSON as they are."""
    assert run("ls", stored).stdout == (
        "    3  data/a\n    0  data/empty\n3,000  data/sub/b c\\x0a\n"
    )
    lines = [json.loads(line) for line in run("ls", stored, "--json").stdout.splitlines()]
    assert lines[-1] == {"path": "data/sub/b c\n", "size": 3000}


def test_verify(run: Run, services: list[Running], stored: str) -> None:
    """`verify` tells what is missing or corrupt, repairs it, and exits accordingly."""
    done = run("verify", stored)
    assert done.exit_code == 0
    assert "Of each block there are 2 good copies." in done.stdout
    content = b"onetwo" + b"two" * 999
    first, second = copies(services, content)
    first.trash(md5(content), 1 << 62, 0)
    done = run("verify", stored, "--copies", "3")
    assert done.exit_code == 1
    assert f"{locator(content)}: 1 good of 3 copies" in done.stdout
    second.put(md5(content), b"#" * len(content))
    done = run("verify", stored, "--copies", "2", "--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert (said["ok"], said["lost"]) == (False, ["data/a", "data/sub/b c\n"])
    assert [block["good"] for block in said["bad"]] == [0]
    done = run("verify", stored, "--repair")
    assert done.exit_code == 1
    assert "no good copy of a part of data/sub/b c\\x0a" in done.stdout
    assert "corrupt on http://" in done.stdout
    for one in copies(services, content):
        one.put(md5(content), content)
    done = run("verify", stored, "--repair")
    assert done.exit_code == 0
    assert run("verify", stored).exit_code == 0


def test_status(run: Run, services: list[Running]) -> None:
    """`blocks status` has a line for each service, and exits with 1 when one is down."""
    done = run("blocks", "status")
    assert done.exit_code == 0
    for one in services:
        assert re.search(rf"{one.url}/ +up +read, write +\d", done.stdout)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    arguments = ["--service", url, "--service", services[0].url]
    done = run("blocks", "status", *arguments)
    assert done.exit_code == 1
    assert "connection refused" in done.stdout
    done = run("blocks", "status", "--json", *arguments)
    down, up = [json.loads(line) for line in done.stdout.splitlines()]
    assert down["error"]
    assert (up["error"], up["read_only"], len(up["mounts"])) == (None, False, 1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("ls", "nonsense"), "not a locator"),
        (("verify", "nonsense"), "not a locator"),
        (("get", "nonsense"), "not a locator"),
        (("put",), "Missing argument"),
        (("put", "/nothing/there"), "does not exist"),
        (("put", ".", "--copies", "0"), "--copies"),
        (("ls", f"{'0' * 32}+1", "--service", "ftp://x"), "http or https"),
    ],
)
def test_wrong(run: Run, arguments: tuple[str, ...], text: str) -> None:
    """A wrong command line exits with 2."""
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert text in done.stderr


def test_no_services(invoke: Invoke, env: dict[str, str | None]) -> None:
    """Without services the command says how to name them."""
    name = f"{'0' * 32}+1"
    done = invoke("ls", name, env={**env, "ARVADOS_KEEP_SERVICES": None})
    assert done.exit_code == 2
    assert "--service URL or ARVADOS_KEEP_SERVICES" in done.stderr
    done = invoke("ls", name, env={**env, "ARVADOS_KEEP_SERVICES": "ftp://x"})
    assert done.exit_code == 2
    assert "ARVADOS_KEEP_SERVICES: " in done.stderr
    done = invoke("ls", name, env={**env, "ARVADOS_API_TOKEN": "a\nb"})
    assert done.exit_code == 2
    assert "ARVADOS_API_TOKEN: the API token has characters" in done.stderr
    done = invoke("ls", name, env=env)
    assert done.exit_code == 1
    assert f"{name} not found" in done.stderr


def test_no_token(invoke: Invoke, env: dict[str, str | None], data: Path) -> None:
    """Where services want a token and none was given, it is told where one is given."""
    with running([MemoryVolume()], replace(QUIET, tokens=("some",))) as one:
        env = {**env, "ARVADOS_KEEP_SERVICES": one.url, "ARVADOS_API_TOKEN": None}
        done = invoke("put", str(data), "--copies", "1", env=env)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "ARVADOS_API_TOKEN" in done.stderr
        said = invoke("put", str(data), env={**env, "ARVADOS_API_TOKEN": "other"}).stderr
        assert "the token is not known" in said
        assert "ARVADOS_API_TOKEN" not in said


def test_local_store(invoke: Invoke, env: dict[str, str | None], data: Path) -> None:
    """A folder can take the services' place, but where there are none nothing is verified."""
    env = {**env, "KEEP_LOCAL_STORE": str(data.parent)}
    done = invoke("put", str(data), env=env)
    assert done.exit_code == 0
    assert "data/a" in invoke("ls", done.stdout.strip(), env=env).stdout
    assert invoke("verify", done.stdout.strip(), env=env).exit_code == 2


def test_output_that_cannot_be_written(stored: str, env: dict[str, str | None]) -> None:
    """Output without room for it is an error; output that nobody reads is not worth a word."""
    environ = {name: value for name, value in {**os.environ, **env}.items() if value is not None}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "ls", stored], stdout=full, stderr=subprocess.PIPE, env=environ
        )
    assert (done.returncode, done.stderr) == (1, b"holdfast: [Errno 28] No space left on device\n")
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*COMMAND, "ls", stored], stdout=theirs, stderr=subprocess.PIPE, env=environ
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"")


def test_interrupted(data: Path, env: dict[str, str | None]) -> None:
    """Ctrl-C ends it at once with 130, and says how to go on."""
    environ = {name: value for name, value in {**os.environ, **env}.items() if value is not None}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [*COMMAND, "put", str(data), "--service", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )
        silent.settimeout(LIMIT)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (130, "")
    assert "interrupted; what is stored is not sent again when the same command is given" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_on_a_terminal(
    on_terminal: OnTerminal,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str | None],
    data: Path,
) -> None:
    """On a terminal there is a bar."""
    for name, value in env.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    status, text = on_terminal("put", str(data))
    assert status == 0
    assert "━" in text
    assert "3 files" in text


def test_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere there are lines now and then, with rate and time left."""
    now = 0.0
    monkeypatch.setattr(transfers, "monotonic", lambda: now)
    console = Console(record=True, width=200, force_terminal=False)
    with transfers.transfer_on(console, "put") as shown:
        total = 400 << 20
        for seconds, done in [(0.0, 0), (1.0, 10 << 20), (10.0, 100 << 20), (12.0, 120 << 20)]:
            now = seconds
            shown.update(Progress(done, total, 0))
    assert console.export_text() == "put: 100.0 MiB of 400.0 MiB, 10.0 MiB/s, 0:30 left\n"
    # What was there already is done, but not fast.
    with transfers.transfer_on(console, "get") as shown:
        for seconds, done in [(20.0, 0), (26.0, 300 << 20), (36.0, 301 << 20), (37.0, total)]:
            now = seconds
            shown.update(Progress(done, total, min(done, 300 << 20)))
    assert console.export_text() == (
        "get: 300.0 MiB of 400.0 MiB\nget: 301.0 MiB of 400.0 MiB, 64.0 KiB/s, 26:24 left\n"
    )


def test_texts() -> None:
    """Sizes, counts and paths are told as people read them."""
    assert [size_text(size) for size in (0, 1023, 1024, 1 << 30, 1 << 51)] == [
        *("0 B", "1023 B", "1.0 KiB", "1.0 GiB", "2,048.0 TiB"),
    ]
    assert (count(1, "copy"), count(2, "copy"), count(1000, "file")) == (
        *("1 copy", "2 copies", "1,000 files"),
    )
    assert path_text("a\x1b\n\udce9") == "a\\x1b\\x0a\\xe9"

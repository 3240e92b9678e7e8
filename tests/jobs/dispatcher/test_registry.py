"""The registry of hosts and its script."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.jobs.dispatcher import registry as registry_module
from holdfast.jobs.dispatcher.registry import Registry, RegistryError, parse_host
from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit, host_line

MakeScript = Callable[[str], tuple[str, ...]]


@pytest.fixture
def script(tmp_path: Path) -> MakeScript:
    """Make a shell script."""

    def make(text: str) -> tuple[str, ...]:
        path = tmp_path / "script"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return (str(path),)

    return make


def printing(*lines: str) -> str:
    """Return a script that prints lines."""
    return "".join(f"cat <<'END'\n{line.rstrip()}\nEND\n" for line in lines)


def names(registry: Registry) -> list[str]:
    """Return the names of the hosts."""
    return [host.name for host in registry.hosts()]


def test_refresh(script: MakeScript, tmp_path: Path) -> None:
    """The script's hosts are taken and kept, in a file for the owner's eyes only."""
    path = tmp_path / "hosts"
    command = script(printing(host_line("b", 4306, "b.example"), host_line("a", 1, "::1")))
    registry = Registry(command, path, 10)
    asyncio.run(registry.refresh())
    assert names(registry) == ["a", "b"]
    host = registry.find("b")
    assert host is not None
    assert (host.address, host.port, host.user, host.password) == (
        "b.example",
        4306,
        "dispatcher",
        "hush",
    )
    assert registry.find("c") is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    restored = Registry((), path, 10)
    restored.restore()
    assert restored.hosts() == registry.hosts()
    assert "hush" not in repr(host)
    assert host.to_listing() == {"hostname": "b", "address": "b.example", "port": 4306}
    assert [one.name for one in tmp_path.iterdir() if "hosts" in one.name] == ["hosts"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo rubbish\nexit 0\n", "no host"),
        ("exit 3\n", "exit status 3"),
        (printing(host_line("new", 1)) + "exit 1\n", "exit status 1"),
        ("kill -9 $$\n", "exit status -9"),
        ("sleep 100 & sleep 100\n", "longer than 0.2 s"),
        (printing(host_line("new", 1)) + "exec sleep 100\n", "longer than 0.2 s"),
    ],
)
def test_failure(script: MakeScript, tmp_path: Path, text: str, message: str) -> None:
    """A script that fails or hangs leaves the registry and its file as they were."""
    path = tmp_path / "hosts"
    path.write_text(host_line("old", 1))
    registry = Registry(script(text), path, 0.2)
    registry.restore()
    with pytest.raises(RegistryError, match=message):
        asyncio.run(registry.refresh())
    assert names(registry) == ["old"]
    assert path.read_text() == host_line("old", 1)


def test_no_script(tmp_path: Path) -> None:
    """A script that is not there is a failure like others."""
    registry = Registry((str(tmp_path / "none"),), None, 1)
    with pytest.raises(RegistryError, match="cannot run"):
        asyncio.run(registry.refresh())


def test_endless_output(script: MakeScript, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that never stops printing is ended."""
    monkeypatch.setattr("holdfast.jobs.dispatcher.registry.OUTPUT_LIMIT", 100_000)
    registry = Registry(script("exec yes\n"), None, 60)
    with pytest.raises(RegistryError, match="more than"):
        asyncio.run(registry.refresh())


def test_rubbish_between(script: MakeScript) -> None:
    """Lines that are no hosts are skipped; of two of one name the last counts."""
    rubbish = ["x", "[]", "1", '{"hostname": "no"}', json.dumps({"hostname": "x", "address": 1})]
    lines = [host_line("a", 1), *rubbish, host_line("b", 2), host_line("a", 3)]
    registry = Registry(script(printing(*lines)), None, 10)
    asyncio.run(registry.refresh())
    assert [(host.name, host.port) for host in registry.hosts()] == [("a", 3), ("b", 2)]


def test_never_twice_at_once(script: MakeScript, tmp_path: Path) -> None:
    """Whoever asks for a refresh during another gets that one's result."""
    count = tmp_path / "count"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = f"echo run >> {count}\nread x < {fifo}\n" + printing(host_line("a", 1))
    registry = Registry(script(text), None, 30)

    async def test() -> None:
        first = [asyncio.create_task(registry.refresh()) for _ in range(3)]
        with await asyncio.to_thread(fifo.open, "w") as gate:
            second = asyncio.create_task(registry.refresh())
            second.cancel()
            gate.write("go\n")
        await asyncio.gather(*first)

    asyncio.run(test())
    assert count.read_text() == "run\n"
    assert names(registry) == ["a"]


def test_file_cannot_be_written(script: MakeScript, tmp_path: Path) -> None:
    """A registry that cannot be kept is used all the same."""
    registry = Registry(script(printing(host_line("a", 1))), tmp_path / "none" / "hosts", 10)
    asyncio.run(registry.refresh())
    assert names(registry) == ["a"]


@given(st.binary())
def test_any_line(line: bytes) -> None:
    """Whatever a line holds, it is a host or it is not."""
    assert parse_host(line) is None


@pytest.mark.parametrize("port", [0, -1, 65536, 1.0, "4306", True, None])
def test_ports(port: object) -> None:
    """A port must be one."""
    line = json.dumps({**json.loads(host_line("a", 1)), "port": port})
    assert parse_host(line.encode()) is None


def test_read_beside_the_loop(script: MakeScript, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a script prints, nobody waits until it is read."""
    turned = threading.Event()
    parse = registry_module._parse
    registry = Registry(script(printing(host_line("a", 1))), None, 10)

    async def test() -> None:
        loop = asyncio.get_running_loop()

        def slowly(output: bytes) -> Any:
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(60)
            return parse(output)

        monkeypatch.setattr(registry_module, "_parse", slowly)
        await registry.refresh()

    asyncio.run(test())
    assert names(registry) == ["a"]


def test_not_ours_to_end(script: MakeScript, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script may leave something behind that the dispatcher may not end."""

    def refuse(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refuse)
    registry = Registry(script(printing(host_line("a", 1))), None, 10)
    asyncio.run(registry.refresh())
    assert names(registry) == ["a"]


def test_refreshed_by_the_service(
    dispatch: Dispatch, script: MakeScript, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dispatcher refreshes at its start, and again when it is time, whatever went wrong."""
    run = Registry._run
    failures = [ZeroDivisionError()]

    async def sometimes(registry: Registry) -> bytes:
        if failures:
            raise failures.pop()
        return await run(registry)

    monkeypatch.setattr(Registry, "_run", sometimes)
    runs = tmp_path / "runs"
    text = f"echo run >> {runs}\n" + printing(host_line("fresh", 1))

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        while not (await peer.ask(hosts="fresh"))["hosts"]:
            pass
        assert runs.read_text() == "run\n"

    dispatch(test, host_db_script=script(text), host_db_refresh=1)

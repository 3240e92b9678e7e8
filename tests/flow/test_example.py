"""The example that watches streams and polls a resource."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.cli.demo.servers import started

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "watch.py"
EVENTS = 300


@pytest.mark.slow
def test_watch() -> None:
    """A server is killed and started again: each event comes once, and in order."""
    with started(2) as servers:
        urls = [f"http://{server.host}/events/{EVENTS}" for server in servers]
        command = [
            sys.executable,
            str(EXAMPLE),
            *urls,
            "--poll",
            f"http://{servers[0].host}/echo/1",
        ]
        with subprocess.Popen(
            [*command, "--events", str(EVENTS)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            seen: dict[str, list[int]] = {url: [] for url in urls}
            polls = []
            for line in process.stdout:
                said = json.loads(line)
                if "stream" not in said:
                    polls.append(said["status"])
                    continue
                seen[said["stream"]].append(int(said["id"]))
                if len(seen[urls[1]]) == 50 and not servers[1].kills:
                    servers[1].kill()
                    servers[1].start()
    assert process.returncode == 0
    assert list(seen.values()) == [list(range(EVENTS))] * 2
    assert set(polls) == {200}

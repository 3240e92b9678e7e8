"""The example: a web application before a dispatcher."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.jobs.site import Site, running
from tests.servers.certificates import Certificates

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

PACKETS = [
    'id: 0\ndata: {"line": "scanning"}',
    'id: 1\ndata: {"line": "done\\n\\n"}',
]
END = 'event: end\ndata: {"status": 0, "target": "nas"}'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Site]:
    """Run a dispatcher and a host."""
    with running(tmp_path_factory.mktemp("site"), certificates) as site:
        yield site


@pytest.fixture(scope="module")
def port(site: Site) -> Iterator[int]:
    """Run the application; give its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        arguments = ["jobs_app:app", "--fd", str(listening.fileno()), "--app-dir", str(EXAMPLES)]
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *arguments, "--log-level", "warning"],
            env={**os.environ, "HOLDFAST_DISPATCHER": f"{site.host}:{site.port}"},
            pass_fds=[listening.fileno()],
        )
        try:
            yield listening.getsockname()[1]
        finally:
            process.terminate()
            process.wait(20)


def asked(port: int, method: str, path: str, **headers: str) -> tuple[int, str]:
    """Ask the application; return the status and the body."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def events(port: int, job: str, **headers: str) -> list[str]:
    """Follow a job to its end; return its events."""
    status, body = asked(port, "GET", f"/jobs/{job}/events", **headers)
    assert status == 200
    return body.removesuffix("\n\n").split("\n\n")


def started(port: int, host: str = "web01") -> str:
    """Start a backup; return its job."""
    status, body = asked(port, "POST", f"/hosts/{host}/backups")
    assert status == 202
    said: dict[str, Any] = json.loads(body)
    return str(said["job"])


def test_events(port: int) -> None:
    """A job is followed to its end, and from the event after the last that was seen."""
    job = started(port)
    assert events(port, job) == [*PACKETS, END]
    assert events(port, job, **{"Last-Event-ID": "0"}) == [PACKETS[1], END]
    assert events(port, job, **{"Last-Event-ID": "1"}) == [END]
    assert events(port, job, **{"Last-Event-ID": "-7"}) == [*PACKETS, END]


def test_failures(port: int) -> None:
    """A job that fails ends so; one that nobody knows is not there."""
    (end,) = events(port, started(port, "nowhere"))
    assert end.startswith('event: end\ndata: "unknown_host: ')
    assert asked(port, "GET", "/jobs/nobody/events") == (404, '{"error":"invalid_jobid"}')


def test_a_dispatcher_that_is_down(site: Site, port: int) -> None:
    """Without a dispatcher nothing is started; when it is back all is there that was."""
    job = started(port)
    assert events(port, job) == [*PACKETS, END]
    site.dispatcher.kill()
    try:
        assert asked(port, "POST", "/hosts/web01/backups")[0] == 503
        assert asked(port, "GET", f"/jobs/{job}/events")[0] == 503
    finally:
        site.dispatcher.start()
    # The application's circuit stays open for a moment.
    until = monotonic() + 20
    while asked(port, "GET", f"/jobs/{job}/events")[0] == 503:
        assert monotonic() < until
    assert events(port, job, **{"Last-Event-ID": "0"}) == [PACKETS[1], END]

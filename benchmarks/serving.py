"""Start the server process and know how to reach it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import server

HOST = "127.0.0.1"
BIG = server.BIG
SMALL_BODY = len(server.SMALL_BODY)
SMALL_ANSWER = len(server.SMALL_ANSWER)
BIG_ANSWER = len(server.BIG_HEAD) + BIG


@dataclass(frozen=True)
class Target:
    """A running server: one process, many ports, every one of which answers alike."""

    ports: tuple[int, ...]
    process: int

    @property
    def address(self) -> tuple[str, int]:
        """Return the host and port that most contestants call."""
        return HOST, self.ports[0]

    @property
    def url(self) -> str:
        """Return the base URL that most contestants call."""
        return f"http://{HOST}:{self.ports[0]}"

    @property
    def hosts(self) -> list[str]:
        """Return every port as ``host:port``."""
        return [f"{HOST}:{port}" for port in self.ports]

    def get(self, path: str) -> bytes:
        """Build the request that the raw contestants send, with the headers clients send."""
        return (
            f"GET {path} HTTP/1.1\r\nHost: {HOST}:{self.ports[0]}\r\nUser-Agent: raw\r\n"
            "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
        ).encode()

    def post(self, path: str, length: int) -> bytes:
        """Build the head of the upload that the raw contestant sends."""
        return (
            f"POST {path} HTTP/1.1\r\nHost: {HOST}:{self.ports[0]}\r\nUser-Agent: raw\r\n"
            f"Content-Length: {length}\r\n\r\n"
        ).encode()


@contextmanager
def serve(ports: int, core: int | None) -> Iterator[Target]:
    """Run a server with `ports` ports on `core` (None: any) until the block ends."""
    command = [
        sys.executable,
        str(Path(server.__file__)),
        str(ports),
        str(-1 if core is None else core),
    ]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the benchmark's server did not start")
            yield Target(tuple(json.loads(line)), process.pid)
        finally:
            process.stdin.close()
            process.wait()

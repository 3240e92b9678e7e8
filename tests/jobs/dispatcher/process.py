"""A dispatcher as a process of its own, to be configured, asked, signalled and killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from holdfast.jobs.dispatcher.command import main

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 60.0


class DispatcherProcess:
    """Run ``harpcallerd start`` in a directory of its own."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.config = directory / "dispatcher.toml"
        self.socket = directory / "control"
        self.log = directory / "log"
        self.state: dict[str, Any] = {}
        #: Further arguments of ``start``.
        self.arguments: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self.configure(**options)

    def configure(self, **options: Any) -> None:
        """Write the configuration."""
        given = {"listen": ["127.0.0.1:0"], "stream_directory": "jobs", "log_file": "log"} | options
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items())
        self.config.write_text(text)

    @property
    def port(self) -> int:
        """The port for clients."""
        return int(self.state["listen"][0].rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "holdfast.jobs.dispatcher.command"),
                *("--socket", str(self.socket), "start", "--config", str(self.config)),
                *self.arguments,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate(timeout=LIMIT)
            raise RuntimeError(f"the dispatcher did not start: {errors}")
        self.state = json.loads(line)
        return self

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run an administrative command, in this process."""
        output, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(output), redirect_stderr(errors):
            status = main(["--socket", str(self.socket), *arguments])
        return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())

    def lines(self, *arguments: str) -> list[Any]:
        """Run an administrative command and return the lines that it printed."""
        done = self.ask(*arguments)
        assert done.returncode == 0, done
        return [json.loads(line) for line in done.stdout.splitlines()]

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Wait for its end, and return the exit status."""
        assert self._process is not None
        self._process.communicate(timeout=LIMIT)
        status = self._process.returncode
        self._process = None
        return status

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()

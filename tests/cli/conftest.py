"""Run the command line: in the test's process, as a process, and on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest
from click.testing import CliRunner, Result

from holdfast.cli.commands import holdfast
from tests.cli.terminal import run_on_terminal

COMMAND = [sys.executable, "-m", "holdfast.cli"]
LIMIT = 60.0

Invoke: TypeAlias = Callable[..., Result]
Execute: TypeAlias = Callable[..., subprocess.CompletedProcess[bytes]]
OnTerminal: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture
def invoke() -> Invoke:
    """Run a command in this process: `invoke("request", "GET", "/", input=b"…", env={…})`."""

    def run(*arguments: str, input: bytes = b"", env: Mapping[str, str | None] = {}) -> Result:
        result = CliRunner().invoke(holdfast, list(arguments), input=input, env=dict(env))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def execute() -> Execute:
    """Run the command as a process, with pipes: `execute("--version")`."""

    def run(
        *arguments: str, input: bytes = b"", prelude: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        command = COMMAND
        if prelude:
            command = [sys.executable, "-c", f"{prelude}\nfrom holdfast.cli import main\nmain()"]
        return subprocess.run(
            [*command, *arguments], input=input, capture_output=True, timeout=LIMIT
        )

    return run


@pytest.fixture
def on_terminal() -> OnTerminal:
    """Run the command on a terminal of its own; returns the status and what is to be seen."""

    def run(*arguments: str) -> tuple[int, str]:
        environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
        environ.pop("NO_COLOR", None)
        return run_on_terminal([*COMMAND, *arguments], environ, LIMIT)

    return run

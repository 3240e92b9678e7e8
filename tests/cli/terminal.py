"""A terminal for one command."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Mapping, Sequence


def run_on_terminal(
    command: Sequence[str], environ: Mapping[str, str], limit: float
) -> tuple[int, str]:
    """Run a command whose input, output and errors are a terminal; return its status and text."""
    ours, theirs = pty.openpty()
    try:
        try:
            process = subprocess.Popen(
                command, stdin=theirs, stdout=theirs, stderr=theirs, env=dict(environ)
            )
        finally:
            os.close(theirs)
        with process:
            try:
                seen = _read_all(ours, time.monotonic() + limit)
                return process.wait(limit), seen.decode().replace("\r\n", "\n")
            finally:
                process.kill()
    finally:
        os.close(ours)


def _read_all(terminal: int, deadline: float) -> bytes:
    seen = b""
    while True:
        if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"the command did not end; so far: {seen!r}")
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # Linux: the other side was closed
            return seen
        if not data:
            return seen
        seen += data

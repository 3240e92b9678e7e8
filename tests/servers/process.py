"""An echo server as a process of its own, to be killed and paused.

    python -m tests.servers.process [--host HOST] [--port PORT] [--path PATH]

prints its port and serves until its standard input closes, so that it never outlives
the process that started it.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.echo import EchoServer
from tests.servers.ports import ReservedPort, format_address

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 60.0
END_LIMIT = 10.0


class EchoProcess:
    """Run an echo server in a child process, always on the same port."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        """Reserve a port; `start` starts the process."""
        self.host = host
        self._reserved = ReservedPort(host)
        self.port = self._reserved.port
        self._process: subprocess.Popen[str] | None = None
        self._paused = False

    @property
    def address(self) -> str:
        """Return `host:port`."""
        return format_address(self.host, self.port)

    @property
    def url(self) -> str:
        """Return the server's base URL, without a slash at its end."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Tell whether the process runs, paused or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the process and wait until it listens."""
        if self.alive:
            raise RuntimeError("the process is running")
        self._release()
        command = [sys.executable, "-m", "tests.servers.process"]
        self._process = subprocess.Popen(
            [*command, "--host", self.host, "--port", str(self.port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._await_port(self._process)
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        """Kill the process at once (SIGKILL) and wait for its end."""
        self._running.kill()
        self._running.wait(END_LIMIT)
        self._paused = False
        self._release()

    def pause(self) -> None:
        """Stop the process where it is (SIGSTOP): the kernel still accepts for it."""
        self._running.send_signal(signal.SIGSTOP)
        self._paused = True
        # The signal works at some time after it was sent. The first call returns then, and
        # leaves an exit status for Popen; the second takes the news of the stop away.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self._running.send_signal(signal.SIGCONT)
        self._paused = False

    def restart(self) -> Self:
        """Kill the process if it runs and start another on the same port."""
        if self.alive:
            self.kill()
        return self.start()

    def stop(self) -> None:
        """End the process in the orderly way, by closing its input."""
        if not self.alive:
            return
        process = self._running
        if self._paused:
            self.resume()
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            self._release()
            self._reserved.close()

    @property
    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the process is not running")
        return self._process

    def _await_port(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(START_LIMIT):
                raise RuntimeError("the echo process did not start in time")
        line = process.stdout.readline().strip()
        if line != str(self.port):
            raise RuntimeError(f"the echo process did not start: {line!r}")

    def _release(self) -> None:
        """Close the pipes of a process that has ended."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None


def main() -> None:
    """Serve until the standard input closes."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.process")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path")
    arguments = parser.parse_args()
    # An interrupt from the terminal is for the parent, whose end closes the input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with EchoServer(arguments.host, port=arguments.port, path=arguments.path) as server:
        print(server.port, flush=True)
        sys.stdin.read()
        # Clients that are connected at the end do no harm, nor what they sent last.
        server.failures.clear()


if __name__ == "__main__":
    main()

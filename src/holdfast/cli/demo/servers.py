"""The demonstration's servers: processes that are killed and started again on their ports."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
from typing import TYPE_CHECKING

from holdfast.cli.demo.ports import ReservedPort
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ServerFailed", "ServerProcess", "started"]

#: Seconds that a server may take to come up on a busy machine, and to end when asked to.
START_LIMIT = 60.0
END_LIMIT = 3.0


class ServerFailed(Exception):
    """A server did not start."""


class ServerProcess(Closing):
    """One server on loopback, on a port that stays its own while it is dead."""

    def __init__(self) -> None:
        self._reserved = ReservedPort()
        self.port = self._reserved.port
        self.host = f"127.0.0.1:{self.port}"
        self.kills = 0
        self._process: subprocess.Popen[str] | None = None
        self._serving = False

    @property
    def state(self) -> str:
        """``up``, ``starting`` or ``killed``."""
        if self._process is None:
            return "killed"
        return "up" if self._serving else "starting"

    @property
    def pid(self) -> int | None:
        """The process id, None while it is dead."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process; `serving` tells when it answers."""
        self._process = subprocess.Popen(  # noqa: S603 - a module of ours
            [sys.executable, "-m", "holdfast.cli.demo.server", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # An interrupt from the terminal is for the parent, whose end closes the input.
            start_new_session=True,
        )

    def serving(self, wait: float = 0.0) -> bool:
        """Tell whether it answers, waiting so many seconds for it; raises ServerFailed."""
        process = self._process
        if process is None or self._serving:
            return self._serving
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(wait):
                return False
        if process.stdout.readline().strip() != str(self.port):
            raise ServerFailed(f"the server on {self.host} did not start")
        self._serving = True
        return True

    def kill(self) -> None:
        """Kill the process at once (SIGKILL); its connections are reset, its port refuses."""
        assert self._process is not None
        self._process.kill()
        self.kills += 1
        self._ended()

    def _ended(self) -> None:
        """Reap the process and close its pipes."""
        process, self._process = self._process, None
        self._serving = False
        assert process is not None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the process by closing its input, and give the port back."""
        if self._process is not None:
            self._ended()
        self._reserved.close()


@contextlib.contextmanager
def started(count: int) -> Iterator[list[ServerProcess]]:
    """Give servers that all answer; they end with the context."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess()) for _ in range(count)]
        for server in servers:
            server.start()  # all at once: most of the time goes into imports
        for server in servers:
            if not server.serving(START_LIMIT):
                raise ServerFailed(f"the server on {server.host} did not start in time")
        yield servers

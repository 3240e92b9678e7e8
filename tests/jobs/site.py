"""A dispatcher and host daemons as processes, in a folder of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from holdfast.jobs import HarpCaller
from tests.jobs.agent.daemons import Daemon
from tests.jobs.dispatcher.process import DispatcherProcess
from tests.servers.certificates import Certificates
from tests.servers.ports import ReservedPort

#: What the hosts offer.
PROCEDURES = '''
import os
import signal
import time
from holdfast.jobs.procedures import Result, procedure, streaming_procedure


@procedure
def echo(*args, **kwargs):
    return kwargs or list(args)


@procedure
def fails(text):
    raise LookupError(text)


@procedure
def span():
    begin = time.monotonic()
    time.sleep(0.02)
    return [begin, time.monotonic()]


@procedure
def note(path):
    with open(path, "a") as file:
        file.write("called\\n")


@procedure
def hold(path):
    """Tell who runs this, then say nothing."""
    with open(path, "w") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(600)


@streaming_procedure
def relay(path):
    """Stream who runs this, then each line that comes; return how many there were."""
    yield os.getpid()
    count = 0
    with open(path) as lines:
        for line in lines:
            count += 1
            yield line.rstrip("\\n")
    yield Result(count)


@streaming_procedure
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield os.getpid()
    while True:
        time.sleep(600)


@streaming_procedure
def count(to):
    yield from range(to)
    yield Result({"counted": to})


@streaming_procedure
def backup(target):
    yield {"line": "scanning"}
    yield {"line": "done\\n\\n"}
    yield Result({"status": 0, "target": target})


@streaming_procedure
def breaks():
    yield 0
    raise LookupError("in the middle")


@streaming_procedure
def chatters():
    while True:
        yield "x"
        time.sleep(0.01)
'''


class Line:
    """A named pipe between a test and a procedure; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        # For both ways, so that opening it waits for nobody.
        self._fd = os.open(path, os.O_RDWR)

    def say(self, *texts: str) -> None:
        """Write lines."""
        os.write(self._fd, "".join(f"{text}\n" for text in texts).encode())

    def hear(self) -> str:
        """Read what was written, once there is something."""
        return os.read(self._fd, 4096).decode().rstrip("\n")

    def close(self) -> None:
        """End it: whoever reads comes to the end."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Site:
    """Daemons, which are web01, web02 and so on, and a dispatcher that knows them.

    The dispatcher keeps its port when it is started again.
    """

    def __init__(self, dispatcher: DispatcherProcess, agents: list[Daemon], port: int) -> None:
        self.dispatcher = dispatcher
        self.agents = agents
        self.host = "127.0.0.1"
        self.port = port

    def caller(self, **options: Any) -> HarpCaller:
        """Return a new client."""
        return HarpCaller(self.host, self.port, **options)

    def configure(self, **options: Any) -> None:
        """Write the dispatcher's configuration."""
        given: dict[str, Any] = {"listen": [f"{self.host}:{self.port}"], "host_db": "hosts"}
        self.dispatcher.configure(**(given | options))


def registered(name: str, port: int, password: str = "s3cret") -> str:
    """Return the line of a host in a registry."""
    credentials = {"user": "ann", "password": password}
    host = {"hostname": name, "address": "127.0.0.1", "port": port, "credentials": credentials}
    return json.dumps(host) + "\n"


@contextmanager
def running(
    folder: Path, certificates: Certificates, count: int = 1, more: str = "", **options: Any
) -> Iterator[Site]:
    """Run a site; ``more`` are further lines of its registry, the options the dispatcher's."""
    with ExitStack() as stack:
        pair = certificates.server_file, certificates.server_file
        agents: list[Daemon] = []
        for number in range(1, count + 1):
            home = folder / f"web{number:02}"
            home.mkdir()
            daemon = Daemon(home, pair, PROCEDURES, limits={"grace": 0.3})
            stack.callback(_stop, daemon)
            agents.append(daemon.start())
        hosts = [registered(f"web{n:02}", one.port) for n, one in enumerate(agents, 1)]
        (folder / "hosts").write_text("".join(hosts) + more)
        reserved = ReservedPort()
        stack.callback(reserved.close)
        site = Site(DispatcherProcess(folder), agents, reserved.port)
        site.configure(**options)
        stack.enter_context(site.dispatcher)
        yield site


def _stop(daemon: Daemon) -> None:
    if hasattr(daemon, "process"):
        daemon.stop()

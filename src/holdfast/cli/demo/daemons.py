"""A dispatcher and host daemons as processes, in a folder of their own."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import threading
from collections import deque
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from holdfast.cli.demo import procedures
from holdfast.cli.demo.ports import ReservedPort
from holdfast.cli.demo.servers import END_LIMIT, START_LIMIT, ServerFailed
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

__all__ = ["Daemon", "Site", "site"]

USER = "dispatcher"


class Daemon(Closing):
    """One daemon; it is up when it has said so, in a line with a pattern."""

    def __init__(self, name: str, arguments: Sequence[str], pattern: str) -> None:
        self.name = name
        self._arguments = list(arguments)
        self._pattern = re.compile(pattern)
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=20)
        self._up = threading.Event()
        self._match: re.Match[str] | None = None

    def start(self) -> None:
        """Start the process; `wait` returns when it is up."""
        self._up.clear()
        self._match = None
        self._process = subprocess.Popen(  # noqa: S603 - a module of ours
            [sys.executable, "-m", "holdfast.cli.demo.leash", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # An interrupt from the terminal is for the parent, whose end closes the input.
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def wait(self) -> str:
        """Return what the pattern's first group matched; raises ServerFailed."""
        if not self._up.wait(START_LIMIT) or self._match is None:
            last = self._said[-1].strip() if self._said else "it said nothing"
            raise ServerFailed(f"the {self.name} did not start: {last}")
        return self._match[1]

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._said.append(line)
                match = self._pattern.search(line)
                if match is not None and not self._up.is_set():
                    self._match = match
                    self._up.set()
        if process is self._process:
            self._up.set()  # it will not come up any more

    def kill(self) -> None:
        """Kill the process at once (SIGKILL)."""
        assert self._process is not None
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End the process, by closing its input if need be."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self


class Site:
    """A dispatcher, on a port that stays its own while it is dead, and the hosts that it knows."""

    def __init__(self, dispatcher: Daemon, agents: list[Daemon], port: int) -> None:
        self.dispatcher = dispatcher
        self.agents = agents
        self.port = port
        self.hosts = [agent.name for agent in agents]


@contextmanager
def site(
    count: int,
    offered: str = str(procedures.__file__),
    prepare: Callable[[Path], None] | None = None,
) -> Iterator[Site]:
    """Run a dispatcher and some hosts, all of them up, until the end of the context.

    ``offered``: the file of procedures. ``prepare`` is called with the folder of the dispatcher's
    jobs before it starts.
    """
    from holdfast.jobs.agent.init import init

    with TemporaryDirectory(prefix="holdfast-demo-") as name, ExitStack() as stack:
        folder = Path(name)
        init(folder, "harpd")  # for its certificate
        password = secrets.token_urlsafe()
        port = ReservedPort()
        stack.callback(port.close)
        agents = [
            stack.enter_context(_agent(folder, f"host{number}", password, offered))
            for number in range(1, count + 1)
        ]
        registry = [
            {
                "hostname": agent.name,
                "address": "127.0.0.1",
                "port": int(agent.wait()),
                "credentials": {"user": USER, "password": password},
            }
            for agent in agents
        ]
        (folder / "hosts").write_text("".join(json.dumps(host) + "\n" for host in registry))
        if prepare is not None:
            prepare(folder / "jobs")
        dispatcher = stack.enter_context(_dispatcher(folder, port.port))
        dispatcher.wait()
        yield Site(dispatcher, agents, port.port)


def _agent(folder: Path, name: str, password: str, offered: str) -> Daemon:
    config = folder / f"{name}.conf"
    network = {"address": "127.0.0.1", "port": 0}
    files = {"certfile": "harpd.cert.pem", "keyfile": "harpd.key.pem"}
    users = {"module": "inplace", "users": {USER: f"plain:{password}"}}
    # JSON is YAML, too.
    config.touch(0o600)
    config.write_text(json.dumps({"network": network | files, "authentication": users}))
    options = ["--config", str(config), "--procedures", offered]
    return Daemon(name, ["agent", *options], r"listening on .*:(\d+),")


def _dispatcher(folder: Path, port: int) -> Daemon:
    config = folder / "dispatcher.toml"
    config.write_text(
        f'listen = ["127.0.0.1:{port}"]\nknown_certs_file = "harpd.cert.pem"\n'
        'host_db = "hosts"\nstream_directory = "jobs"\nlog_file = "log"\nstop_timeout = 1\n'
    )
    options = ["--socket", str(folder / "control"), "start", "--config", str(config)]
    return Daemon("dispatcher", ["dispatcher", *options], r'"listen":\["[^"]*:(\d+)"')

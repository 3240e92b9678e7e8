"""Host daemons as processes, and connections to them."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import yaml

from holdfast.jobs.keeping import PROTOCOL

#: How a user starts the daemon, and how most tests do.
INSTALLED = [sys.executable, "-m", "holdfast.jobs.agent.command"]
COMMAND = [sys.executable, "-P", str(Path(__file__).with_name("launch.py"))]

#: Seconds for anything that is bound to happen.
LIMIT = 30.0

INPLACE = {"module": "inplace", "users": {"ann": "plain:s3cret"}}


class Wire:
    """A connection to a daemon, line by line."""

    def __init__(
        self, port: int, certfile: Path | None, *, buffer: int = 0, keep: bool = False
    ) -> None:
        """Connect; with a certificate the server is verified. ``buffer``: what it takes unread.

        ``keep``: offer to send other requests when a call is over.
        """
        raw = socket.socket()
        raw.settimeout(LIMIT)
        if buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        raw.connect(("127.0.0.1", port))
        context = ssl.create_default_context(cafile=certfile)
        if certfile is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if keep:
            context.set_alpn_protocols([PROTOCOL])
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def line(self) -> bytes:
        """Return the next line, or nothing at the end."""
        try:
            return self._file.readline()
        except (ConnectionError, ssl.SSLEOFError):
            return b""

    def message(self) -> Any:
        """Return the next message."""
        line = self.line()
        assert line.endswith(b"\n"), line
        return json.loads(line)

    def lines(self) -> list[bytes]:
        """Return all lines until the end."""
        return list(iter(self.line, b""))

    def close(self) -> None:
        """Close without a word, as a caller that was killed."""
        self._file.close()
        self.socket.close()


def request(
    procedure: str,
    arguments: Sequence[Any] | dict[str, Any] = (),
    user: str = "ann",
    password: str = "s3cret",
) -> bytes:
    """Return a request's line."""
    value = arguments if isinstance(arguments, dict) else list(arguments)
    auth = {"user": user, "password": password}
    message = {"harp": 1, "procedure": procedure, "arguments": value, "auth": auth}
    return json.dumps(message).encode() + b"\n"


class Daemon:
    """A daemon that runs as a process of its own, with a configuration in a folder."""

    def __init__(
        self,
        folder: Path,
        certificate: tuple[Path, Path],
        procedures: str,
        *,
        authentication: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        options: Sequence[str] = (),
        **sections: Any,
    ) -> None:
        self.folder = folder
        self.certfile, self.keyfile = certificate
        self.config = folder / "harpd.conf"
        self.procedures = folder / "procedures.py"
        self.options = list(options)
        self.settings: dict[str, Any] = {
            "network": {
                "address": "127.0.0.1",
                "port": 0,
                "certfile": str(self.certfile),
                "keyfile": str(self.keyfile),
            },
            "authentication": deepcopy(INPLACE) if authentication is None else authentication,
            "limits": {"grace": 1, "spares": 2, **(limits or {})},
            **sections,
        }
        self.write(procedures)
        self.port = 0
        self.log: list[str] = []
        self._changed = threading.Condition()
        self._ended = False

    def write(self, procedures: str | None = None) -> None:
        """Write the configuration, and the file of procedures."""
        self.config.write_text(yaml.safe_dump(self.settings))
        if procedures is not None:
            self.procedures.write_text(procedures)

    def launch(self) -> Self:
        """Start the process."""
        self.process = subprocess.Popen(
            [*COMMAND, "-c", str(self.config), "-r", str(self.procedures), *self.options],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def start(self) -> Self:
        """Start the process and wait until it listens."""
        self.launch()
        line = self.logged(r"listening on .*:\d+,")
        match = re.search(r"listening on .*:(\d+),", line)
        assert match is not None
        self.port = int(match[1])
        return self

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.log.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def logged(self, pattern: str, start: int = 0) -> str:
        """Wait for a line of the log in which a pattern is found; return it."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [line for line in self.log[start:] if re.search(pattern, line)]
            return bool(found) or self._ended

        with self._changed:
            assert self._changed.wait_for(there, LIMIT), (pattern, self.log)
        assert found, (pattern, self.log)
        return found[0]

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def reload(self) -> str:
        """Reload, and return what the log says of it."""
        start = len(self.log)
        self.signal(signal.SIGHUP)
        return self.logged(r"reloaded", start)

    def wait(self) -> int:
        """Wait for the end; return the status."""
        status = self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def stop(self) -> None:
        """End the process, if it runs."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.wait()

    def connect(self, **options: Any) -> Wire:
        """Return a new connection."""
        return Wire(self.port, self.certfile, **options)

    def exchange(self, data: bytes) -> list[bytes]:
        """Send bytes on a new connection and return the lines that come back."""
        with self.connect() as wire:
            wire.send(data)
            return wire.lines()

    def call(
        self, procedure: str, arguments: Sequence[Any] | dict[str, Any] = (), **auth: str
    ) -> list[Any]:
        """Make a call and return its messages."""
        return [json.loads(one) for one in self.exchange(request(procedure, arguments, **auth))]

    def result(self, procedure: str, arguments: Sequence[Any] | dict[str, Any] = ()) -> Any:
        """Make a call and return its result."""
        return self.call(procedure, arguments)[-1]["result"]

    @property
    def parent(self) -> int:
        """Return the process that calls are forked from."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in children.read_text().split():
            if b"bootstrap.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
        raise AssertionError("no parent")


def error_of(messages: list[Any]) -> str:
    """Return the type of the error that messages end with."""
    assert messages, "closed without a message"
    assert messages[-1].keys() == {"harp", "error"}
    assert messages[-1]["harp"] == 1
    kind = messages[-1]["error"]["type"]
    assert isinstance(kind, str)
    return kind


def wait_for_exit(pid: int, seconds: float = LIMIT) -> None:
    """Wait until a process has exited, whoever its parent is."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([fd], [], [], seconds)
        assert ready, f"process {pid} still runs"
    finally:
        os.close(fd)


def until(condition: Callable[[], bool], seconds: float = LIMIT) -> None:
    """Look again and again, for what tells nobody that it has happened."""
    end = monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert monotonic() < end, "it has not happened"
        pause.wait(0.01)

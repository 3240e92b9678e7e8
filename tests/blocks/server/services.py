"""Block services for tests: in a thread of the test, and as a process; and plain requests."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from holdfast.blocks.server.config import Config
from holdfast.blocks.server.running import BlockServer, listener
from holdfast.blocks.server.service import Service
from holdfast.blocks.server.volumes import Volume

SYSTEM = "system-token"

#: What services of tests are configured with unless a test says otherwise.
QUIET = Config(port=0, fsync=False, scrub_rate=0, system_token=SYSTEM)


def md5(data: bytes) -> str:
    """Return a block's hash."""
    return hashlib.md5(data).hexdigest()


def locator(data: bytes) -> str:
    """Return a block's locator, unsigned."""
    return f"{md5(data)}+{len(data)}"


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """Sends requests to one service, each on a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = urlsplit(url).hostname or "", urlsplit(url).port or 0

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            sent = dict(headers or {})
            if token:
                sent["Authorization"] = f"Bearer {token}"
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def put(self, data: bytes, token: str = "", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("PUT", f"/{md5(data)}", data, token=token, headers=named)

    def get(self, locator: str, token: str = "", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", f"/{locator}", token=token, headers=named)

    def socket(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=30)


class Running(Client):
    """A service in a thread of this process."""

    def __init__(self, url: str, service: Service) -> None:
        super().__init__(url)
        self.service = service


@contextmanager
def running(volumes: Sequence[Volume], config: Config = QUIET, **options: Any) -> Iterator[Running]:
    """Serve volumes, which are closed at the end; ``options`` are those of `Service`."""
    announced = threading.Event()
    services: list[Service] = []
    urls: list[str] = []

    def make() -> Service:
        services.append(Service(config, volumes, **options))
        return services[0]

    def announce(url: str) -> None:
        urls.append(url)
        announced.set()

    with listener(config) as sock:
        server = BlockServer(config, make, announce)
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        try:
            assert announced.wait(20)
            yield Running(urls[0], services[0])
        finally:
            server.should_exit = True
            thread.join()


class Process(Client):
    """A service as a process; end it by `kill` or `stop`."""

    def __init__(self, *arguments: str | Path, setup: Callable[[], None] | None = None) -> None:
        environment = {**os.environ, "PYTHONWARNINGS": "default"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "holdfast.blocks.server.command", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            preexec_fn=setup,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError(f"not started: {line!r}")
        super().__init__(line.removeprefix("listening on ").strip())

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


def read_answer(sock: socket.socket) -> tuple[bytes, bytes]:
    """Return the head and the body of the next answer on a connection, cut short or not."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return data, b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length and (piece := sock.recv(65536)):
        body += piece
    return head, body

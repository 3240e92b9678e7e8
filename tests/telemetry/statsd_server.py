"""A statsd server that keeps what it is sent."""

from __future__ import annotations

import socket
from collections import Counter
from types import TracebackType
from typing import Self


class StatsdServer:
    """A UDP socket on loopback, as a context manager; `receive` takes one datagram."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self._socket.settimeout(30)
        self.port: int = self._socket.getsockname()[1]
        self.datagrams: list[bytes] = []
        self.counts: Counter[str] = Counter()
        self.timings: list[tuple[str, float]] = []
        self.gauges: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def receive(self, count: int = 1) -> None:
        """Take that many datagrams."""
        for _ in range(count):
            data = self._socket.recv(1 << 16)
            self.datagrams.append(data)
            for line in data.decode().split("\n"):
                name, _, rest = line.partition(":")
                value, _, kind = rest.partition("|")
                if kind == "c":
                    self.counts[name] += int(value)
                elif kind == "ms":
                    self.timings.append((name, float(value)))
                else:
                    assert kind == "g", line
                    self.gauges[name] = value

    def nothing_more(self) -> bool:
        """Tell whether no further datagram is there."""
        self._socket.setblocking(False)
        try:
            self._socket.recv(1 << 16)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(30)
        return False

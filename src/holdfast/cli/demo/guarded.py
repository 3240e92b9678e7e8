"""A function under `fault_tolerant`, over servers that each fail in their own way."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING

from holdfast import Cluster
from holdfast.calls import Call, RoundRobin, fault_tolerant
from holdfast.console.report import Guarded
from holdfast.lifetimes import Closing
from holdfast.telemetry import UDP

if TYPE_CHECKING:
    from typing import Self

    from holdfast.cli.demo.servers import ServerProcess

__all__ = ["CALLS", "Listener", "run"]

CALLS = 200

#: Seconds that the slow server takes for an answer.
_SLOW = 0.02
#: Seconds after which an open circuit is tried again: short, as all of the demonstration.
_RESET = 0.25


class Listener(Closing):
    """A statsd server that counts what comes, on a port that the system picked."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def close(self) -> None:
        """Count what was sent before, and no more."""
        # After all that was sent before: datagrams of loopback come in their order.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5.0)
        self._socket.close()

    def _listen(self) -> None:
        while data := self._socket.recv(1 << 16):
            for line in data.decode().splitlines():
                name, _, rest = line.partition(":")
                value, _, kind = rest.partition("|")
                if kind.startswith("c"):
                    self.counts[name] += int(float(value))


def run(servers: list[ServerProcess]) -> Guarded:
    """Make the calls; afterwards the killed server stays dead."""
    slow, unavailable, victim = servers
    _change(slow, {"delay": _SLOW})
    _change(unavailable, {"status": 503})
    fell_back: list[int] = []

    def nothing(number: int) -> int:
        fell_back.append(number)
        return 0

    with Listener() as listener, UDP("127.0.0.1", listener.port) as statsd:

        @fault_tolerant(
            "demo",
            load_balancer=RoundRobin([server.host for server in servers]),
            circuit_reset_timeout=_RESET,
            fallback=nothing,
            statsd=statsd,
        )
        def ask(call: Call, number: int) -> int:
            answer = call.http.request("GET", "/moody", params={"number": str(number)})
            return int(answer.json()["port"]) if answer.ok else answer

        for number in range(CALLS):
            if number == CALLS // 4:
                victim.kill()
            ask(number)
        ask.core.close()  # type: ignore[attr-defined]
    return Guarded(
        calls=CALLS,
        slow=slow.host,
        unavailable=unavailable.host,
        killed=victim.host,
        answered=CALLS - len(fell_back),
        fell_back=len(fell_back),
        counts=dict(listener.counts),
    )


def _change(server: ServerProcess, mood: dict[str, float]) -> None:
    with Cluster([server.host]) as cluster:
        cluster.put("/mood", json=mood).raise_for_status()

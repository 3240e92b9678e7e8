"""A sender of statsd metrics by UDP.

Theory of operation. Who counts something adds it to what is pending, under a short lock, and goes
on: a call never waits for a name server or a socket. A thread of its own, started with the first
metric, lets things gather for a while, or until they fill a datagram, and sends them. Counts are
summed while they wait, so that a busy program sends a few lines, not one for each call.
"""

from __future__ import annotations

import os
import socket
import threading
from math import isfinite
from time import monotonic
from typing import Any
from weakref import WeakSet, finalize

from holdfast.errors import InvalidRequest
from holdfast.lifetimes import Closing
from holdfast.policy.checks import at_least, not_negative
from holdfast.telemetry.lines import lines_of, packed

__all__ = ["UDP"]

#: Bytes of one datagram that fit into an Ethernet frame, with room for tunnels (statsd's advice).
MAX_BYTES = 1432

#: Timings that wait at most: a host that is not found must not cost memory.
MAX_PENDING = 10_000

#: Seconds after which the host's name is looked up again: it may have moved.
LOOK_UP_AFTER = 60.0


class UDP(Closing):
    """A sender of metrics to a statsd server, which never blocks and never fails its caller.

    ``interval``: seconds for which metrics gather before they are sent, 0 for at once.
    ``max_bytes``: the size of the datagrams that they are packed into. Safe among threads; after
    a fork, each process sends its own. What is left is sent by `close`, and at the end of the
    program. Metrics that could not be sent are counted in ``dropped``.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8125,
        *,
        interval: float = 0.2,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.host = host
        self.port = port
        self.interval = interval
        self.max_bytes = max_bytes
        if not host:
            raise InvalidRequest("UDP: host must be a name or an address, not empty")
        at_least(self, 1, "port", "max_bytes")
        not_negative(self, "interval")
        if port > 65535:
            raise InvalidRequest(f"UDP: port must be at most 65535, not {port!r}")
        # The thread knows only this: a sender that nobody has any more is closed.
        self._outbox = _Outbox(host, port, interval, max_bytes)
        self._close = finalize(self, self._outbox.close)

    def __repr__(self) -> str:
        return f"UDP({self.host!r}, {self.port})"

    @property
    def dropped(self) -> int:
        """How many metrics could not be sent."""
        return self._outbox.dropped

    def incr(self, name: str, count: int = 1) -> None:
        """Count something, ``count`` times."""
        self._outbox.count(name, count)

    def timing(self, name: str, milliseconds: float) -> None:
        """Record how long something took."""
        self._outbox.time(name, milliseconds)

    def gauge(self, name: str, value: float) -> None:
        """Set a value."""
        self._outbox.set(name, value)

    def flush(self) -> None:
        """Send what is pending, on the caller's thread."""
        self._outbox.flush()

    def close(self) -> None:
        """Send what is pending and end; what comes later is dropped."""
        self._close()


class _Outbox:
    """What is pending, and the thread and the socket that send it."""

    def __init__(self, host: str, port: int, interval: float, max_bytes: int) -> None:
        self._place = (host, port)
        self._interval = interval
        self._max_bytes = max_bytes
        self.dropped = 0
        self._closed = False
        self._reset()
        _outboxes.add(self)

    def _reset(self) -> None:
        """Begin anew, as in a process that was forked: what was pending is the parent's."""
        # Reentrant: the garbage collector may close another sender, or this one, at any place.
        self._changed = threading.Condition(threading.RLock())
        self._sending = threading.RLock()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._looked_up_at = 0.0
        self._addresses: list[tuple[int, Any]] = []  # of the server, the one in use first
        self._clear()

    def _clear(self) -> None:
        self._counts: dict[str, int] = {}
        self._gauges: dict[str, float] = {}
        self._timings: list[tuple[str, float]] = []
        self._size = 0  # bytes, about

    def count(self, name: str, count: int) -> None:
        with self._changed:
            if not self._takes(count):
                return
            if name in self._counts:
                self._counts[name] += count
            else:
                self._counts[name] = count
                self._grow(len(name) + 6)

    def set(self, name: str, value: float) -> None:
        with self._changed:
            if not self._takes(value):
                return
            known = name in self._gauges
            self._gauges[name] = value
            if not known:
                self._grow(len(name) + 10)

    def time(self, name: str, milliseconds: float) -> None:
        with self._changed:
            if not self._takes(milliseconds, len(self._timings)):
                return
            self._timings.append((name, milliseconds))
            self._grow(len(name) + 10)

    def _takes(self, value: float, pending: int = 0) -> bool:
        """Tell whether a metric can be taken; one that cannot is dropped."""
        if self._closed or not isfinite(value) or pending >= MAX_PENDING:
            self.dropped += 1
            return False
        return True

    def _grow(self, size: int) -> None:
        before = self._size
        self._size += size
        if before == 0 or before < self._max_bytes <= self._size:
            if self._thread is None:
                self._start()
            self._changed.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="holdfast statsd", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # there can be no more threads; `flush` and `close` send, too
        self._thread = thread

    def _run(self) -> None:
        changed = self._changed
        while True:
            with changed:
                while not self._size and not self._closed:
                    changed.wait()
                until = monotonic() + self._interval
                while not self._closed and 0 < self._size < self._max_bytes:
                    left = until - monotonic()
                    if left <= 0:
                        break
                    changed.wait(left)
                if self._closed:
                    return  # who closes it sends the rest
            self.flush()

    def _take(self) -> list[str]:
        with self._changed:
            counts, gauges, timings = self._counts, self._gauges, self._timings
            self._clear()
        return lines_of(counts, gauges, timings)

    def flush(self) -> None:
        with self._sending:
            lines = self._take()
            if not lines:
                return
            try:
                self._look_up()
            except (OSError, UnicodeError):  # no such name
                self.dropped += len(lines)
                return
            for data, count in packed(lines, self._max_bytes):
                try:
                    self._send(data)
                except OSError:
                    # The buffer is full, or there is no way to it: this is statistics.
                    self.dropped += count

    def _look_up(self) -> None:
        now = monotonic()
        if self._addresses and now - self._looked_up_at < LOOK_UP_AFTER:
            return
        try:
            found = socket.getaddrinfo(*self._place, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            if not self._addresses:
                raise
        else:
            # Many servers listen at the older one only, and no handshake tells which do.
            found.sort(key=lambda item: item[0] != socket.AF_INET)
            self._addresses = list(dict.fromkeys((item[0], item[4]) for item in found))
            self._disconnect()
        self._looked_up_at = now

    def _send(self, data: bytes) -> None:
        try:
            self._connected().send(data)
        except ConnectionRefusedError:
            # An earlier one found nobody, and this one was not sent: perhaps the server has only
            # begun anew, or listens at another of its addresses.
            self._disconnect()
            self._addresses.append(self._addresses.pop(0))
            self._connected().send(data)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            family, address = self._addresses[0]
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                sock.setblocking(False)
                sock.connect(address)
            except BaseException:
                sock.close()
                raise
            self._socket = sock
        return self._socket

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        with self._sending:
            self.flush()
            self._disconnect()

    def after_fork(self) -> None:
        """Forget, in a new process, what is its parent's."""
        self._disconnect()
        self._reset()


_outboxes: WeakSet[_Outbox] = WeakSet()


def _after_fork() -> None:
    for outbox in list(_outboxes):
        outbox.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

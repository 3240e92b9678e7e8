"""The other end of a stream, and what of the system a test counts.

A program under test may call these functions between its operations: they do not wait, because
the kernel has answered already (a connection in the backlog, bytes in a buffer).
"""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Callable
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from holdfast import ops
from tests.conformance.drivers import Run, monotonic, worlds

T = TypeVar("T")

SHORT = 0.05
"""Seconds: a time limit that tests let pass."""


class Listening:
    """A listening socket whose accepted connections end with it."""

    def __init__(self, family: socket.AddressFamily, address: Any) -> None:
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.bind(address)
        self.sock.listen(64)
        self.sock.settimeout(10)
        self._accepted: list[socket.socket] = []

    @property
    def address(self) -> ops.Address:
        name = self.sock.getsockname()
        return self.sock.family, name if isinstance(name, str) else name[:2]

    def accept(self) -> socket.socket:
        """Return the next connection."""
        peer, _ = self.sock.accept()
        peer.settimeout(10)
        self._accepted.append(peer)
        return peer

    def close_accepted(self) -> None:
        """Close the peers' ends."""
        for sock in self._accepted:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close_accepted()
        self.sock.close()


def between(
    listening: Listening, talk: Callable[..., ops.Program[T]], *arguments: Any
) -> ops.Program[T]:
    """Run ``talk(stream, peer, …)`` with a stream and its other end."""
    stream = yield ops.Connect(listening.address, inf)
    try:
        return (yield from talk(stream, listening.accept(), *arguments))
    finally:
        stream.close()


def received(stream: ops.Stream, size: int) -> ops.Program[bytes]:
    """Receive exactly so many bytes, or all up to the end."""
    pieces: list[bytes] = []
    while size > 0 and (data := (yield ops.Receive(stream, size, monotonic() + 10))):
        pieces.append(data)
        size -= len(data)
    return b"".join(pieces)


def later(seconds: float, function: Callable[..., Any], *arguments: Any) -> threading.Timer:
    """Call a function after some seconds of the driver in use."""
    timer = threading.Timer(seconds, function, arguments)
    if worlds:
        worlds[-1].at(monotonic() + seconds, function, *arguments)
        timer = threading.Timer(0, int)  # only to be joined
    timer.start()
    return timer


def in_thread(function: Callable[[], Any]) -> threading.Thread:
    """Call a function in a thread."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def sockets_open() -> set[str]:
    """Return the sockets that this process has open, but for those that garbage holds."""
    gc.collect()
    return _sockets()


def left_open(before: set[str]) -> dict[str, str]:
    """Return the sockets that were opened since, with their state and ends: none, it is hoped.

    Servers get a moment to see that a client left. Sockets that an earlier test left may be
    closed meanwhile; they are nobody's concern here.
    """
    until = monotonic() + 5
    while found := _sockets() - before:
        if monotonic() > until:
            known = _known_sockets()
            return {name: known.get(name, "unknown to the kernel's tables") for name in found}
        threading.Event().wait(0.001)
    return {}


def _sockets() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def _known_sockets() -> dict[str, str]:
    """Return the kernel's line about each socket."""
    found = {}
    for table, column in (("tcp", 9), ("tcp6", 9), ("unix", 6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            found[f"socket:[{fields[column]}]"] = f"{table}: {' '.join(fields[1:6])}"
    return found


def times_out(run: Run, program: Callable[[float], ops.Program[Any]]) -> None:
    """Run ``program(deadline)``: it must raise TimeoutError, not early and not much too late.

    Early is never right; late may be the machine's fault, so it is asked again.
    """
    lateness: list[float] = []
    for _ in range(20):
        deadline = monotonic() + SHORT
        try:
            run(_noting(program(deadline), lateness, deadline))
        except TimeoutError:
            pass
        else:
            raise AssertionError("no TimeoutError")
        assert lateness[-1] >= 0, "too early"
        if lateness[-1] < SHORT / 2:
            return
    raise AssertionError(f"too late by {lateness}")


def _noting(program: ops.Program[Any], lateness: list[float], deadline: float) -> ops.Program[Any]:
    try:
        return (yield from program)
    finally:
        lateness.append(monotonic() - deadline)

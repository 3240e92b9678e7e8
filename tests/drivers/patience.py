"""What would have the caller wait: every such call of a thread is noted, and fails."""

from __future__ import annotations

import select
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Patience:
    """The calls that a thread made: ``counts`` of all by name, and those that could ``wait``."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.waits: list[str] = []
        self._thread = threading.get_ident()

    def call(self, name: str, waits: bool) -> None:
        """Note a call, and fail when it could wait."""
        if threading.get_ident() != self._thread:
            return
        self.counts[name] += 1
        if waits:
            self.waits.append(name)
            raise AssertionError(f"{name} could block")


@contextmanager
def impatient() -> Iterator[Patience]:
    """Let no call of this thread wait, as far as sockets, selects, sleeps and threads go."""
    patience = Patience()

    class Socket(socket.socket):
        def _note(self, name: str, flags: int = 0) -> None:
            patience.call(name, self.gettimeout() != 0 and not flags & socket.MSG_DONTWAIT)

        def recv(self, size: int, flags: int = 0) -> bytes:
            self._note("recv", flags)
            return super().recv(size, flags)

        def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
            self._note("recv", flags)
            return super().recv_into(buffer, nbytes, flags)

        def send(self, data: Any, flags: int = 0) -> int:
            self._note("send", flags)
            return super().send(data, flags)

        def sendall(self, data: Any, flags: int = 0) -> None:
            patience.call("sendall", self.gettimeout() != 0)
            super().sendall(data, flags)

        def connect(self, address: Any) -> None:
            self._note("connect")
            super().connect(address)

        def accept(self) -> Any:
            self._note("accept")
            return super().accept()

    selecting = selectors.DefaultSelector.select
    sleeping, waiting, finding = time.sleep, threading.Condition.wait, socket.getaddrinfo

    def selected(self: Any, timeout: float | None = None) -> Any:
        patience.call("select", timeout is None or timeout > 0)
        return selecting(self, timeout)

    def slept(seconds: float) -> None:
        patience.call("sleep", True)
        sleeping(seconds)

    def waited(self: threading.Condition, timeout: float | None = None) -> bool:
        patience.call("wait", True)
        return waiting(self, timeout)

    def found(*arguments: Any, **keywords: Any) -> Any:
        patience.call("getaddrinfo", True)
        return finding(*arguments, **keywords)

    def polled() -> Any:
        patience.call("poll", True)
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", Socket)
        patch.setattr(socket, "getaddrinfo", found)
        patch.setattr(selectors.DefaultSelector, "select", selected)
        patch.setattr(select, "poll", polled)
        patch.setattr(time, "sleep", slept)
        patch.setattr(threading.Condition, "wait", waited)
        yield patience
    assert not patience.waits

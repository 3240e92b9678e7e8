"""A TCP proxy that delays, throttles, cuts, resets, truncates, swallows and refuses.

One thread runs one selector loop for all connections. Other threads hand it functions to
call and wait for their end, so a change is in force when the method that made it returns.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from tests.faults.flow import NO_FAULT, Fault
from tests.faults.pair import Pair
from tests.servers.ports import ReservedPort, format_address

__all__ = ["NO_FAULT", "Fault", "FaultProxy", "Plan"]

Plan: TypeAlias = Fault | Sequence[Fault] | Callable[[int], Fault]
"""One fault for all connections, or that of the first, second, … (none after the last),
or a function of the connection's number, which counts from 0."""

ANSWER_LIMIT = 10.0

_T = TypeVar("_T")


class FaultProxy:
    """Forward a port to an upstream, with faults; a context manager.

    `connection_count` is how many connections were accepted, `open_connections` how many
    are open now; `request_bytes` and `response_bytes` came from clients and upstream.
    """

    def __init__(
        self,
        upstream_host: str,
        upstream_port: int,
        plan: Plan = NO_FAULT,
        *,
        host: str = "127.0.0.1",
    ) -> None:
        """Reserve a port; entering the context listens on it."""
        self.host = host
        self._upstream = (upstream_host, upstream_port)
        self._plan = plan
        self._planned = 0
        self._reserved = ReservedPort(host)
        self.port = self._reserved.port
        self.changed = threading.Condition()
        self.connection_count = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self._pairs: list[Pair] = []
        self._listening: socket.socket | None = None
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._registered: dict[socket.socket, int] = {}
        self._stopping = False
        self._failure: BaseException | None = None

    @property
    def address(self) -> str:
        """Return `host:port`."""
        return format_address(self.host, self.port)

    @property
    def url(self) -> str:
        """Return the base URL for HTTP, without a slash at its end."""
        return f"http://{self.address}"

    @property
    def open_connections(self) -> int:
        """Return the number of client connections that are open now."""
        return len(self._pairs)

    def switch(self, plan: Plan) -> None:
        """Use another plan from now on.

        A single fault takes hold of the open connections, too. A sequence or a function is
        for those to come, which are counted from 0 again.
        """
        self._call(lambda: self._switch(plan))

    def heal(self) -> None:
        """Forward without a fault, on the open connections, too; listen if refusing."""
        self.switch(NO_FAULT)
        self.listen()

    def refuse(self) -> None:
        """Stop listening, so that new connections are refused; the open ones go on."""
        self._call(self._refuse)

    def listen(self) -> None:
        """Listen again after `refuse`."""
        self._call(self._listen)

    def drop_connections(self, *, reset: bool = False) -> None:
        """Close every open connection, with RST if `reset`, and go on listening."""
        self._call(lambda: self._drop(reset))

    def wait_for(self, condition: Callable[[], bool], timeout: float = ANSWER_LIMIT) -> None:
        """Wait until a condition on the proxy's counts holds."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout):
                raise AssertionError(f"not within {timeout} s; {self!r}")

    def __enter__(self) -> Self:
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._listen()
        self._thread = threading.Thread(
            target=self._run, name=f"fault proxy {self.address}", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._waker.send(b"x")
        self._thread.join(ANSWER_LIMIT)
        self._woken.close()
        self._waker.close()
        self._reserved.close()
        if self._thread.is_alive():
            raise RuntimeError(f"a thread that does not end: {self!r}")
        if self._failure is not None and error is None:
            raise self._failure

    def __repr__(self) -> str:
        return (
            f"<FaultProxy {self.address} connections={self.connection_count}"
            f" open={self.open_connections} in={self.request_bytes} out={self.response_bytes}>"
        )

    def _call(self, function: Callable[[], _T]) -> _T:
        """Have the loop call a function, and return its result."""
        if self._failure is not None:
            raise RuntimeError("the proxy's loop has failed") from self._failure
        future: Future[_T] = Future()

        def call() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._calls.put(call)
        self._waker.send(b"x")
        return future.result(ANSWER_LIMIT)

    def _switch(self, plan: Plan) -> None:
        self._plan = plan
        self._planned = 0
        if isinstance(plan, Fault):
            for pair in self._pairs:
                pair.set_fault(plan)
                if plan.drop:
                    pair.close(reset=True)
            self._account([])

    def _listen(self) -> None:
        if self._listening is None:
            self._listening = self._reserved.listen()
            self._listening.setblocking(False)

    def _refuse(self) -> None:
        if self._listening is not None:
            self._set_events(self._listening, 0)
            self._listening.close()
            self._listening = None

    def _drop(self, reset: bool) -> None:
        for pair in self._pairs:
            pair.close(reset=reset)
        self._account([])

    def _run(self) -> None:
        with selectors.DefaultSelector() as self._selector:
            self._selector.register(self._woken, selectors.EVENT_READ)
            try:
                while not self._stopping:
                    self._turn()
            except BaseException as error:
                self._failure = error
            finally:
                self._drop(reset=False)
                self._refuse()

    def _turn(self) -> None:
        """Wait for events and times, then move everything that can move."""
        if self._listening is not None:
            self._set_events(self._listening, selectors.EVENT_READ)
        for pair in self._pairs:
            for sock, events in pair.interests().items():
                self._set_events(sock, events)
        ready: dict[socket.socket, int] = {}
        for key, events in self._selector.select(self._pause()):
            assert isinstance(key.fileobj, socket.socket)
            ready[key.fileobj] = events
        if self._woken in ready:
            self._woken.recv(4096)
        if self._listening is not None and self._listening in ready:
            self._accept(self._listening)
        now = time.monotonic()
        moved = [pair.turn(ready, now) for pair in self._pairs if not pair.closed]
        self._account(moved)
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()()

    def _account(self, moved: Sequence[tuple[int, int]]) -> None:
        """Bring the counts up to date and forget the closed connections."""
        gone = [pair for pair in self._pairs if pair.closed]
        for pair in gone:
            # Before a new socket is given the same descriptor.
            for sock in (pair.client, pair.upstream):
                self._set_events(sock, 0)
        with self.changed:
            self.request_bytes += sum(request for request, _ in moved)
            self.response_bytes += sum(response for _, response in moved)
            self._pairs = [pair for pair in self._pairs if not pair.closed]
            self.changed.notify_all()

    def _set_events(self, sock: socket.socket, events: int) -> None:
        """Wait for these events of a socket, or for none."""
        before = self._registered.get(sock, 0)
        if events == before:
            return
        if not events:
            self._selector.unregister(sock)
            del self._registered[sock]
            return
        if before:
            self._selector.modify(sock, events)
        else:
            self._selector.register(sock, events)
        self._registered[sock] = events

    def _pause(self) -> float | None:
        """Return the seconds until a flow has something to do by itself."""
        flows = (f for pair in self._pairs if pair.connected for f in (pair.request, pair.response))
        due = min((flow.due for flow in flows if flow.due is not None), default=None)
        return None if due is None else max(0.0, due - time.monotonic())

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                client, _ = listening.accept()
                try:
                    pair = Pair(client, self._upstream, self._next_fault())
                except BaseException:
                    client.close()
                    raise
                with self.changed:
                    self.connection_count += 1
                    self._pairs.append(pair)
                if pair.fault.drop:
                    pair.close(reset=True)

    def _next_fault(self) -> Fault:
        number = self._planned
        self._planned += 1
        if isinstance(self._plan, Fault):
            return self._plan
        if callable(self._plan):
            return self._plan(number)
        return self._plan[number] if number < len(self._plan) else NO_FAULT

"""A client's connection through the proxy: two sockets and a flow each way."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from dataclasses import replace

from tests.faults.flow import NO_FAULT, Fault, Flow, Outcome
from tests.servers.ports import family_of

LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)


class Pair:
    """A client's connection and the proxy's own to the upstream."""

    def __init__(self, client: socket.socket, upstream: tuple[str, int], fault: Fault) -> None:
        self.client = client
        self.upstream = socket.socket(family_of(upstream[0]), socket.SOCK_STREAM)
        for sock in (self.client, self.upstream):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = Flow(self.client, self.upstream)
        self.response = Flow(self.upstream, self.client)
        self.connected = False
        self.connecting = False
        self.closed = False
        self._address = upstream
        self.set_fault(fault)

    def set_fault(self, fault: Fault) -> None:
        self.fault = fault
        # A way that is not meant keeps what stops both: the black hole.
        spared = replace(NO_FAULT, black_hole=fault.black_hole)
        self.request.set_fault(spared if fault.direction == "response" else fault)
        self.response.set_fault(spared if fault.direction == "request" else fault)
        if not (fault.black_hole or fault.drop or self.connecting):
            self.connecting = True
            # An error shows when the socket becomes writable.
            self.upstream.connect_ex(self._address)

    def close(self, *, reset: bool) -> None:
        self.closed = True
        with contextlib.suppress(OSError):
            if reset:
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT_AT_ALL)
            else:
                # Closing with unread data would reset the connection.
                self.client.recv(1 << 20)
        self.client.close()
        self.upstream.close()

    def interests(self) -> dict[socket.socket, int]:
        """Return the events to wait for, by socket."""
        read, write = selectors.EVENT_READ, selectors.EVENT_WRITE
        events = {self.client: read * self.request.wants_bytes + write * self.response.blocked}
        if self.connected:
            events[self.upstream] = read * self.response.wants_bytes + write * self.request.blocked
        elif self.connecting:
            events[self.upstream] = write
        return events

    def turn(self, ready: dict[socket.socket, int], now: float) -> tuple[int, int]:
        """Move bytes both ways, and return how many came from the client and the upstream."""
        came = [0, 0]
        try:
            if self.connecting and not self.connected and self.upstream in ready:
                if error := self.upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(error, "the upstream cannot be reached")
                self.connected = True
            outcomes = []
            ways = (
                (self.request, self.client, self.upstream),
                (self.response, self.upstream, self.client),
            )
            for index, (flow, source, sink) in enumerate(ways):
                if ready.get(source, 0) & selectors.EVENT_READ:
                    came[index] = flow.fill(now)
                if ready.get(sink, 0) & selectors.EVENT_WRITE:
                    flow.blocked = False
                if self.connected:
                    outcomes.append(flow.move(now))
        except OSError:
            self.close(reset=True)
            return came[0], came[1]
        finished = self.request.finished and self.response.finished
        # A client that has sent its end is taken for gone where a fault keeps it waiting.
        deserted = self.request.ended and (
            self.fault.black_hole or (self.response.ended and self.response.waits(now))
        )
        if Outcome.RESET in outcomes:
            self.close(reset=True)
        elif Outcome.CUT in outcomes or finished or deserted:
            self.close(reset=False)
        return came[0], came[1]

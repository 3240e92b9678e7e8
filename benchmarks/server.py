"""One process that answers HTTP as fast as Python can, so that the client is what is measured.

Run by `benchmarks.serving` as a file of its own, with the standard library alone. It knows four
requests and is no server for anything else:

- ``GET /small``: a small JSON object with five ordinary headers;
- ``GET /big``: a 64 MiB body out of memory;
- ``GET /events``: a stream of 100,000 server-sent events, and the end of the connection;
- ``POST /swallow``: reads the body, which must have a length, and gives a small answer.

It prints one line of JSON with its ports, picked by the system, and ends when its standard input
does: a parent that dies, however it dies, leaves no server behind.
"""

import gc
import json
import os
import select
import socket
import sys
from collections.abc import Callable

BIG = 64 << 20
SMALL_BODY = (
    b'{"id": 4242, "name": "benchmark", "tags": ["small", "json"], "score": 0.125, "ok": true,'
    b' "next": null}'
)
EVENTS = 100_000
END = b"\r\n\r\n"
SEND_BUFFER = 4 << 20
EPOLL_IN, EPOLL_OUT = 1, 4


def head(length: int, kind: str) -> bytes:
    """Build the start of an answer whose body has `length` bytes."""
    return (
        "HTTP/1.1 200 OK\r\n"
        "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        "Server: benchmark\r\n"
        f"Content-Type: {kind}\r\n"
        f"Content-Length: {length}\r\n"
        "Connection: keep-alive\r\n\r\n"
    ).encode()


SMALL_ANSWER = head(len(SMALL_BODY), "application/json") + SMALL_BODY
BIG_HEAD = head(BIG, "application/octet-stream")


def stream() -> bytes:
    """Build the answer that is a stream of events, each in a chunk as servers send them."""
    kind = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = [("HTTP/1.1 200 OK\r\n" + kind).encode()]
    for number in range(EVENTS):
        event = f'id: {number}\ndata: {{"number": {number}, "name": "benchmark", "ok": true}}\n\n'
        parts.append(b"%x\r\n%b\r\n" % (len(event), event.encode()))
    return b"".join(parts)


class Connection:
    """One client: what it has asked, what it is still owed, what it is still to send."""

    def __init__(self, sock: socket.socket, server: "Server") -> None:
        self.sock = sock
        self.server = server
        self.recv = sock.recv
        self.send = sock.send
        self.known = b""  # the last request that was exactly one small GET
        self.asked = b""
        self.owed: bytes | memoryview = b""
        self.owed_of_big = 0
        self.to_swallow = 0
        self.last = False

    def ready(self, mask: int) -> None:
        """Go on after the system says that the socket can be read or written."""
        if self.owed or self.owed_of_big:
            if self.flush():
                self.answer()
            return
        if self.to_swallow:
            self.swallow()
            return
        data = self.recv(16384)
        if data == self.known and data:
            self.send(SMALL_ANSWER)
            return
        if not data:
            self.server.forget(self)
            return
        self.asked += data
        self.answer()

    def answer(self) -> None:
        """Answer every whole request that has arrived."""
        while True:
            start, end, rest = self.asked.partition(END)
            if not end:
                return
            self.asked = rest
            if start.startswith(b"GET /small"):
                if not rest:
                    self.known = start + end
                self.owed = SMALL_ANSWER
            elif start.startswith(b"GET /big"):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
                self.owed, self.owed_of_big = BIG_HEAD, BIG
            elif start.startswith(b"GET /events"):
                self.owed, self.last = self.server.events, True
            elif start.startswith(b"POST /swallow"):
                lines = start.lower().split(b"\r\n")[1:]
                fields = dict(line.split(b": ", 1) for line in lines)
                if fields.get(b"expect") == b"100-continue":
                    self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.to_swallow = int(fields[b"content-length"]) - len(rest)
                self.asked = b""
                if self.to_swallow:
                    return
                self.owed = SMALL_ANSWER
            else:
                self.owed = head(0, "text/plain").replace(b"200 OK", b"404 Not Found")
            if not self.flush():
                return

    def flush(self) -> bool:
        """Send what is owed, as much as the socket takes now, and tell whether that was all."""
        try:
            while self.owed:
                self.owed = self.owed[self.send(self.owed) :]
            while self.owed_of_big:
                self.owed_of_big -= os.sendfile(
                    self.sock.fileno(), self.server.big, BIG - self.owed_of_big, self.owed_of_big
                )
        except BlockingIOError:
            self.server.watch(self.sock, EPOLL_OUT)
            return False
        if self.last:
            self.server.forget(self)
            return False
        self.server.watch(self.sock, EPOLL_IN)
        return True

    def swallow(self) -> None:
        """Take in and drop as much of a body as has arrived."""
        scratch = self.server.scratch
        count = self.sock.recv_into(scratch, min(len(scratch), self.to_swallow), DROP)
        if not count:
            self.server.forget(self)
            return
        self.to_swallow -= count
        if not self.to_swallow:
            self.send(SMALL_ANSWER)


# On Linux a TCP socket drops what it reads under this flag without copying it anywhere.
DROP = socket.MSG_TRUNC if sys.platform == "linux" else 0


class Server:
    """The loop: one epoll object, a function for each descriptor."""

    def __init__(self, ports: int) -> None:
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.watched: dict[int, int] = {}
        self.scratch = bytearray(1 << 20)
        self.events = memoryview(stream())
        # A file in memory: `sendfile` hands over its pages without copying them.
        self.big = os.memfd_create("big")
        os.write(self.big, b"\xa5" * BIG)
        self.listeners = [self.listen() for _ in range(ports)]

    def listen(self) -> socket.socket:
        """Open one listening port."""
        sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        sock.setblocking(False)
        self.handlers[sock.fileno()] = lambda mask: self.accept(sock)
        self.watch(sock, EPOLL_IN)
        return sock

    def accept(self, listener: socket.socket) -> None:
        """Take every connection that waits at a port."""
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.handlers[sock.fileno()] = Connection(sock, self).ready
            self.watch(sock, EPOLL_IN)

    def watch(self, sock: socket.socket, mask: int) -> None:
        """Ask to be told when a socket can be read or written."""
        descriptor = sock.fileno()
        before = self.watched.get(descriptor)
        if before is None:
            self.epoll.register(descriptor, mask)
        elif before != mask:
            self.epoll.modify(descriptor, mask)
        self.watched[descriptor] = mask

    def forget(self, connection: Connection) -> None:
        """Close a connection that its client has ended."""
        descriptor = connection.sock.fileno()
        self.epoll.unregister(descriptor)
        del self.watched[descriptor], self.handlers[descriptor]
        connection.sock.close()

    def run(self) -> None:
        """Answer until standard input ends; sleep while nothing is asked, as any server does."""
        self.epoll.register(0, EPOLL_IN)
        handlers, poll = self.handlers, self.epoll.poll
        while True:
            for descriptor, mask in poll(-1, 256):
                if descriptor == 0:
                    return
                try:
                    handlers[descriptor](mask)
                except (ConnectionError, BlockingIOError):
                    pass


def main() -> None:
    """Serve: the number of ports, the core to stay on (-1: any)."""
    ports, core = int(sys.argv[1]), int(sys.argv[2])
    if core >= 0:
        os.sched_setaffinity(0, {core})
    server = Server(ports)
    print(json.dumps([sock.getsockname()[1] for sock in server.listeners]), flush=True)
    gc.collect()
    gc.freeze()
    gc.disable()
    server.run()


if __name__ == "__main__":
    main()

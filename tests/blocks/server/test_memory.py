"""How much memory the service needs, however many clients it has."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from holdfast.blocks.locators import BLOCK
from tests.blocks.server.services import Process, locator, md5

CLIENTS = 100

#: Of each block, how much is transferred: more than is in memory of it when there are so many.
PART = 2 << 20

#: Above what an idle service needs, in MiB. Together the blocks have 6,400.
LIMIT = 300


def peak(process: Process) -> int:
    """Return the most memory that a process has ever used, in MiB."""
    for line in Path(f"/proc/{process.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    pytest.skip("the system does not tell how much memory a process used")


def test_many_large_transfers(tmp_path: Path) -> None:
    """100 clients that read and write 64 MiB at once need no more than a few parts of them."""
    data = bytes(BLOCK)
    get = f"GET /{locator(data)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    put = f"PUT /{md5(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: {BLOCK}\r\n\r\n".encode()
    # Nobody is done before all have begun.
    begun = threading.Barrier(CLIENTS)

    def read(sock: socket.socket) -> None:
        sock.sendall(get)
        buffer = bytearray(1 << 18)
        size = sock.recv_into(buffer)
        begun.wait(60)
        while size < PART:
            count = sock.recv_into(buffer)
            assert count
            size += count

    def write(sock: socket.socket) -> None:
        sock.sendall(put)
        begun.wait(60)
        sock.sendall(memoryview(data)[:PART])

    with Process("--data", tmp_path, "--port", "0", "--no-fsync") as service:
        assert service.put(data).status == 200
        before = peak(service)
        for act in (read, write):
            with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
                sockets = [stack.enter_context(service.socket()) for _ in range(CLIENTS)]
                list(pool.map(act, sockets))
            assert peak(service) - before < LIMIT
        assert service.get(locator(data)).body == data

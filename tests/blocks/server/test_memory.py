"""How much memory the service needs, however many clients it has."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.blocks.locators import BLOCK
from tests.blocks.server.services import Process, locator, md5

CLIENTS = 100

#: Above what an idle service needs. All blocks together have 6,400 MiB.
LIMIT = 300


def peak(process: Process) -> int:
    """Return the most memory that a process has ever used, in MiB."""
    for line in Path(f"/proc/{process.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    pytest.skip("the system does not tell how much memory a process used")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_many_large_transfers(tmp_path: Path) -> None:
    """100 clients that read and write 64 MiB at once need no more than a few parts of them."""
    data = bytes(BLOCK)
    get = f"GET /{locator(data)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    put = f"PUT /{md5(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: {BLOCK}\r\n\r\n".encode()
    failures: list[object] = []

    def read(sock: socket.socket) -> None:
        sock.sendall(get)
        buffer = bytearray(1 << 18)
        size = 0
        while size < BLOCK:
            count = sock.recv_into(buffer)
            assert count
            size += count

    def write(sock: socket.socket) -> None:
        sock.sendall(put)
        sock.sendall(data)
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")

    def guarded(act: Callable[[socket.socket], None], sock: socket.socket) -> None:
        try:
            act(sock)
        except Exception as error:
            failures.append(error)

    with Process("--data", tmp_path, "--port", "0", "--no-fsync") as service:
        assert service.put(data).status == 200
        before = peak(service)
        for act in (read, write):
            sockets = [service.socket() for _ in range(CLIENTS)]
            for sock in sockets:
                sock.settimeout(240)
            threads = [threading.Thread(target=guarded, args=(act, sock)) for sock in sockets]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for sock in sockets:
                sock.close()
            assert failures == []
            assert peak(service) - before < LIMIT

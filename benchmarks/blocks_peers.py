"""Clients of block services: ours and that of Arvados, and the services that both are given.

The services are processes of ours, unsigned, that answer before what they have stored reaches the
disk: the disk is the same for both clients, and would hide what they cost. What is only put they
keep in memory where that can be: to make a file, ext4 passes over all that were just removed, and
how many those are is an accident.
"""

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count, cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import urlsplit

from benchmarks import storing
from benchmarks.rounds import Run

BIG = 64 << 20
SMALL = 4096
#: How many different blocks a contestant gets in turn: more than a processor's caches hold.
BLOCKS = 3
MANY = 200
#: On how many services each block is put.
COPIES = 2
#: How many threads get blocks with one client.
THREADS = 16
#: How many gets of our asynchronous client are in flight.
FLIGHT = 50
#: How many clients have a large block transferred at the same time.
CLIENTS = 100

#: The folder that Linux has in memory.
MEMORY = "/dev/shm"

CONFIG = """
[network]
port = 0
[storage]
fsync = false
[scrub]
rate = 0
[[volume]]
path = "blocks"
"""


class Client(Protocol):
    """What both clients can do."""

    def get(self, loc_s: str) -> bytes:
        """Return a block."""

    def put(self, data: bytes, copies: int) -> str:
        """Store a block, and return its locator."""


class Api:
    """As much of an API object as it takes to find the services."""

    api_token = "token"
    insecure = False
    request_id = ""

    def __init__(self, urls: Sequence[str]) -> None:
        self._items = [
            {
                "uuid": f"zzzzz-bi6l4-{number:015d}",
                "service_host": urlsplit(url).hostname,
                "service_port": urlsplit(url).port,
                "service_ssl_flag": False,
                "service_type": "disk",
                "read_only": False,
            }
            for number, url in enumerate(urls)
        ]

    def keep_services(self) -> "Api":
        """Return what lists services."""
        return self

    def accessible(self) -> "Api":
        """Return the request for those that can be reached."""
        return self

    def execute(self) -> dict[str, Any]:
        """Return the list."""
        return {"items": self._items, "items_available": len(self._items)}

    def config(self) -> dict[str, Any]:
        """Return the cluster's configuration."""
        return {"StorageClasses": {"default": {"Default": True}}}


class Services:
    """Running services."""

    def __init__(self, folders: Sequence[Path], urls: Sequence[str], pids: Sequence[int]) -> None:
        self.folders = folders
        self.urls = urls
        self.pids = pids

    def forget(self, locator: str) -> None:
        """Remove a block from all services, so that it can be put anew."""
        for folder in self.folders:
            (folder / locator[:3] / locator[:32]).unlink(missing_ok=True)


@contextmanager
def services(count: int, memory: bool = False) -> Iterator[Services]:
    """Run services, each a process with a folder of its own, until the block ends.

    ``memory``: with folders in memory, if the system has any.
    """
    where = MEMORY if memory and os.path.isdir(MEMORY) else None
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=where)))
        folders, urls, pids = [], [], []
        for number in range(count):
            place = top / str(number)
            place.mkdir()
            (place / "blockd.toml").write_text(CONFIG)
            process = stack.enter_context(service(place / "blockd.toml"))
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            if not line.startswith("listening on "):
                raise RuntimeError("a block service did not start")
            folders.append(place / "blocks")
            urls.append(line.removeprefix("listening on ").strip())
            pids.append(process.pid)
        yield Services(folders, urls, pids)


@contextmanager
def service(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run one service."""
    with subprocess.Popen(
        [sys.executable, "-m", "holdfast.cli", "blockd", "--config", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def our_client(urls: Sequence[str], slots: int = 1) -> Iterator[Client]:
    """Open a client of ours that keeps so many blocks."""
    from holdfast.blocks import KeepBlockCache, KeepClient

    cache = KeepBlockCache(max_slots=slots)
    with KeepClient(Api(urls), proxy="", local_store="", block_cache=cache) as client:
        yield client


@contextmanager
def arvados_client(urls: Sequence[str], slots: int = 1) -> Iterator[Client]:
    """Open one of Arvados', where each get in progress takes one of the slots."""
    from arvados.keep import KeepBlockCache, KeepClient  # type: ignore[import-untyped]

    cache = KeepBlockCache(max_slots=slots)
    yield KeepClient(Api(urls), proxy="", local_store="", block_cache=cache)


def block(size: int, number: int) -> bytes:
    """Return one of many blocks of a size."""
    return number.to_bytes(8, "big") + b"\xa5" * (size - 8)


def stored(urls: Sequence[str], size: int, count: int) -> list[str]:
    """Put blocks on every service; returns their locators."""
    with our_client(urls) as client:
        return [client.put(block(size, number), copies=len(urls)) for number in range(count)]


Open = Callable[..., AbstractContextManager[Client]]


@contextmanager
def gets(open_: Open, place: Services, locators: Sequence[str], slots: int = 1) -> Iterator[Run]:
    """Get blocks in turn, from the services when the client keeps fewer than there are."""
    with open_(place.urls, slots) as client:
        names = cycle(locators)
        yield lambda calls: get(client, islice(names, calls))


@contextmanager
def threaded_gets(open_: Open, place: Services, locators: Sequence[str]) -> Iterator[Run]:
    """Get blocks by many threads with one client."""
    with open_(place.urls, THREADS) as client, ThreadPoolExecutor(THREADS) as pool:
        names = cycle(locators)

        def run(calls: int) -> None:
            left = list(islice(names, calls))
            list(pool.map(get, [client] * THREADS, [left[i::THREADS] for i in range(THREADS)]))

        yield run


@contextmanager
def flying_gets(place: Services, locators: Sequence[str]) -> Iterator[Run]:
    """Get blocks with our asynchronous client, many at a time."""
    import uvloop

    from holdfast.blocks import AsyncKeepClient, KeepBlockCache

    loop = uvloop.new_event_loop()
    cache = KeepBlockCache(max_slots=FLIGHT)
    client = AsyncKeepClient(Api(place.urls), proxy="", local_store="", block_cache=cache)
    names = cycle(locators)

    async def work(left: Iterator[str]) -> None:
        for name in left:
            if len(await client.get(name)) != SMALL:
                raise RuntimeError("not the block that was asked for")

    async def many(calls: int) -> None:
        left = islice(names, calls)
        await asyncio.gather(*(work(left) for _ in range(FLIGHT)))

    try:
        yield lambda calls: loop.run_until_complete(many(calls))
    finally:
        loop.run_until_complete(client.aclose())
        loop.close()


def get(client: Client, locators: Iterable[str]) -> None:
    """Get blocks, and see that they have come; the client has checked what is in them."""
    for name in locators:
        if len(client.get(name)) != int(name.split("+")[1]):
            raise RuntimeError("not the block that was asked for")


@contextmanager
def puts(open_: Open, place: Services, size: int) -> Iterator[Run]:
    """Put two copies of blocks that no service has."""
    first = int.from_bytes(os.urandom(7), "big") << 8
    # Making a large block takes long, and so does removing it: some are put again and again.
    made = [block(BIG, first + number) for number in range(BLOCKS)] if size == BIG else []
    data = cycle(made) if made else (block(size, number) for number in count(first))
    with open_(place.urls) as client:

        def run(calls: int) -> float:
            aside = 0.0
            for one in islice(data, calls):
                locator = client.put(one, copies=COPIES)
                if made:
                    began = perf_counter()
                    place.forget(locator)
                    aside += perf_counter() - began
            return aside

        yield run


@contextmanager
def hashing() -> Iterator[Run]:
    """Only take the MD5 of a large block."""
    data = block(BIG, 0)

    def run(calls: int) -> None:
        for _ in range(calls):
            hashlib.md5(data, usedforsecurity=False).digest()

    yield run


@contextmanager
def raw_puts(place: Services) -> Iterator[Run]:
    """Take the MD5, send the copies by bare sockets, and have each hashed and stored: no more."""
    data = block(BIG, 0)
    files = [folder.parent / "raw" for folder in place.folders[:COPIES]]
    with ExitStack() as stack:
        sockets = [stack.enter_context(raw_store(file)) for file in files]
        pool = stack.enter_context(ThreadPoolExecutor(COPIES))

        def send(sock: socket.socket) -> None:
            sock.sendall(data)
            if not sock.recv(1):
                raise RuntimeError("the block was not stored")

        def run(calls: int) -> float:
            aside = 0.0
            for _ in range(calls):
                hashlib.md5(data, usedforsecurity=False).digest()
                list(pool.map(send, sockets))
                began = perf_counter()
                for file in files:
                    file.unlink()
                aside += perf_counter() - began
            return aside

        yield run


@contextmanager
def raw_store(file: Path) -> Iterator[socket.socket]:
    """Run a process that stores what it is sent in a file; gives the connection to it."""
    with subprocess.Popen(
        [sys.executable, str(Path(storing.__file__)), str(file), str(BIG)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", port)) as sock:
                yield sock
        finally:
            process.stdin.close()


@contextmanager
def raw_gets(place: Services, locator: str) -> Iterator[Run]:
    """Ask one service for a small block by a bare socket, and do not check it."""
    url = urlsplit(place.urls[0])
    request = f"GET /{locator} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode()
    with socket.create_connection((url.hostname or "", url.port or 0)) as sock:

        def run(calls: int) -> None:
            for _ in range(calls):
                sock.send(request)
                got = b""
                while len(got.partition(b"\r\n\r\n")[2]) < SMALL:
                    got += sock.recv(65536)

        yield run


def peak(place: Services, get_: bool) -> float:
    """Return by how much the memory of a service grew at most, in bytes.

    `CLIENTS` at once get the same block of 64 MiB, or put one.
    """
    pid, url = place.pids[0], urlsplit(place.urls[0])
    data = block(BIG, 0)
    name = hashlib.md5(data, usedforsecurity=False).hexdigest()
    head = f"GET /{name}+{BIG}" if get_ else f"PUT /{name}"
    head += f" HTTP/1.1\r\nHost: {url.netloc}\r\n"
    request = f"{head}\r\n" if get_ else f"{head}Content-Length: {BIG}\r\n\r\n"

    def one(sock: socket.socket) -> None:
        sock.sendall(request.encode())
        left = BIG
        buffer = bytearray(1 << 18)
        if not get_:
            sock.sendall(data)
            left = 1
        while left > 0:
            size = sock.recv_into(buffer)
            if not size:
                raise RuntimeError("the service closed the connection")
            left -= size

    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = high_water(pid)
    with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        address = url.hostname or "", url.port or 0
        sockets = [
            stack.enter_context(socket.create_connection(address, timeout=300))
            for _ in range(CLIENTS)
        ]
        list(pool.map(one, sockets))
    return high_water(pid) - before


def high_water(pid: int) -> float:
    """Return the most memory that a process has used, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell how much memory a process used")

"""What a kept connection costs in memory.

Each contestant is measured in a process of its own, twice: once as Python counts what it has
allocated, once as the system counts the pages that are resident. The objects that know the hosts
are made before, so that what is counted is what connecting and one call added, once the responses
are gone. What the kernel keeps for a socket is in neither figure.
"""

import gc
import json
import os
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import allow_sockets
from benchmarks.rounds import progress
from benchmarks.serving import HOST, Target
from benchmarks.sync_peers import PATH

CONNECTIONS = 500
Connect = Callable[[], None]


@dataclass(frozen=True)
class Footprint:
    """What one kept connection of a client costs, in bytes."""

    name: str
    python: float | None = None
    resident: float | None = None
    problem: str = ""

    @property
    def failed(self) -> bool:
        """Tell whether it took part and could not do the work."""
        return self.problem.startswith("failed")


@contextmanager
def raw(ports: list[int]) -> Iterator[Connect]:
    """Keep bare sockets."""
    request = f"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with ExitStack() as stack:
        kept: list[socket.socket] = []

        def connect() -> None:
            for port in ports:
                sock = stack.enter_context(socket.create_connection((HOST, port)))
                sock.send(request)
                sock.recv(4096)
                kept.append(sock)

        yield connect


@contextmanager
def holdfast(ports: list[int]) -> Iterator[Connect]:
    """Keep the connections of clusters of one host each, with every default policy on."""
    from holdfast import Cluster

    with ExitStack() as stack:
        clusters = [stack.enter_context(Cluster([f"{HOST}:{port}"])) for port in ports]

        def connect() -> None:
            for cluster in clusters:
                if cluster.get(PATH).status_code != 200:
                    raise AssertionError("the server did not answer")

        yield connect


@contextmanager
def urllib3(ports: list[int]) -> Iterator[Connect]:
    """Keep the connections of pools of one host each."""
    from urllib3 import HTTPConnectionPool

    with ExitStack() as stack:
        pools = [stack.enter_context(HTTPConnectionPool(HOST, port)) for port in ports]

        def connect() -> None:
            for pool in pools:
                if pool.request("GET", PATH).status != 200:
                    raise AssertionError("the server did not answer")

        yield connect


OPENS = {"raw socket": raw, "holdfast": holdfast, "urllib3": urllib3}


def resident(process: int | str = "self") -> int:
    """Return the bytes of a process, by default of this one, that are resident."""
    with open(f"/proc/{process}/statm", encoding="ascii") as numbers:
        return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def weigh(name: str, ports: list[int], python: bool) -> float:
    """Return bytes a kept connection, in this process."""
    allow_sockets()
    open_ = OPENS[name]
    with open_(ports[:1]) as connect:
        connect()  # what is made once, by the first call of all
    with open_(ports) as connect:
        if python:
            tracemalloc.start()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0] if python else resident()
        connect()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0] if python else resident()
    return (after - before) / len(ports)


def footprints(target: Target) -> list[Footprint]:
    """Weigh every contestant in processes of their own."""
    found = []
    for name in OPENS:
        progress(f"memory: {name}")
        figures: list[float] = []
        problem = ""
        for python in (True, False):
            order = json.dumps([name, target.ports[:CONNECTIONS], python])
            child = subprocess.run(
                [sys.executable, "-m", "benchmarks.memory"],
                input=order,
                capture_output=True,
                text=True,
                cwd=Path(__file__).parent.parent,
            )
            last = (child.stderr.strip().splitlines() or ["no reason given"])[-1]
            if child.returncode == 0:
                figures.append(float(child.stdout))
            elif last.startswith(("ImportError", "ModuleNotFoundError")) and name != "holdfast":
                problem = "not installed"
            else:
                problem = f"failed: {last}"
        if problem:
            found.append(Footprint(name, problem=problem))
        else:
            found.append(Footprint(name, figures[0], figures[1]))
    return found


if __name__ == "__main__":
    print(weigh(*json.load(sys.stdin)))

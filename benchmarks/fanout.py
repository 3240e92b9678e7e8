"""One call to each of a hundred hosts: a hundred ports, each a host of its own to a client."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.rounds import Contestant, Run
from benchmarks.serving import HOST, SMALL_ANSWER, Target
from benchmarks.sync_peers import PATH, check

if TYPE_CHECKING:
    from urllib3 import HTTPConnectionPool

HOSTS = 100
THREADS = 20


def contestants(target: Target) -> list[Contestant]:
    """List who calls a hundred hosts; one call of theirs is a hundred requests."""
    return [
        Contestant("raw: send to all, then read all", partial(raw, target)),
        Contestant("holdfast, broadcast", partial(holdfast, target), ours=True),
        Contestant("holdfast, one after the other", partial(holdfast_loop, target), ours=True),
        Contestant("urllib3, one after the other", partial(urllib3_loop, target)),
        Contestant(f"urllib3, {THREADS} threads", partial(urllib3_threads, target)),
    ]


@contextmanager
def raw(target: Target) -> Iterator[Run]:
    """Send to every host, then read from every host: the ceiling."""
    request = target.get(PATH)
    with ExitStack() as stack:
        socks = [
            stack.enter_context(socket.create_connection((HOST, port)))
            for port in target.ports[:HOSTS]
        ]

        def run(calls: int) -> None:
            for _ in range(calls):
                for sock in socks:
                    sock.send(request)
                for sock in socks:
                    got = len(sock.recv(65536))
                    while got < SMALL_ANSWER:
                        got += len(sock.recv(65536))

        yield run


@contextmanager
def holdfast(target: Target) -> Iterator[Run]:
    """Broadcast, with every default policy on."""
    from holdfast import Cluster

    with Cluster(target.hosts[:HOSTS]) as cluster:

        def run(calls: int) -> None:
            for _ in range(calls):
                responses = cluster.broadcast("GET", PATH)
                if len(responses) != HOSTS:
                    raise AssertionError(f"got {len(responses)} responses")
                for response in responses:
                    check(response.status_code, len(response.content))

        yield run


@contextmanager
def holdfast_loop(target: Target) -> Iterator[Run]:
    """Call a cluster of each host alone, one after the other."""
    from holdfast import Cluster

    with ExitStack() as stack:
        clusters = [stack.enter_context(Cluster([host])) for host in target.hosts[:HOSTS]]

        def run(calls: int) -> None:
            for _ in range(calls):
                for cluster in clusters:
                    response = cluster.get(PATH)
                    check(response.status_code, len(response.content))

        yield run


@contextmanager
def urllib3_pools(target: Target) -> Iterator[list["HTTPConnectionPool"]]:
    """Keep a pool for each host."""
    from urllib3 import HTTPConnectionPool

    with ExitStack() as stack:
        yield [stack.enter_context(HTTPConnectionPool(HOST, port)) for port in target.ports[:HOSTS]]


def one(pool: "HTTPConnectionPool") -> None:
    """Call one host."""
    response = pool.request("GET", PATH)
    check(response.status, len(response.data))


@contextmanager
def urllib3_loop(target: Target) -> Iterator[Run]:
    """Call each host, one after the other."""
    with urllib3_pools(target) as pools:

        def run(calls: int) -> None:
            for _ in range(calls):
                for pool in pools:
                    one(pool)

        yield run


@contextmanager
def urllib3_threads(target: Target) -> Iterator[Run]:
    """Call all hosts from a pool of threads, as people do."""
    with urllib3_pools(target) as pools, ThreadPoolExecutor(THREADS) as executor:

        def run(calls: int) -> None:
            for _ in range(calls):
                for _ in executor.map(one, pools):
                    pass

        yield run

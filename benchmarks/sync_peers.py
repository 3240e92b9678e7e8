"""One connection, one call after the other, by every client.

Each client is used in the fastest form that its own documentation would call ordinary: a kept
connection, a session or a pool, a handle used again. Each reads the status and the whole body as
bytes, and nobody decodes the JSON.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.rounds import Contestant, Run
from benchmarks.serving import SMALL_ANSWER, SMALL_BODY, Target

PATH = "/small"


def contestants(target: Target) -> list[Contestant]:
    """List who makes synchronous calls."""
    return [
        Contestant("raw socket loop", partial(raw, target)),
        Contestant("holdfast", partial(holdfast, target), ours=True),
        Contestant("pycurl", partial(pycurl, target)),
        Contestant("pyreqwest", partial(pyreqwest, target)),
        Contestant("http.client", partial(http_client, target)),
        Contestant("urllib3", partial(urllib3, target)),
        Contestant("httpx2", partial(httpx2, target)),
        Contestant("requests", partial(requests, target)),
    ]


def check(status: int, length: int) -> None:
    """Fail unless an answer is the one expected."""
    if status != 200 or length != SMALL_BODY:
        raise AssertionError(f"got status {status} and {length} bytes")


@contextmanager
def raw(target: Target) -> Iterator[Run]:
    """Send fixed bytes and read as many as the answer has: the ceiling."""
    with socket.create_connection(target.address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = target.get(PATH)

        def run(calls: int) -> None:
            send, recv = sock.send, sock.recv
            for _ in range(calls):
                send(request)
                got = len(recv(65536))
                while got < SMALL_ANSWER:
                    got += len(recv(65536))

        yield run


@contextmanager
def holdfast(target: Target) -> Iterator[Run]:
    """Call with every default policy on."""
    from holdfast import Cluster

    with Cluster([target.hosts[0]]) as cluster:

        def run(calls: int) -> None:
            for _ in range(calls):
                response = cluster.get(PATH)
                check(response.status_code, len(response.content))

        yield run


@contextmanager
def pycurl(target: Target) -> Iterator[Run]:
    """Use one handle again and again, with its body collected by a list."""
    import pycurl

    curl = pycurl.Curl()
    chunks: list[bytes] = []
    curl.setopt(pycurl.URL, target.url + PATH)
    curl.setopt(pycurl.WRITEFUNCTION, chunks.append)
    code = pycurl.RESPONSE_CODE

    def run(calls: int) -> None:
        for _ in range(calls):
            chunks.clear()
            curl.perform()
            check(curl.getinfo(code), len(b"".join(chunks)))

    try:
        yield run
    finally:
        curl.close()


@contextmanager
def pyreqwest(target: Target) -> Iterator[Run]:
    """Use its blocking client."""
    from pyreqwest.client import SyncClientBuilder

    url = target.url + PATH
    with SyncClientBuilder().build() as client:

        def run(calls: int) -> None:
            for _ in range(calls):
                response = client.get(url).build().send()
                check(response.status, len(response.bytes()))

        yield run


@contextmanager
def http_client(target: Target) -> Iterator[Run]:
    """Keep one connection of the standard library."""
    from http.client import HTTPConnection

    connection = HTTPConnection(*target.address)

    def run(calls: int) -> None:
        for _ in range(calls):
            connection.request("GET", PATH)
            response = connection.getresponse()
            check(response.status, len(response.read()))

    try:
        yield run
    finally:
        connection.close()


@contextmanager
def urllib3(target: Target) -> Iterator[Run]:
    """Use a pool for the one host, which spares the search for a pool."""
    from urllib3 import HTTPConnectionPool

    with HTTPConnectionPool(*target.address) as pool:

        def run(calls: int) -> None:
            for _ in range(calls):
                response = pool.request("GET", PATH)
                check(response.status, len(response.data))

        yield run


@contextmanager
def httpx2(target: Target) -> Iterator[Run]:
    """Keep one client."""
    from httpx2 import Client

    url = target.url + PATH
    with Client() as client:

        def run(calls: int) -> None:
            for _ in range(calls):
                response = client.get(url)
                check(response.status_code, len(response.content))

        yield run


@contextmanager
def requests(target: Target) -> Iterator[Run]:
    """Keep one session."""
    from requests import Session

    url = target.url + PATH
    with Session() as session:

        def run(calls: int) -> None:
            for _ in range(calls):
                response = session.get(url)
                check(response.status_code, len(response.content))

        yield run

"""Bodies of 64 MiB both ways, beside a loop that only moves the bytes."""

import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.rounds import Contestant, Run
from benchmarks.serving import BIG, BIG_ANSWER, SMALL_ANSWER, Target

FILL = 0xA5
# With the 16 KiB that libcurl takes by itself it would call Python 4096 times a body.
CURL_BUFFER = 512 << 10


def downloads(target: Target) -> list[Contestant]:
    """List who downloads."""
    return [
        Contestant("raw recv_into loop", partial(raw_download, target)),
        Contestant("holdfast, into=buffer", partial(holdfast_into, target), ours=True),
        Contestant("holdfast, whole", partial(holdfast_whole, target), ours=True),
        Contestant("pycurl, into a buffer", partial(pycurl_download, target)),
    ]


def uploads(target: Target) -> list[Contestant]:
    """List who uploads."""
    return [
        Contestant("raw sendall", partial(raw_upload, target)),
        Contestant("holdfast, content=bytes", partial(holdfast_upload, target), ours=True),
        Contestant("pycurl, from bytes", partial(pycurl_upload, target)),
    ]


def check(status: int, length: int, last: int) -> None:
    """Fail unless a download is whole."""
    if status != 200 or length != BIG or last != FILL:
        raise AssertionError(f"got status {status}, {length} bytes, the last is {last:#x}")


def check_upload(status: int) -> None:
    """Fail unless an upload was taken."""
    if status != 200:
        raise AssertionError(f"got status {status}")


@contextmanager
def raw_download(target: Target) -> Iterator[Run]:
    """Read into one buffer until as many bytes as the answer has are there."""
    request = target.get("/big")
    buffer = bytearray(BIG_ANSWER)
    view = memoryview(buffer)
    with socket.create_connection(target.address) as sock:

        def run(calls: int) -> None:
            for _ in range(calls):
                buffer[-1] = 0
                sock.send(request)
                got = 0
                while got < BIG_ANSWER:
                    got += sock.recv_into(view[got:])
                check(200, BIG, buffer[-1])

        yield run


@contextmanager
def holdfast_into(target: Target) -> Iterator[Run]:
    """Download into one buffer, used again."""
    from holdfast import Cluster

    buffer = bytearray(BIG)
    with Cluster([target.hosts[0]]) as cluster:

        def run(calls: int) -> None:
            for _ in range(calls):
                buffer[-1] = 0
                response = cluster.get("/big", into=buffer)
                check(response.status_code, len(buffer), buffer[-1])

        yield run


@contextmanager
def holdfast_whole(target: Target) -> Iterator[Run]:
    """Download into bytes of each response's own."""
    from holdfast import Cluster

    with Cluster([target.hosts[0]]) as cluster:

        def run(calls: int) -> None:
            for _ in range(calls):
                response = cluster.get("/big")
                content = response.content
                check(response.status_code, len(content), content[-1])

        yield run


@contextmanager
def pycurl_download(target: Target) -> Iterator[Run]:
    """Download into one buffer, used again."""
    import pycurl

    curl = pycurl.Curl()
    body = io.BytesIO(bytes(BIG))
    curl.setopt(pycurl.URL, target.url + "/big")
    curl.setopt(pycurl.BUFFERSIZE, CURL_BUFFER)
    curl.setopt(pycurl.WRITEDATA, body)

    def run(calls: int) -> None:
        for _ in range(calls):
            body.seek(0)
            curl.perform()
            with body.getbuffer() as view:
                check(curl.getinfo(pycurl.RESPONSE_CODE), body.tell(), view[-1])

    try:
        yield run
    finally:
        curl.close()


@contextmanager
def raw_upload(target: Target) -> Iterator[Run]:
    """Send a head and a body, and read the answer."""
    request = target.post("/swallow", BIG)
    content = bytes(BIG)
    with socket.create_connection(target.address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def run(calls: int) -> None:
            for _ in range(calls):
                sock.sendall(request)
                sock.sendall(content)
                got = 0
                while got < SMALL_ANSWER:
                    got += len(sock.recv(65536))

        yield run


@contextmanager
def holdfast_upload(target: Target) -> Iterator[Run]:
    """Post bytes."""
    from holdfast import Cluster

    content = bytes(BIG)
    with Cluster([target.hosts[0]]) as cluster:

        def run(calls: int) -> None:
            for _ in range(calls):
                response = cluster.post("/swallow", content=content)
                check_upload(response.status_code)

        yield run


@contextmanager
def pycurl_upload(target: Target) -> Iterator[Run]:
    """Post bytes, which it refers to and does not copy."""
    import pycurl

    curl = pycurl.Curl()
    chunks: list[bytes] = []
    curl.setopt(pycurl.URL, target.url + "/swallow")
    curl.setopt(pycurl.POSTFIELDS, bytes(BIG))
    # It would ask whether to go on and wait for the answer, which the others do not.
    curl.setopt(pycurl.HTTPHEADER, ["Expect:"])
    curl.setopt(pycurl.UPLOAD_BUFFERSIZE, CURL_BUFFER)
    curl.setopt(pycurl.WRITEFUNCTION, chunks.append)

    def run(calls: int) -> None:
        for _ in range(calls):
            chunks.clear()
            curl.perform()
            check_upload(curl.getinfo(pycurl.RESPONSE_CODE))

    try:
        yield run
    finally:
        curl.close()

"""What jobs cost a dispatcher: memory of those who wait, latency under load, and a full store."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

from benchmarks.jobs_peers import HOST, ROOT
from benchmarks.memory import resident
from benchmarks.rounds import Run
from holdfast.cli.demo.daemons import Site, site
from holdfast.jobs import AsyncHarpCaller, HarpCaller, RemoteCall

OFFERED = str(Path(__file__).with_name("jobs_offered.py"))
#: How many jobs are in flight.
FLIGHT = 50


@contextmanager
def ours(place: Site) -> Iterator[Run]:
    """Submit jobs and wait for their results, many at a time."""
    loop = asyncio.new_event_loop()
    caller = AsyncHarpCaller(HOST, place.port)
    server = caller.host(place.hosts[0])

    async def work(left: Iterator[int]) -> None:
        for _ in left:
            if await (await server.noop()).get() is not None:
                raise RuntimeError("not the result of the job")

    async def many(calls: int) -> None:
        left = iter(range(calls))
        async with asyncio.TaskGroup() as group:
            for _ in range(FLIGHT):
                group.create_task(work(left))

    try:
        yield lambda calls: loop.run_until_complete(many(calls))
    finally:
        loop.run_until_complete(caller.aclose())
        loop.close()


@contextmanager
def stream(place: Site) -> Iterator[Run]:
    """Follow a stream: a call is a packet."""
    with HarpCaller(HOST, place.port) as caller:

        def run(calls: int) -> None:
            job = caller.host(place.hosts[0]).stream(calls)
            with job.follow(since=0) as packets:
                seen = sum(1 for _ in packets)
            if seen != calls or job.get() != calls:
                raise RuntimeError(f"{seen} of {calls} packets came")

        yield run


def waiting_jobs(place: Site, count: int) -> float:
    """Return the dispatcher's bytes of memory for a job that waits in a queue."""
    with HarpCaller(HOST, place.port) as caller:
        server = caller.host(place.hosts[0], queue={"benchmark": "memory"}, concurrency=1)
        first = server.hold()
        with first.follow(since=0) as packets:
            next(packets)
        jobs = [server.noop() for _ in range(count // 10)]  # what is allocated only once
        before = resident(place.dispatcher.pid)
        jobs += [server.noop() for _ in range(count)]
        after = resident(place.dispatcher.pid)
        for job in reversed(jobs):
            job.cancel()
        first.cancel()
    return (after - before) / count


def followers(place: Site, count: int) -> float:
    """Return the dispatcher's bytes of memory for a follower to whom nothing comes."""
    with HarpCaller(HOST, place.port) as caller, ExitStack() as stack:
        job = caller.host(place.hosts[0]).hold()
        request = json.dumps({"harpcaller": 1, "follow_stream": job.id(), "since": 0}) + "\n"

        def follow(many: int) -> None:
            for _ in range(many):
                sock = stack.enter_context(socket.create_connection((HOST, place.port)))
                sock.sendall(request.encode())
                if not sock.recv(1000).startswith(b'{"packet":0,'):
                    raise RuntimeError("the stream did not begin")

        follow(count // 10)
        before = resident(place.dispatcher.pid)
        follow(count)
        after = resident(place.dispatcher.pid)
        job.cancel()
    return (after - before) / count


def submit_latency(place: Site, count: int) -> tuple[float, float]:
    """Return p50 and p99 of a submit, in seconds, while another process has jobs in flight."""
    load = [sys.executable, "-m", "benchmarks.jobs_costs", str(place.port), place.hosts[0]]
    with subprocess.Popen(load, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        took = []
        mine: deque[RemoteCall] = deque()
        with HarpCaller(HOST, place.port) as caller:
            server = caller.host(place.hosts[0])
            for _ in range(count):
                if len(mine) == FLIGHT // 5:
                    mine.popleft().get()
                began = time.perf_counter()
                mine.append(server.noop())
                took.append(time.perf_counter() - began)
            for job in mine:
                job.get()
        if process.poll() is not None:
            raise RuntimeError("the load ended early")
        process.stdin.close()
    percentiles = quantiles(took, n=100)
    return percentiles[49], percentiles[98]


def fill(directory: Path, count: int) -> None:
    """Record so many jobs that have ended, as a dispatcher would have."""
    from holdfast.jobs.dispatcher.sqlite import SqliteStore
    from holdfast.jobs.dispatcher.store import Record

    async def write() -> None:
        store = SqliteStore(directory)
        await store.open()
        now = int(time.time())

        def record(job_id: str) -> Record:
            return Record(job_id, "host1", "noop", b"[]", now, started=now)

        for start in range(0, count, 1000):
            ids = [str(uuid4()) for _ in range(start, min(start + 1000, count))]
            await asyncio.gather(*(store.submit(record(one)) for one in ids))
            await asyncio.gather(
                *(store.end(one, b'{"result":null}', started=now, ended=now) for one in ids)
            )
        await store.close()

    directory.mkdir(parents=True, exist_ok=True)
    asyncio.run(write())


@contextmanager
def recorded(count: int) -> Iterator[Run]:
    """Submit jobs to a dispatcher that has so many recorded already."""
    with (
        site(1, OFFERED, lambda directory: fill(directory, count)) as place,
        ours(place) as run,
    ):
        yield run


def main() -> None:
    """Be the load, until the standard input closes."""
    port, host = int(sys.argv[1]), sys.argv[2]

    async def load() -> None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_reader(0, over.set)
        async with AsyncHarpCaller(HOST, port) as caller:
            server = caller.host(host)

            async def work() -> None:
                while not over.is_set():
                    await (await server.noop()).get()

            async with asyncio.TaskGroup() as group:
                for _ in range(FLIGHT):
                    group.create_task(work())
                await (await server.noop()).get()
                print("under way", flush=True)

    asyncio.run(load())
    os._exit(0)


if __name__ == "__main__":
    main()

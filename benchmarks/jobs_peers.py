"""The peers of jobs: RQ and Celery, each on a Redis of its own that keeps nothing on disk.

    python -m benchmarks.jobs_peers rq|celery URL

is one of their workers.
"""

import os
import shutil
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.rounds import Run

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
#: Seconds that anything may take.
LIMIT = 60


def noop() -> None:
    """Return at once: the job of RQ."""


def celery_app(url: str) -> Any:
    """Return the application of Celery, with its job."""
    from celery import Celery  # type: ignore[import-untyped]

    app = Celery("benchmarks", broker=url, backend=url)
    app.conf.broker_connection_retry_on_startup = True
    app.task(noop, name="noop")
    return app


def workers() -> int:
    """Return how many workers of a kind there are: enough that all cores are busy."""
    return 2 * (os.cpu_count() or 1)


@contextmanager
def process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block ends."""
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with running:
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis without persistence; gives its URL. Raises ImportError where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        raise ImportError("no redis-server on this machine: apt-get install redis-server")
    import redis

    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    options = {"bind": HOST, "port": str(port), "save": "", "appendonly": "no"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    with process([program, *arguments]) as running:
        client = redis.Redis(HOST, port)
        with client:
            for _ in range(1000):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    if running.poll() is not None:
                        raise RuntimeError("redis-server did not start") from None
                    with socket.socket() as pause:  # a refused connection costs no time
                        pause.settimeout(0.01)
                        try:
                            pause.recv(1)
                        except OSError:
                            pass
        yield f"redis://{HOST}:{port}/0"


def pipelined(submit: Callable[[], Any], wait: Callable[[Any], None], flight: int) -> Run:
    """Return what keeps so many jobs in flight: the oldest is waited for."""

    def run(calls: int) -> None:
        waiting: deque[Any] = deque()
        for _ in range(calls):
            if len(waiting) == flight:
                wait(waiting.popleft())
            waiting.append(submit())
        while waiting:
            wait(waiting.popleft())

    return run


@contextmanager
def rq(flight: int) -> Iterator[Run]:
    """Submit to RQ, whose workers fork a process for each job."""
    import redis as redis_client
    from rq import Queue
    from rq.results import Result

    with ExitStack() as stack:
        url = stack.enter_context(redis_server())
        for _ in range(workers()):
            command = [sys.executable, "-m", "benchmarks.jobs_peers", "rq", url]
            stack.enter_context(process(command))
        connection = stack.enter_context(redis_client.Redis.from_url(url))
        queue = Queue(connection=connection)

        def wait(job: Any) -> None:
            found = job.latest_result(timeout=LIMIT)
            if found is None or found.type is not Result.Type.SUCCESSFUL:
                raise RuntimeError(f"the job did not succeed: {found}")

        yield pipelined(lambda: queue.enqueue(noop), wait, flight)


@contextmanager
def celery(flight: int) -> Iterator[Run]:
    """Submit to Celery, whose pool of processes runs one job after the other."""
    with ExitStack() as stack:
        url = stack.enter_context(redis_server())
        command = [sys.executable, "-m", "benchmarks.jobs_peers", "celery", url]
        stack.enter_context(process(command))
        app = stack.enter_context(celery_app(url))
        task = app.tasks["noop"]
        yield pipelined(task.delay, lambda result: result.get(timeout=LIMIT), flight)


def main() -> None:
    """Be a worker."""
    kind, url = sys.argv[1:]
    if kind == "rq":
        import redis as redis_client
        from rq import Worker

        Worker(["default"], connection=redis_client.Redis.from_url(url)).work(logging_level="ERROR")
    else:
        options = ["--pool", "prefork", "--concurrency", str(workers()), "--loglevel", "ERROR"]
        options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        celery_app(url).worker_main(["worker", *options])


if __name__ == "__main__":
    # Jobs are found by their names, so this module is to have its own.
    from benchmarks import jobs_peers

    jobs_peers.main()

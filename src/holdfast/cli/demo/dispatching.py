"""Jobs on three hosts, through a dispatcher that is killed while one of them streams."""

from __future__ import annotations

import os
import threading
import time
from itertools import accumulate
from time import monotonic
from typing import TYPE_CHECKING

from holdfast.cli.demo.daemons import site
from holdfast.console.report import Dispatched
from holdfast.jobs import HarpCaller, HarpException, RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.cli.demo.daemons import Site
    from holdfast.jobs import RemoteCall

__all__ = ["HOSTS", "JOBS", "most_at_once", "run"]

HOSTS = 3
#: In a queue, of which so many run at once.
JOBS, LIMIT = 100, 3
#: Seconds that each of them takes.
_WORK = 0.02
#: Packets that were followed when the dispatcher is killed, and seconds between two.
_KILL_AT, _PAUSE = 200, 0.002
#: Who follows the stream.
_FOLLOWERS = 2
#: Seconds that anything may take.
_PATIENCE = 30.0


def run() -> Dispatched:
    """Run the jobs. Raises ServerFailed when the dispatcher or a host does not start."""
    with site(HOSTS) as place, HarpCaller("127.0.0.1", place.port) as caller:
        began = monotonic()
        queued = _queued(caller, place.hosts)
        results = [_result(job) for job in queued]
        done = [one for one in results if isinstance(one, list)]
        cancelled, gone = _cancelled(caller, place.hosts[1])
        streamed = _streamed(caller, place)
        kept = [_result(job) for job in queued]
        right = [number for number, one in enumerate(results) if one in done and one[0] == number]
        return Dispatched(
            hosts=HOSTS,
            jobs=JOBS,
            done=len(right),
            limit=LIMIT,
            at_once=most_at_once((one[1], one[2]) for one in done),
            kept=sum(kept[number] == results[number] for number in right),
            followers=_FOLLOWERS,
            packets=streamed[0],
            once=streamed[1],
            ended=streamed[2],
            cancelled=cancelled,
            gone=gone,
            seconds=monotonic() - began,
        )


def _queued(caller: HarpCaller, hosts: Sequence[str]) -> list[RemoteCall]:
    """Submit jobs to one queue, to each host in turn."""
    servers = [caller.host(host, queue={"demo": 1}, concurrency=LIMIT) for host in hosts]
    return [servers[number % len(servers)].work(number, _WORK) for number in range(JOBS)]


def _result(job: RemoteCall) -> object:
    return job.result(wait=True)


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Return how many spans of time there are at one time, at most."""
    changes = sorted(change for began, ended in spans for change in ((began, 1), (ended, -1)))
    return max(accumulate(step for _, step in changes), default=0)


def _cancelled(caller: HarpCaller, host: str) -> tuple[bool, bool]:
    """Cancel a job that would never end; tell whether that was so, and its process is gone."""
    job = caller.host(host).hang()
    with job.follow(since=0) as packets:
        pid = next(packets)
    was = job.cancel()
    end = monotonic() + _PATIENCE
    while _exists(pid):
        if monotonic() > end:
            return was, False
        time.sleep(0.005)
    return was, True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class _Follower:
    """Someone who follows a job's stream, on a thread and a connection of their own."""

    def __init__(self, place: Site, job_id: str) -> None:
        self.seen: list[tuple[int, int]] = []
        self.enough = threading.Event()
        self.result: object = None
        self._caller = HarpCaller("127.0.0.1", place.port)
        self._job = self._caller.job(job_id)
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self) -> None:
        try:
            with self._caller, self._job.follow(since=0, numbered=True) as packets:
                for packet in packets:
                    self.seen.append(packet)
                    if len(self.seen) >= _KILL_AT:
                        self.enough.set()
                self.result = self._job.result(wait=True)
        except HarpException as error:
            self.result = error
        finally:
            self.enough.set()


def _streamed(caller: HarpCaller, place: Site) -> tuple[int, bool, str]:
    """Kill the dispatcher while a stream is followed, and start it again.

    Returns how many packets are recorded; whether each follower had all of them, once and in
    order; and how the job ended.
    """
    job = caller.host(place.hosts[2]).count(1_000_000, _PAUSE)
    followers = [_Follower(place, job.id()) for _ in range(_FOLLOWERS)]
    for follower in followers:
        follower.enough.wait(_PATIENCE)
    place.dispatcher.kill()
    place.dispatcher.start()
    place.dispatcher.wait()
    for follower in followers:
        follower.thread.join(_PATIENCE)
    recorded = job.stream(since=0, numbered=True).all()
    whole = recorded == [(number, number) for number in range(len(recorded))]
    once = whole and all(
        follower.seen == recorded and isinstance(follower.result, RemoteError)
        for follower in followers
    )
    end = job.result(wait=True)
    return len(recorded), once, end.type if isinstance(end, RemoteError) else repr(end)

"""The course of the demonstration: calls, a kill in the middle, a return, and the figures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from holdfast.cli.demo import callers, dispatching, guarded, storing, watching
from holdfast.cli.demo.servers import START_LIMIT, ServerFailed, ServerProcess, started
from holdfast.cli.demo.tally import Phase, figures
from holdfast.cli.demo.traffic import Pace, Traffic
from holdfast.console.display import ServerView, View
from holdfast.console.report import Dispatched, Guarded, Report, Stored, Watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.console.display import Display

__all__ = ["Plan", "run"]

SERVERS = 3
#: The server that is killed: not the first, so that it takes part in the reads of `Replicas`.
VICTIM = 1
#: Seconds that every client has to call the killed server again once it is back.
RETURN_LIMIT = 10.0
#: So many lost calls are told in words.
TOLD = 5
#: Seconds between two looks at how far it is.
LOOK_EVERY = 0.1
#: How the calls are shared among the four clients: blocking and asynchronous.
SHARES = (0.3, 0.3, 0.2, 0.2)
#: The numbers of each client's calls begin this far apart, so that none comes twice.
APART = 10**9


@dataclass(frozen=True)
class Plan:
    """What to do: at least so many calls, ``rate`` a second (0: as fast as they go).

    ``threads`` call through `Cluster` and as many through `Replicas`, ``tasks`` through each of
    their asynchronous counterparts. Without ``retry`` a cluster gives up after the first attempt.
    ``mebibytes`` of files are stored as blocks.
    """

    calls: int = 20_000
    rate: float = 1_600
    threads: int = 4
    tasks: int = 16
    retry: bool = True
    mebibytes: int = 1024


def run(plan: Plan, display: Display) -> Report:
    """Do it, and return the figures. Servers, threads and connections end with it, however it ends.

    Raises ServerFailed when a server does not start.
    """
    display.note(f"Starting {SERVERS} HTTP servers (Starlette on uvicorn) ...")
    with started(SERVERS) as servers:
        course = Course(plan, display, servers)
        try:
            course.begin()
            course.interrupt()
        finally:
            course.traffic.end()
            course.traffic.join()
        course.watch()
        course.guard()
        course.dispatch()
        course.store()
        return course.report()


class Course:
    """One run of the demonstration, on servers that are up."""

    def __init__(self, plan: Plan, display: Display, servers: list[ServerProcess]) -> None:
        self.plan = plan
        self.display = display
        self.servers = servers
        self.victim = servers[VICTIM]
        self.traffic = Traffic()
        self.began = monotonic()
        self.ended = self.began
        self.came_back = False
        self.kills = 0
        self.guarded: Guarded | None = None
        self.watched: Watched | None = None
        self.dispatched: Dispatched | None = None
        self.stored: Stored | None = None

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return monotonic() - self.began

    @property
    def calls(self) -> int:
        """How many calls are over."""
        return sum(tally.calls for tally in self.traffic.tallies)

    def begin(self) -> None:
        """Start all callers."""
        plan, traffic = self.plan, self.traffic
        hosts = [server.host for server in self.servers]
        cluster = callers.ClusterCaller(hosts, plan.retry)
        replicas = callers.ReplicasCaller(hosts)
        async_cluster = callers.AsyncClusterCaller(hosts, plan.retry)
        async_replicas = callers.AsyncReplicasCaller(hosts)
        self.began = monotonic()
        paces = [
            Pace(plan.rate * share, number * APART) for number, share in enumerate(SHARES, start=1)
        ]
        traffic.by_threads(cluster, plan.threads, paces[0])
        traffic.by_threads(replicas, plan.threads, paces[1])
        traffic.by_tasks(
            [(async_cluster, plan.tasks, paces[2]), (async_replicas, plan.tasks, paces[3])]
        )
        self._event(f"{plan.calls:,} calls begin")

    def interrupt(self) -> None:
        """Kill a server after a third of the calls, start it again after half of them.

        Returns when all calls were made, and each client has called the server after its return.
        """
        plan, traffic, victim = self.plan, self.traffic, self.victim
        self._watch("before the kill", lambda: self.calls >= plan.calls / 3)
        traffic.phase = Phase.DURING
        victim.kill()
        self._event(f"{victim.host} was killed (SIGKILL)")
        self._watch("during the outage", lambda: self.calls >= plan.calls / 2)
        victim.start()
        self._event(f"{victim.host} is started again, on its port")
        if not self._watch("during the outage", victim.serving, START_LIMIT):
            raise ServerFailed(f"the server on {victim.host} did not start again in time")
        traffic.phase = Phase.AFTER
        self._event(f"{victim.host} serves again")
        self._watch("after the return", lambda: self.calls >= plan.calls)
        self.came_back = self._watch("after the return", self._called_again, RETURN_LIMIT)
        self.ended = monotonic()

    def guard(self) -> None:
        """Call a function under `fault_tolerant`, while every server fails in a way of its own."""
        self._event(f"{guarded.CALLS} calls of a function under @fault_tolerant begin")
        self.guarded = guarded.run(self.servers)
        self._event("they are over")

    def watch(self) -> None:
        """Watch a stream of events of each server, and poll a resource, in one loop."""
        self.kills = sum(server.kills for server in self.servers)
        self._event(f"{len(self.servers)} event streams are watched, while each server is killed")
        self.watched = watching.run(self.servers)
        self._event("all of their events are there")

    def dispatch(self) -> None:
        """Run jobs on hosts, through a dispatcher that is killed while one of them streams."""
        self._event(
            f"a dispatcher and {dispatching.HOSTS} hosts start, for {dispatching.JOBS} jobs"
        )
        self.dispatched = dispatching.run()
        self._event("the jobs are over, and the dispatcher was killed and started again")

    def store(self) -> None:
        """Store files as blocks, and lose a service and its disk."""
        size = self.plan.mebibytes << 20
        while size > 1 << 20 and not storing.room_for(size):
            size //= 2
        self._event(
            f"{storing.SERVICES} block services start, for {size >> 20:,} MiB of files"
            + (", as many as there is room for" if size < self.plan.mebibytes << 20 else "")
        )
        self.stored = storing.run(size, self._event)
        self._event("each block has its copies again")

    def _called_again(self) -> bool:
        """Tell whether each client has had an answer from the killed server since its return."""
        return all(
            any(tally.answers(self.victim.port, [Phase.AFTER]) for tally in source.tallies)
            for source in self.traffic.sources
        )

    def _watch(self, doing: str, until: Callable[[], bool], limit: float | None = None) -> bool:
        """Show how far it is until a condition holds; False when the limit in seconds is over."""
        end = None if limit is None else monotonic() + limit
        while not until():
            if end is not None and monotonic() > end:
                return False
            self.display.update(self._view(doing))
            time.sleep(LOOK_EVERY)
        return True

    def _event(self, text: str) -> None:
        self.display.event(self.seconds, text)

    def _view(self, doing: str) -> View:
        tallies = self.traffic.tallies
        return View(
            seconds=self.seconds,
            doing=doing,
            calls=sum(tally.calls for tally in tallies),
            planned=self.plan.calls,
            retries=sum(tally.retries for tally in tallies),
            errors=sum(tally.errors for tally in tallies),
            servers=tuple(
                ServerView(
                    server.host, server.state, sum(tally.answers(server.port) for tally in tallies)
                )
                for server in self.servers
            ),
        )

    def report(self) -> Report:
        """Return the figures; the calls are over."""
        tallies = self.traffic.tallies
        hosts = {server.port: server.host for server in self.servers}
        losses = list(dict.fromkeys(loss for tally in tallies for loss in tally.losses))
        return Report(
            seconds=self.ended - self.began,
            kills=self.kills,
            killed=self.victim.host,
            came_back=self.came_back,
            total=figures("all", tallies, hosts),
            phases=tuple(
                figures(name, tallies, hosts, [phase])
                for name, phase in zip(("before", "during", "after"), Phase, strict=True)
            ),
            clients=tuple(
                figures(source.name, source.tallies, hosts) for source in self.traffic.sources
            ),
            losses=tuple(losses[:TOLD]),
            recovery=callers.RECOVERY,
            guarded=self.guarded,
            watched=self.watched,
            dispatched=self.dispatched,
            stored=self.stored,
        )

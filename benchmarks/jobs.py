"""The benchmark of jobs: `python -m benchmarks jobs`.

Jobs that do nothing, from submit to result, with a fork for each call, TLS between dispatcher and
host and all of it on disk; beside RQ and Celery, both on a Redis that keeps nothing on disk. Then
a stream's packets, and what waiting, load and many records cost. Everything is on loopback: a
dispatcher, a host daemon and each worker are processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import jobs_peers, machine
from benchmarks.jobs_costs import (
    FLIGHT,
    OFFERED,
    followers,
    ours,
    recorded,
    stream,
    submit_latency,
    waiting_jobs,
)
from benchmarks.report import Report, Table, goals_table, group_table, number, times
from benchmarks.results import Goal, Group
from benchmarks.rounds import Contestant, Effort, measure, progress, progress_ends

__all__ = ["jobs", "jobs_report"]

FULL = Effort(rounds=9, seconds=2.0)
QUICK = Effort(rounds=3, seconds=0.5)

PACKAGES = ("holdfast", "uvloop", "rq", "celery", "redis")
OURS, RQ, CELERY = "holdfast", "RQ", "Celery"
#: Packets a second that a follower is to get.
PACKETS = 20_000
#: Records of the two dispatchers whose costs are compared.
FEW, MANY = 10, 100_000


@dataclass(frozen=True)
class JobCosts:
    """Everything that one run found."""

    groups: Sequence[Group]
    waiting: float
    """Bytes of memory for a job that waits."""
    follower: float
    """Bytes of memory for a follower to whom nothing comes."""
    p50: float
    """Of a submit under load, in seconds."""
    p99: float
    machine: dict[str, Any]
    versions: dict[str, str]
    effort: Effort

    @property
    def failed(self) -> bool:
        """Tell whether one who takes part could not do the work."""
        return any(row.failed for group in self.groups for row in group.rows)

    @property
    def goals(self) -> list[Goal]:
        """Compare with what was promised; a peer that is not installed is left out."""
        queue, packets, records = self.groups
        row = queue.row(OURS)
        found = [
            Goal(f"jobs/s: holdfast / {name}", row.ratio(queue.row(name)), bound)
            for name, bound in ((RQ, 6), (CELERY, 1))
            if not queue.row(name).problem
        ]
        rate = packets.rows[0].rate
        found.append(
            Goal(f"packets/s: of {PACKETS:,}", rate / PACKETS if rate is not None else None, 1)
        )
        few, many = records.rows
        found.append(
            Goal(f"cost of a job: {many.name} / {few.name}", few.ratio(many), 1.5, at_most=True)
        )
        return found

    def as_json(self) -> dict[str, Any]:
        """Return one object for programs."""
        return {
            "benchmark": "jobs",
            "machine": self.machine,
            "versions": self.versions,
            "effort": {"rounds": self.effort.rounds, "seconds": self.effort.seconds},
            "rows": [row for group in self.groups for row in group.as_json()],
            "bytes_a_waiting_job": self.waiting,
            "bytes_an_idle_follower": self.follower,
            "submit_ms_under_load": {"p50": self.p50 * 1000, "p99": self.p99 * 1000},
            "targets": [goal.as_json() for goal in self.goals],
        }


def jobs(quick: bool) -> JobCosts:
    """Measure everything, in about three minutes, or in less than one when `quick`."""
    from holdfast.cli.demo.daemons import site

    effort = QUICK if quick else FULL
    machine.allow_sockets()
    about = machine.machine(None)
    share = 10 if quick else 1
    with site(1, OFFERED) as place:
        queue = Group(
            "jobs",
            f"Jobs that do nothing, {FLIGHT} in flight",
            measure(
                "jobs",
                [
                    Contestant(OURS, partial(ours, place), ours=True),
                    Contestant(RQ, partial(jobs_peers.rq, FLIGHT)),
                    Contestant(CELERY, partial(jobs_peers.celery, FLIGHT)),
                ],
                effort,
                FLIGHT,
            ),
            unit="jobs/s",
            cpu_unit="the client's CPU µs a job",
            has_ceiling=False,
        )
        packets = Group(
            "packets",
            "A stream, recorded and followed",
            measure(
                "packets",
                [Contestant(OURS, partial(stream, place), ours=True)],
                Effort(effort.rounds, effort.seconds / 2),
                1000,
            ),
            unit="packets/s",
            cpu_unit="the client's CPU µs a packet",
            has_ceiling=False,
        )
        progress("latency under load")
        p50, p99 = submit_latency(place, 1000 // share)
    # In one of its own, whose memory was not used and given back before.
    with site(1, OFFERED) as place:
        progress("memory")
        waiting = waiting_jobs(place, 10_000 // share)
        follower = followers(place, 2_000 // share)
    records = Group(
        "records",
        "The same jobs, by how many are recorded already",
        measure(
            "records",
            [
                Contestant(f"{count:,} recorded", partial(recorded, count), ours=True)
                for count in (FEW, MANY // share)
            ],
            effort,
            FLIGHT,
        ),
        unit="jobs/s",
        cpu_unit="the client's CPU µs a job",
        has_ceiling=False,
    )
    progress_ends()
    about["load_after"] = machine.load()
    return JobCosts(
        [queue, packets, records],
        waiting,
        follower,
        p50,
        p99,
        about,
        machine.versions(PACKAGES),
        effort,
    )


def jobs_report(found: JobCosts) -> Report:
    """Return what a person reads."""
    where, versions = found.machine, dict(found.versions)
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    queue = found.groups[0]
    skipped = [
        f"{row.name} was skipped: it needs the packages of the group bench, and redis-server "
        "(apt-get install redis-server). "
        for row in queue.rows
        if row.problem and not row.failed
    ]
    compared = [[row.name, times(queue.row(OURS).ratio(row))] for row in queue.rows if not row.ours]
    return Report(
        [
            group_table(queue),
            Table("holdfast's jobs/s", ["", "as a multiple"], compared),
            group_table(found.groups[1]),
            group_table(found.groups[2]),
            Table(
                "A dispatcher at work",
                ["", ""],
                [
                    ["bytes for a waiting job", number(found.waiting)],
                    ["bytes for an idle follower", number(found.follower)],
                    [f"submit, {FLIGHT} other jobs in flight: p50 ms", number(found.p50 * 1000)],
                    ["p99 ms", number(found.p99 * 1000)],
                ],
            ),
            goals_table(found.goals),
        ],
        f"{where['cpu']}, {where['cores']} cores, {where['kernel']}{machine.busy(where)}. "
        f"{''.join(skipped)}Medians of {found.effort.rounds} interleaved rounds; every ratio is "
        f"the median of the rounds' own. All processes share all cores; {jobs_peers.workers()} "
        f"workers of each peer, whose Redis keeps nothing on disk. {packages}.",
        [
            f"{group.title}: {row.name} {row.problem}"
            for group in found.groups
            for row in group.rows
            if row.failed
        ],
    )

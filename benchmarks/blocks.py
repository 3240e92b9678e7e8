"""The benchmark of blocks: `python -m benchmarks blocks`.

Blocks of 64 MiB and of 4 KiB, got and put by our client and by that of Arvados, from and to the
same three services of ours; beside one core that only takes the MD5, which no client can pass, and
bare sockets that do no more than has to be done. Then what a service's memory does under many large
transfers.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks import bulk, machine, serving
from benchmarks.blocks_peers import (
    BIG,
    BLOCKS,
    CLIENTS,
    COPIES,
    FLIGHT,
    MANY,
    SMALL,
    THREADS,
    Services,
    arvados_client,
    flying_gets,
    gets,
    hashing,
    our_client,
    peak,
    puts,
    raw_gets,
    raw_puts,
    services,
    stored,
    threaded_gets,
)
from benchmarks.report import Report, Table, goals_table, group_table, number, times
from benchmarks.results import Goal, Group
from benchmarks.rounds import Contestant, Effort, Run, measure, progress, progress_ends

__all__ = ["blocks", "blocks_report"]

FULL = Effort(rounds=9, seconds=1.0)
QUICK = Effort(rounds=3, seconds=0.2)

PACKAGES = ("holdfast", "httptools", "uvicorn", "uvloop", "arvados-python-client", "pycurl")
OURS, ARVADOS = "holdfast", "arvados-python-client"
MD5 = "MD5 by one core"
SERVICES = 3

MIB = 1 << 20
#: What the memory of a service may grow by under `CLIENTS` transfers, in MiB.
MEMORY = 300


@dataclass(frozen=True)
class BlockCosts:
    """Everything that one run found."""

    groups: Sequence[Group]
    grown: dict[str, float]
    """By how much the memory of a service grew at most, in bytes, by what its clients did."""
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
        groups = {group.key: group for group in self.groups}
        large = groups["get-large"]
        found = [Goal(f"{large.title}: {OURS} / {MD5}", large.row(OURS).ratio(large.row(MD5)), 0.9)]
        for key, bound in (("get-large", 1.5), ("put-large", 1.5), ("get-many", 3), ("put", 3)):
            group = groups[key]
            peer = group.row(ARVADOS)
            if peer.failed or not peer.problem:
                ratio = group.row(OURS).ratio(peer)
                found.append(Goal(f"{group.title}: {OURS} / {ARVADOS}", ratio, bound))
        most = max(self.grown.values()) / (MEMORY * MIB)
        name = f"memory of a service, {CLIENTS} transfers: of {MEMORY} MiB"
        return [*found, Goal(name, most, 1, at_most=True)]

    def as_json(self) -> dict[str, Any]:
        """Return one object for programs."""
        return {
            "benchmark": "blocks",
            "machine": self.machine,
            "versions": self.versions,
            "effort": {"rounds": self.effort.rounds, "seconds": self.effort.seconds},
            "rows": [row for group in self.groups for row in group.as_json()],
            "service_grown_bytes": self.grown,
            "targets": [goal.as_json() for goal in self.goals],
        }


Work = Callable[..., AbstractContextManager[Run]]


def both(work: Work, *arguments: Any) -> list[Contestant]:
    """Have both clients do the work."""
    return [
        Contestant(OURS, partial(work, our_client, *arguments), ours=True),
        Contestant(ARVADOS, partial(work, arvados_client, *arguments)),
    ]


def blocks(quick: bool) -> BlockCosts:
    """Measure everything, in about three minutes, or in less than one when `quick`."""
    effort = QUICK if quick else FULL
    machine.allow_sockets()
    about = machine.machine(None)
    with services(SERVICES) as place:
        groups = got(place, effort)
    with services(SERVICES, memory=True) as place:
        groups += put(place, effort)
    # In one of its own, whose memory was not used and given back before.
    with services(1) as place:
        stored(place.urls, BIG, 1)
        grown = {}
        for name, get in (("get", True), ("put", False)):
            progress(f"memory: {name}")
            grown[name] = peak(place, get)
    progress_ends()
    about["load_after"] = machine.load()
    return BlockCosts(groups, grown, about, machine.versions(PACKAGES), effort)


def got(place: Services, effort: Effort) -> list[Group]:
    """Measure gets."""
    progress("storing blocks")
    large = stored(place.urls, BIG, BLOCKS)
    small = stored(place.urls, SMALL, MANY)
    longer = Effort(effort.rounds, effort.seconds * 2)
    with serving.serve(1, None) as target:
        limits = [
            Contestant(MD5, hashing),
            Contestant("raw socket, one copy", partial(bulk.raw_download, target)),
        ]
        rows = measure("get, large", [*limits, *both(gets, place, large)], longer)
    found = [bulky("get-large", "Get 64 MiB, verified", rows)]
    raw = Contestant("raw socket, not checked", partial(raw_gets, place, small[0]))
    rows = measure("get, small", [raw, *both(gets, place, small)], effort)
    found.append(many("get", "Get 4 KiB, verified", rows, ceiling=True))
    flying = Contestant(OURS, partial(flying_gets, place, small), ours=True)
    ours, theirs = both(threaded_gets, place, small)
    ours = replace(ours, name=f"{OURS}, {THREADS} threads")
    rows = measure("get, many at a time", [flying, ours, theirs], effort, FLIGHT)
    found.append(many("get-many", "Get 4 KiB, many at a time", rows))
    rows = measure("cached", both(gets, place, small, MANY), effort, MANY)
    found.append(many("cached", "Get 4 KiB from the cache in memory", rows))
    return found


def put(place: Services, effort: Effort) -> list[Group]:
    """Measure puts."""
    longer = Effort(effort.rounds, effort.seconds * 2)
    limits = [
        Contestant(MD5, hashing),
        Contestant("raw sockets, hashed and stored", partial(raw_puts, place)),
    ]
    rows = measure("put, large", [*limits, *both(puts, place, BIG)], longer)
    found = [bulky("put-large", f"Put 64 MiB, {COPIES} copies", rows)]
    rows = measure("put, small", both(puts, place, SMALL), effort)
    found.append(many("put", f"Put 4 KiB, {COPIES} copies", rows))
    return found


def bulky(key: str, title: str, rows: Sequence[Any]) -> Group:
    """Return the group of large blocks."""
    return Group(
        key, title, rows, unit="MiB/s", units=BIG / MIB, cpu_unit="the client's CPU ms", cpu_us=1000
    )


def many(key: str, title: str, rows: Sequence[Any], ceiling: bool = False) -> Group:
    """Return the group of small blocks."""
    unit = "the client's CPU µs"
    return Group(key, title, rows, unit="blocks/s", cpu_unit=unit, has_ceiling=ceiling)


def blocks_report(found: BlockCosts) -> Report:
    """Return what a person reads."""
    where, versions = found.machine, dict(found.versions)
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    missing = any(
        row.problem and not row.failed for row in found.groups[0].rows if row.name == ARVADOS
    )
    skipped = f"{ARVADOS} was skipped: it is not installed (group dev). " if missing else ""
    ratios = [
        [group.title, times(group.row(OURS).ratio(group.row(ARVADOS)))] for group in found.groups
    ]
    return Report(
        [
            *map(group_table, found.groups),
            Table(f"{OURS} / {ARVADOS}", ["", "as a multiple"], ratios),
            Table(
                f"The memory of a service, {CLIENTS} transfers of 64 MiB at once",
                ["", "grows by MiB"],
                [[name, number(size / MIB)] for name, size in found.grown.items()],
            ),
            goals_table(found.goals),
        ],
        f"{where['cpu']}, {where['cores']} cores, {where['kernel']}{machine.busy(where)}. "
        f"{skipped}Medians of {found.effort.rounds} interleaved rounds; every ratio is the median "
        f"of the rounds' own. Clients and {SERVICES} services share all cores; the services do not "
        f"wait for the disk. Many at a time: holdfast has {FLIGHT} gets in flight in asyncio, "
        f"{ARVADOS} {THREADS} threads. It writes a third copy while the second is on its way, when "
        f"it is told of storage classes. {packages}.",
        [
            f"{group.title}: {row.name} {row.problem}"
            for group in found.groups
            for row in group.rows
            if row.failed
        ],
    )

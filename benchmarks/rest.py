"""The benchmark of HTTP calls: `python -m benchmarks rest`."""

from benchmarks import (
    async_peers,
    bulk,
    fanout,
    machine,
    memory,
    picking,
    serving,
    sync_peers,
)
from benchmarks.results import Goal, Group, Results
from benchmarks.rounds import Effort, measure, progress_ends

FULL = Effort(rounds=15, seconds=0.15)
QUICK = Effort(rounds=5, seconds=0.05)


def rest(quick: bool) -> Results:
    """Measure everything, in about a minute and a half, or in a tenth of that when `quick`."""
    effort = QUICK if quick else FULL
    machine.forget_proxies()
    machine.allow_sockets()
    core = machine.take_cores()
    about = machine.machine(core)
    with serving.serve(memory.CONNECTIONS, core) as target:
        groups = [
            Group(
                "sync",
                "Synchronous: a small JSON GET, one connection",
                measure("synchronous", sync_peers.contestants(target), effort),
            ),
            Group(
                "async-uvloop",
                "Asynchronous, uvloop: the same GET, 50 in flight",
                measure("uvloop", async_peers.contestants(target, True), effort, 50),
            ),
            Group(
                "async",
                "Asynchronous, asyncio's own loop: the same GET, 50 in flight",
                measure("asyncio", async_peers.contestants(target, False), effort, 50),
            ),
            *bodies(target, effort),
            Group(
                "broadcast",
                f"The same GET to each of {fanout.HOSTS} hosts",
                measure("broadcast", fanout.contestants(target), effort),
                units=fanout.HOSTS,
                cpu_us=fanout.HOSTS,
                each="ms for all",
                each_seconds=1e-3,
            ),
            Group(
                "pick",
                "Picking an endpoint",
                measure("picks", picking.contestants(), effort),
                unit="picks/s",
                cpu_unit="CPU µs a pick",
                each="ns each",
                each_seconds=1e-9,
                has_ceiling=False,
            ),
        ]
        footprints = memory.footprints(target)
    progress_ends()
    about["load_after"] = machine.load()
    return Results(
        groups,
        footprints,
        goals({group.key: group for group in groups}),
        about,
        machine.versions(),
        {"rounds": effort.rounds, "seconds": effort.seconds},
    )


def bodies(target: serving.Target, effort: Effort) -> list[Group]:
    """Measure large bodies both ways."""
    return [
        Group(
            key,
            title,
            measure(key, contestants, effort),
            unit="MB/s",
            units=serving.BIG / 1e6,
            cpu_unit="CPU ms a body",
            cpu_us=1e3,
        )
        for key, title, contestants in (
            ("download", "A body of 64 MiB down", bulk.downloads(target)),
            ("upload", "A body of 64 MiB up", bulk.uploads(target)),
        )
    ]


def goals(groups: dict[str, Group]) -> list[Goal]:
    """Compare with what the project has promised."""

    def ratio(key: str, ours: str, other: str) -> float | None:
        return groups[key].row(ours).ratio(groups[key].row(other))

    few, many = (picking.name_of("p2c", count) for count in (picking.FEW, picking.MANY))
    into = "holdfast, into=buffer"
    return [
        Goal("sync: holdfast / raw", ratio("sync", "holdfast", "raw socket loop"), 0.45),
        Goal("sync: holdfast / pycurl", ratio("sync", "holdfast", "pycurl"), 1.2),
        Goal("sync: holdfast / pyreqwest", ratio("sync", "holdfast", "pyreqwest"), 1.2),
        Goal(
            "async, uvloop: holdfast / raw",
            ratio("async-uvloop", "holdfast", "raw protocol loop"),
            0.35,
        ),
        Goal(
            "async, uvloop: holdfast / pyreqwest",
            ratio("async-uvloop", "holdfast", "pyreqwest"),
            1.2,
        ),
        Goal("async, uvloop: holdfast / aiohttp", ratio("async-uvloop", "holdfast", "aiohttp"), 4),
        Goal(
            "64 MiB down, into a buffer: holdfast / raw",
            ratio("download", into, "raw recv_into loop"),
            0.8,
        ),
        Goal("time of a pick: 10,000 endpoints / 10", ratio("pick", few, many), 1.5, at_most=True),
    ]

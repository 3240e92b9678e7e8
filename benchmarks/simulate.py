"""The benchmark of simulations: `python -m benchmarks simulate`.

How long a large simulation takes on one core, and what one shows that the balancers have promised:
that one slow host of a hundred does not show in the 99th percentile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks import machine
from benchmarks.report import MISSING, Report, Table, goals_table, number, times
from benchmarks.results import Goal
from benchmarks.rounds import progress, progress_ends

EXAMPLES = Path(__file__).parent.parent / "examples" / "simulate"
HOSTS, CALLS = 1_000, 100_000
# What a simulation of that size may take.
SECONDS = 60.0
# What the 99th percentile may be with the slow host, as a multiple of what it is without.
SLOWER = 1.5
BEST = "peak EWMA, ejection"


@dataclass(frozen=True)
class Size:
    """A simulation of many hosts and calls, and what it took."""

    name: str
    calls: int
    good: int
    seconds: float
    cpu: float

    @property
    def share(self) -> float:
        """Return the time that all the calls of the target would take, of what they may."""
        return self.seconds * CALLS / self.calls / SECONDS


@dataclass(frozen=True)
class Slow:
    """The latencies of a balancer with the slow host and without it, in seconds."""

    name: str
    p99: float | None
    p99_without: float | None
    failed: int

    @property
    def ratio(self) -> float | None:
        """Return how many times as long the 99th percentile is with the slow host."""
        if self.p99 is None or self.p99_without is None or self.failed:
            return None
        return self.p99 / self.p99_without


@dataclass(frozen=True)
class Simulated:
    """Everything that one run found."""

    sizes: Sequence[Size]
    slow: Sequence[Slow]
    machine: dict[str, Any]
    versions: dict[str, str]

    @property
    def goals(self) -> list[Goal]:
        """Compare with what was promised."""
        best = next(row for row in self.slow if row.name == BEST)
        return [
            *(
                Goal(f"{row.name}: of {SECONDS:g} s on one core", row.share, 1.0, at_most=True)
                for row in self.sizes
            ),
            Goal(f"p99 with the slow host / without: {BEST}", best.ratio, SLOWER, at_most=True),
        ]

    @property
    def failed(self) -> bool:
        """Tell whether a simulation went wrong: without faults, every call goes well."""
        return any(row.good < row.calls for row in self.sizes)

    def as_json(self) -> dict[str, Any]:
        """Return one object for programs."""
        return {
            "benchmark": "simulate",
            "machine": self.machine,
            "versions": self.versions,
            "rows": [
                *(
                    {
                        "group": "size",
                        "name": row.name,
                        "calls": row.calls,
                        "good": row.good,
                        "seconds": row.seconds,
                        "cpu_seconds": row.cpu,
                    }
                    for row in self.sizes
                ),
                *(
                    {
                        "group": "slow-host",
                        "name": row.name,
                        "p99_ms": milliseconds(row.p99),
                        "p99_ms_without": milliseconds(row.p99_without),
                        "failed": row.failed,
                        "ratio": row.ratio,
                    }
                    for row in self.slow
                ),
            ],
            "targets": [goal.as_json() for goal in self.goals],
        }


def simulate(quick: bool) -> Simulated:
    """Measure everything, in about half a minute; with a tenth of the calls when `quick`."""
    about = machine.machine(machine.take_cores())
    calls = CALLS // 10 if quick else CALLS
    sizes = [size(balancer, calls) for balancer in ("p2c", "peak-ewma")]
    slow = slow_host()
    progress_ends()
    about["load_after"] = machine.load()
    return Simulated(sizes, slow, about, machine.versions(("holdfast",)))


def size(balancer: str, calls: int) -> Size:
    """Run a simulation of many hosts, with every default policy on."""
    from holdfast.simulation.run import simulate as run
    from holdfast.simulation.scenario import Variant

    name = f"{HOSTS:,} hosts × {calls:,} calls, {balancer}"
    progress(name)
    rate = 1_000.0
    variant = Variant.from_dict(
        {
            "duration": calls / rate,
            "load": {"rate": rate},
            "clients": {"balancer": balancer},
            "hosts": {
                "count": HOSTS,
                "service": {"kind": "lognormal", "median": 0.03, "sigma": 0.5},
            },
        }
    )
    began, cpu = perf_counter(), process_time()
    whole = run(variant).whole
    seconds, cpu = perf_counter() - began, process_time() - cpu
    return Size(name, whole.offered, whole.good, seconds, cpu)


def slow_host() -> list[Slow]:
    """Run the example with one slow host of a hundred, and without it."""
    from holdfast.simulation.metrics import Period
    from holdfast.simulation.run import simulate as run
    from holdfast.simulation.scenario import Scenario

    scenario = Scenario.from_toml(EXAMPLES / "slow-host.toml")
    found = []
    for name, variant in scenario.variants.items():
        progress(f"slow host: {name}")
        since = variant.fault[0].at
        struck, well = (
            Period.of([period for period in outcome.periods if period.start >= since])
            for outcome in (
                run(variant, scenario.seed),
                run(replace(variant, fault=()), scenario.seed),
            )
        )
        found.append(
            Slow(name, struck.quantile(0.99), well.quantile(0.99), struck.failed + well.failed)
        )
    return found


def simulate_report(found: Simulated) -> Report:
    """Return what a person reads."""
    where = found.machine
    return Report(
        [
            Table(
                "A large simulation, with every default policy on",
                ["", "seconds", "CPU seconds", "µs a call", "calls/s"],
                [
                    [
                        row.name,
                        number(row.seconds),
                        number(row.cpu),
                        number(row.seconds / row.calls * 1e6),
                        number(row.calls / row.seconds),
                    ]
                    for row in found.sizes
                ],
            ),
            Table(
                "One host of a hundred is ten times slower: p99",
                ["", "with it, ms", "without, ms", "with / without"],
                [
                    [
                        f"**{row.name}**" if row.name == BEST else row.name,
                        number(milliseconds(row.p99)),
                        number(milliseconds(row.p99_without)),
                        times(row.ratio) if row.ratio is not None else MISSING,
                    ]
                    for row in found.slow
                ],
            ),
            goals_table(found.goals),
        ],
        f"{where['cpu']}, {where['cores']} cores, {where['kernel']}, {found.versions['python']}; "
        f"on one core{machine.busy(where)}. Latencies are of simulated hosts, and the same each "
        f"time. holdfast {found.versions['holdfast']}.",
        [
            f"{row.name}: {row.calls - row.good:,} calls failed"
            for row in found.sizes
            if row.good < row.calls
        ],
    )


def milliseconds(seconds: float | None) -> float | None:
    """Return a time as it is shown."""
    return None if seconds is None else seconds * 1000

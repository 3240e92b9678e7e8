"""Run a scenario: each variant in a world of its own, with the clients of production.

Theory of operation: calls arrive as events, each of which has the next one made. A call is a
program of the world like any other; when it ends, its outcome goes to the period in which it
arrived. Arrivals, and which client gets one, are drawn from generators of their own, so every
variant sees the same. A run is over when its last call is, or has had more time than it may take.

Ordinary calls take a shorter way as long as nobody listens to their cluster, in production as here.
So hosts that are out are counted where a client would tell listeners of them (`_Client`), and the
attempts of a call are those that its answer or error knows. There is a listener only where calls
take the long way anyhow (identical ones may share an answer, and a fallback knows no attempts), or
have no time limit, and so perhaps no end.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.cluster.balancing import balancer_of
from holdfast.cluster.core import ClusterCore
from holdfast.drivers.simulated import World
from holdfast.errors import HoldfastError
from holdfast.http.limits import Timeout
from holdfast.http.pools import Transport
from holdfast.http.requests import Request
from holdfast.http.responses import Response
from holdfast.simulation.faults import Stage
from holdfast.simulation.hosts import Host, Service
from holdfast.simulation.metrics import Meter, Period
from holdfast.simulation.network import Network
from holdfast.simulation.report import Outcome, Report, Shade

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.drivers.simulated import Task
    from holdfast.policy import Policy
    from holdfast.policy.events import Event, Kind
    from holdfast.simulation.scenario import Scenario, Variant

__all__ = ["run", "simulate"]

#: Seconds that calls without a time limit get after the last arrival.
_GRACE = 60.0

#: What has a host counted as out, and what ends that.
_BEGINS = {"ejected": "ejected", "circuit opened": "open"}
_ENDS = {"returned": "ejected", "circuit closed": "open"}


def run(scenario: Scenario, advanced: Callable[[float], object] | None = None) -> Report:
    """Run every variant of a scenario and report on them.

    ``advanced`` is told of every few seconds of virtual time that have passed.
    """
    outcomes = tuple(
        simulate(variant, scenario.seed, name, advanced)
        for name, variant in scenario.variants.items()
    )
    return Report(scenario.title, scenario.description, scenario.seed, outcomes)


def simulate(
    variant: Variant,
    seed: int = 0,
    name: str = "",
    advanced: Callable[[float], object] | None = None,
) -> Outcome:
    """Run one variant and return its outcome; the same one for the same seed."""
    return _Run(variant, seed).outcome(name, advanced)


class _Run:
    """A variant on its way."""

    def __init__(self, variant: Variant, seed: int) -> None:
        self.variant = variant
        self.world = world = World(seed)
        network = Network(world, variant.network.latency, loss=variant.network.loss)
        spec = variant.hosts
        service = Service(spec.service, spec.workers, spec.queue, abandoned=spec.abandoned)  # type: ignore[arg-type]
        names = [_address(number) for number in range(spec.count)]
        self.hosts = [Host(world, name, service) for name in names]
        self.meter = Meter(variant.duration, variant.interval)
        self._out = {"ejected": 0, "open": 0}
        self.clients = [self._client(names) for _ in range(variant.clients.count)]
        stage = Stage(world, network, self.hosts)
        for fault in variant.fault:
            fault.stage(stage)
        for period in self.meter.periods:
            world.at(period.start, self._look)
        self.running: dict[_Call, None] = {}
        self._request = Request("GET", "/", Timeout(variant.policy.timeout))
        self._arrivals = variant.load.times(world.randomness("arrivals").random)
        self._whose = world.randomness("clients").random
        self._await_arrival()

    def _client(self, names: list[str]) -> _Client:
        world, variant = self.world, self.variant
        return _Client(
            self,
            names,
            policy=variant.policy,
            balancer=balancer_of(variant.clients.balancer),
            ejection=variant.clients.ejection,
            transport=Transport(clock=world.clock),
            clock=world.clock,
            random=world.random,
        )

    def outcome(self, name: str, advanced: Callable[[float], object] | None) -> Outcome:
        """Let it run to its end."""
        variant, world = self.variant, self.world
        for period in self.meter.periods:
            world.run_until(period.end)
            if advanced is not None:
                advanced(period.seconds)
        total = variant.policy.timeout
        last = variant.duration + (_GRACE if total is None else total + 1.0)
        while self.running and world.next <= last:
            world.happen()
        for call in list(self.running):
            call.unfinished()
        count = len(self.hosts)
        return Outcome(
            name,
            self.meter.periods,
            tuple(Shade(fault.label(count), fault.at, fault.end(count)) for fault in variant.fault),
            variant.warmup,
            variant.duration,
            len(self.clients),
            count,
            sum(host.requests for host in self.hosts),
            sum(host.wasted for host in self.hosts),
        )

    def _await_arrival(self) -> None:
        time = next(self._arrivals, inf)
        if time < self.variant.duration:
            self.world.at(time, self._arrive)

    def _arrive(self) -> None:
        world = self.world
        client = self.clients[int(self._whose() * len(self.clients))]
        call = _Call(self, client, self.meter.arrived(world.now), world.now)
        self.running[call] = None
        world.start(client.call(self._request), call.ended)
        self._await_arrival()

    def out(self, what: str, change: int) -> None:
        """Count a host of some client that is ejected or has an open circuit, or no more."""
        self._out[what] += change
        self._look()

    def _look(self) -> None:
        """Note how many hosts are out now, if they are the most of this period."""
        now, clients = self.world.now, self.variant.clients.count
        if now < self.variant.duration:
            period = self.meter.at(now)
            period.ejected = max(period.ejected, self._out["ejected"] / clients)
            period.open = max(period.open, self._out["open"] / clients)


class _Client(ClusterCore):
    """A client whose hosts that are out, and whose attempts where need be, are counted."""

    def __init__(self, run: _Run, names: list[str], *, policy: Policy, **options: Any) -> None:
        self._run = run
        self._out: dict[str, set[str]] = {"ejected": set(), "open": set()}
        self._periods: dict[int, Period] = {}  # of calls, by their numbers
        super().__init__(names, policy=policy, **options)
        #: Whether attempts are counted as they are made, and not at the end of their calls.
        self.counts = not self.plain or policy.timeout is None
        if self.counts:
            self.listen(self._count)

    def emit(self, kind: Kind, endpoint: str = "", *about: Any, **more: Any) -> None:
        """Take note of hosts that are out, and go on."""
        if kind in _BEGINS:  # perhaps once more: a probe failed
            self._note(_BEGINS[kind], endpoint, True)
        elif kind in _ENDS:
            self._note(_ENDS[kind], endpoint, False)
        super().emit(kind, endpoint, *about, **more)

    def _note(self, what: str, endpoint: str, out: bool) -> None:
        names = self._out[what]
        if out != (endpoint in names):
            (names.add if out else names.remove)(endpoint)
            self._run.out(what, 1 if out else -1)

    def _count(self, event: Event) -> None:
        """Count an attempt in the period of its call."""
        if event.kind == "call started":
            self._periods[event.call] = self._run.meter.at(event.time)
        elif event.kind == "attempt started":
            self._periods[event.call].attempts += 1
        elif event.kind in ("call succeeded", "call failed"):
            self._periods.pop(event.call, None)


class _Call:
    """A call from its arrival to its end."""

    __slots__ = ("began", "client", "period", "run")

    def __init__(self, run: _Run, client: _Client, period: Period, began: float) -> None:
        self.run = run
        self.client = client
        self.period = period
        self.began = began

    def ended(self, task: Task) -> None:
        """Count what became of it."""
        self.run.running.pop(self, None)
        period = self.period
        try:
            answer = task.result()
        except HoldfastError as error:
            if not self.client.counts:
                period.attempts += len(error.attempts)
            period.fail(type(error).__name__)
            return
        if not self.client.counts:
            period.attempts += len(answer.attempts)
        # A fallback may be anything; who gets it is content.
        if not isinstance(answer, Response) or answer.status_code < 400:
            period.succeed(self.run.world.now - self.began)
        else:
            period.fail(f"status {answer.status_code}")

    def unfinished(self) -> None:
        """Count it as lost: it had more time than it may take."""
        self.period.fail("unfinished")


def _address(number: int) -> str:
    """Return the address of a host, of the 16 million in 10.0.0.0/8."""
    number += 1
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:80"

"""What goes wrong in a simulation: where, from when to when, and what it does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from holdfast.policy.checks import at_least, choice, not_negative, positive, share, wrong
from holdfast.policy.specs import Spec
from holdfast.simulation.hosts import Host, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.drivers.simulated import World
    from holdfast.simulation.network import Network

__all__ = ["Fault", "Kind", "Stage"]

Kind = Literal["slow", "crash", "freeze", "errors", "partition", "loss", "restart"]

#: The fields that belong to a kind, and what they are when they are not given; ``...``: they must.
_OPTIONS: dict[str, dict[str, Any]] = {
    "slow": {"factor": ...},
    "crash": {},
    "freeze": {},
    "errors": {"share": 1.0, "status": 500, "after": None},
    "partition": {},
    "loss": {"share": ...},
    "restart": {"batch": 1, "every": ..., "down": ...},
}


_ALL_OPTIONS = tuple(dict.fromkeys(name for options in _OPTIONS.values() for name in options))


@dataclass(frozen=True, slots=True)
class Stage:
    """What faults happen to."""

    world: World
    network: Network
    hosts: Sequence[Host]
    cuts: dict[Fault, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Fault(Spec):
    """Something that goes wrong ``at`` a time and is over at ``until``, in seconds.

    ``hosts``: how many it strikes, from the first one on; or a share of them, when it is a
    fraction; or a list of their numbers from 0; by default all. ``kind``, with what belongs to it:

    - ``"slow"``: they take ``factor`` times as long for everything;
    - ``"crash"``: they refuse connections, and those that there are break;
    - ``"freeze"``: they accept connections and bytes, and do nothing;
    - ``"errors"``: a ``share`` of the requests is answered with ``status``, after so many
      seconds as ``after`` says, by default as long as others take;
    - ``"partition"``: nothing gets through to them or from them, and nobody is told;
    - ``"loss"``: a ``share`` of what is sent to or from them is lost, and sent again later;
    - ``"restart"``: ``batch`` of them at a time, ``every`` so many seconds, are ``down`` for so
      many seconds, one batch after the other, until all were. What they serve then is lost.

    Faults of one kind must not overlap at one host.
    """

    kind: Kind
    at: float = 0.0
    until: float | None = None
    hosts: int | float | tuple[int, ...] | None = None
    factor: float | None = None
    share: float | None = None
    status: int | None = None
    after: float | None = None
    batch: int | None = None
    every: float | None = None
    down: float | None = None

    def __post_init__(self) -> None:
        choice(self, get_args(Kind), "kind")
        not_negative(self, "at")
        if self.until is not None and not self.until > self.at:
            raise wrong(self, "until", f"must be later than at, which is {self.at!r}", self.until)
        self._complete()
        for name in ("factor", "every", "down"):
            if getattr(self, name) is not None:
                positive(self, name)
        if self.share is not None:
            share(self, "share")
        if self.after is not None:
            not_negative(self, "after")
        if self.batch is not None:
            at_least(self, 1, "batch")
        if self.status is not None and self.status not in range(400, 600):
            raise wrong(self, "status", "must be the code of an error, 400 to 599", self.status)
        if self.kind == "restart" and self.until is not None:
            raise wrong(self, "until", "follows from every and down for kind 'restart'", self.until)

    def _complete(self) -> None:
        """Fill in what was not given, and refuse what does not belong to this kind."""
        options = _OPTIONS[self.kind]
        for name in _ALL_OPTIONS:
            value = getattr(self, name)
            if value is not None and name not in options:
                raise wrong(self, name, f"has no meaning for kind {self.kind!r}", value)
            if value is None and name in options:
                if options[name] is ...:
                    raise wrong(self, name, f"must be given for kind {self.kind!r}", None)
                object.__setattr__(self, name, options[name])

    def struck(self, count: int) -> tuple[int, ...]:
        """Return the numbers of the hosts that it strikes, among so many.

        Raises ValueError when there are not as many.
        """
        chosen = self.hosts
        if chosen is None:
            return tuple(range(count))
        if isinstance(chosen, tuple):
            if not chosen or any(not 0 <= number < count for number in chosen):
                raise wrong(self, "hosts", f"must be numbers from 0 to {count - 1}", list(chosen))
            if len(set(chosen)) < len(chosen):
                raise wrong(self, "hosts", "must be different numbers", list(chosen))
            return chosen
        if isinstance(chosen, float):
            if not 0 < chosen <= 1:
                raise wrong(self, "hosts", "must be a share above 0 and at most 1", chosen)
            return tuple(range(max(round(chosen * count), 1)))
        if not 1 <= chosen <= count:
            raise wrong(self, "hosts", f"must be a number from 1 to {count}", chosen)
        return tuple(range(chosen))

    def overlaps(self, other: Fault, count: int) -> bool:
        """Tell whether both are of one kind and at some host at the same time."""
        if self.kind != other.kind or not set(self.struck(count)) & set(other.struck(count)):
            return False
        return self.at < other.end(count) and other.at < self.end(count)

    def end(self, count: int) -> float:
        """Return when it is over among so many hosts; infinity when it never is."""
        if self.kind == "restart":
            *_, (last, _) = self._batches(count)
            return last + (self.down or 0.0)
        return inf if self.until is None else self.until

    def label(self, count: int) -> str:
        """Return in a few words what it is."""
        struck = len(self.struck(count))
        which = "all hosts" if struck == count else f"{struck:,} host{'s' * (struck != 1)}"
        return f"{which} {_WORDS[self.kind].format(fault=self)}"

    def stage(self, stage: Stage) -> None:
        """Have it happen, and end, when it is time."""
        world, hosts = stage.world, stage.hosts
        begin, end = _EFFECTS[self.kind]
        for at, numbers in self._batches(len(hosts)):
            struck = [hosts[number] for number in numbers]
            world.at(at, begin, self, stage, struck)
            until = self.until if self.down is None else at + self.down
            if until is not None:
                world.at(until, end, self, stage, struck)

    def _batches(self, count: int) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Iterate over who is struck, and when: all at once but by a rolling restart."""
        struck = self.struck(count)
        batch, every = self.batch or len(struck), self.every or 0.0
        for turn, first in enumerate(range(0, len(struck), batch)):
            yield self.at + turn * every, struck[first : first + batch]


_WORDS: dict[str, str] = {
    "slow": "{fault.factor:g} × slower",
    "crash": "down",
    "freeze": "frozen",
    "errors": "answering {fault.status}",
    "partition": "cut off",
    "loss": "losing {fault.share:.0%}",
    "restart": "restarting, {fault.batch} every {fault.every:g} s",
}

Effect: TypeAlias = "Callable[[Fault, Stage, list[Host]], None]"


def _slow(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    for host in hosts:
        host.slow(fault.factor or 1.0)


def _quicken(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    for host in hosts:
        host.slow(1.0)


def _crash(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    for host in hosts:
        host.crash()


def _restart(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    for host in hosts:
        host.restart()


def _freeze(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    for host in hosts:
        host.freeze()


def _thaw(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    for host in hosts:
        host.thaw()


def _err(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    for host in hosts:
        service = host.behaviour
        assert isinstance(service, Service)
        host.behaviour = replace(
            service, errors=fault.share or 0.0, status=fault.status or 500, error_time=fault.after
        )


def _answer(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    for host in hosts:
        service = host.behaviour
        assert isinstance(service, Service)
        host.behaviour = replace(service, errors=0.0)


def _cut(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    stage.cuts[fault] = stage.network.partition(host.address for host in hosts)


def _heal(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    stage.network.heal(stage.cuts.pop(fault))


def _lose(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    for host in hosts:
        stage.network.lose(host.address, fault.share or 0.0)


def _keep(fault: Fault, stage: Stage, hosts: list[Host]) -> None:
    for host in hosts:
        stage.network.lose(host.address, 0.0)


#: What a kind of fault does, and what undoes it.
_EFFECTS: dict[str, tuple[Effect, Effect]] = {
    "slow": (_slow, _quicken),
    "crash": (_crash, _restart),
    "freeze": (_freeze, _thaw),
    "errors": (_err, _answer),
    "partition": (_cut, _heal),
    "loss": (_lose, _keep),
    "restart": (_crash, _restart),
}

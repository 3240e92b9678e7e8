"""A scenario: what is simulated, read from a TOML file or a dict.

It tells the load, the hosts, the network to them, the faults, and the clients with their policy.
Under ``[variant.NAME]`` it may change anything of that: each variant is run on its own, with the
same arrivals, and all are shown beside each other. ``examples/simulate`` has examples.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from holdfast.cluster.balancing import balancer_of
from holdfast.cluster.core import EJECTION, POLICY
from holdfast.cluster.health import Ejection
from holdfast.policy import Policy
from holdfast.policy.checks import at_least, choice, not_negative, positive, share, wrong
from holdfast.policy.specs import Spec
from holdfast.simulation.distributions import distribution
from holdfast.simulation.faults import Fault
from holdfast.simulation.load import Load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from typing import Self

__all__ = ["Between", "Clients", "Hosts", "Scenario", "Variant"]

_LOAD = Load(rate=100.0)


def _check_seconds(spec: object, name: str) -> None:
    value = getattr(spec, name)
    try:
        distribution(value)
    except ValueError as error:
        kind = type(spec).__name__
        raise ValueError(f"{kind}: {name} is no time in seconds: {error}") from None


@dataclass(frozen=True, slots=True, repr=False)
class Clients(Spec):
    """Who calls: ``count`` clients, each a cluster with a state of its own, share the load.

    ``balancer``: the name of the balancer of their clusters. ``ejection``: when their clusters
    leave a host out.
    """

    count: int = 1
    balancer: str = "p2c"
    ejection: Ejection | None = EJECTION

    def __post_init__(self) -> None:
        at_least(self, 1, "count")
        try:
            balancer_of(self.balancer)
        except ValueError as error:
            raise ValueError(f"Clients: balancer is not known: {error}") from None


@dataclass(frozen=True, slots=True, repr=False)
class Hosts(Spec):
    """The hosts: ``count`` of them, all alike.

    Each serves ``workers`` requests at once, each of which takes ``service`` seconds, a number or
    a distribution; ``queue`` more may wait, and the others are answered with 503 at once.
    ``abandoned`` tells what becomes of requests whose client has gone away: ``"waste"``, they are
    served all the same, as by most servers; or ``"drop"``, the work ends.
    """

    count: int = 10
    workers: int = 10
    queue: int = 100
    service: float | Mapping[str, Any] = 0.01
    abandoned: Literal["waste", "drop"] = "waste"

    def __post_init__(self) -> None:
        at_least(self, 1, "count", "workers")
        at_least(self, 0, "queue")
        choice(self, ("waste", "drop"), "abandoned")
        _check_seconds(self, "service")


@dataclass(frozen=True, slots=True, repr=False)
class Between(Spec):
    """The network between clients and hosts.

    ``latency``: seconds of one way, a number or a distribution. ``loss``: the share of what is
    sent that is lost, and sent again.
    """

    latency: float | Mapping[str, Any] = 0.0005
    loss: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds(self, "latency")
        share(self, "loss")


_CLIENTS, _HOSTS, _BETWEEN = Clients(), Hosts(), Between()


@dataclass(frozen=True, slots=True, repr=False)
class Variant(Spec):
    """One way to run a scenario.

    ``duration``: for how many seconds calls arrive. ``interval``: seconds of one period of the
    report. ``warmup``: seconds at the beginning that the summary leaves out. ``fault``: what goes
    wrong.
    """

    duration: float = 60.0
    interval: float = 1.0
    warmup: float = 0.0
    load: Load = _LOAD
    clients: Clients = _CLIENTS
    hosts: Hosts = _HOSTS
    network: Between = _BETWEEN
    fault: tuple[Fault, ...] = ()
    policy: Policy = POLICY

    def __post_init__(self) -> None:
        positive(self, "duration", "interval")
        not_negative(self, "warmup")
        if self.warmup >= self.duration:
            rule = f"must be shorter than the duration, which is {self.duration!r}"
            raise wrong(self, "warmup", rule, self.warmup)
        for number, fault in enumerate(self.fault):
            try:
                self._check_fault(number, fault)
            except ValueError as error:
                reason = str(error).partition(": ")[2]
                raise ValueError(f"Variant: fault[{number}].{reason}") from None

    def _check_fault(self, number: int, fault: Fault) -> None:
        count = self.hosts.count
        fault.struck(count)
        if fault.at >= self.duration:
            rule = f"must be earlier than the end, which is at {self.duration!r}"
            raise wrong(fault, "at", rule, fault.at)
        for earlier, other in enumerate(self.fault[:number]):
            if fault.overlaps(other, count):
                rule = f"begins while fault[{earlier}], of the same kind, lasts at the same host"
                raise wrong(fault, "at", rule, fault.at)


_COMMON = ("title", "description", "seed", "variant")


@dataclass(frozen=True, slots=True, repr=False)
class _About(Spec):
    """What is the same in all variants, and the variants as they were read."""

    title: str = "A simulation"
    description: str = ""
    seed: int = 0
    variant: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        at_least(self, 0, "seed")


@dataclass(frozen=True)
class Scenario:
    """Variants of one course of events, by name; a scenario without variants has one named ``""``.

    ``seed`` is that of all randomness.
    """

    title: str
    description: str
    seed: int
    variants: Mapping[str, Variant]

    @classmethod
    def from_toml(cls, path: str | PathLike[str]) -> Self:
        """Read a scenario from a file.

        Raises OSError when it cannot be read, ValueError, which names the dotted key and the
        value, when it is no scenario.
        """
        with open(path, "rb") as file:
            try:
                return cls.from_dict(tomllib.load(file))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"not valid TOML: {error}") from None

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Self:
        """Read a scenario from what a TOML file says.

        Raises ValueError, which names the dotted key and the value.
        """
        try:
            return cls._read(mapping)
        except ValueError as error:
            # Which class refused it is of no interest to who wrote the file.
            raise ValueError(f"Scenario: {str(error).partition(': ')[2]}") from None

    @classmethod
    def _read(cls, mapping: Mapping[str, Any]) -> Self:
        base = dict(mapping)
        if "variant" not in base and "variants" in base:
            raise ValueError("Variant: variants is an unknown key; did you mean variant?")
        about = _About.from_dict({name: base.pop(name) for name in _COMMON if name in base})
        common = Variant.from_dict(base)
        if not about.variant:
            return cls(about.title, about.description, about.seed, {"": common})
        variants = {}
        for name, over in about.variant.items():
            if not isinstance(over, Mapping):
                raise ValueError(f"Variant: variant.{name} must be a table, not {over!r}")
            variants[name] = Variant.from_dict(_merged(base, over), at=f"variant.{name}")
        return cls(about.title, about.description, about.seed, variants)

    def chosen(self, names: Sequence[str] = (), seed: int | None = None) -> Scenario:
        """Return the scenario with some of its variants only, or with another seed.

        Raises ValueError for a variant that there is not.
        """
        for name in names:
            if name not in self.variants:
                named = ", ".join(repr(one) for one in self.variants if one)
                there = f"there are {named}" if named else "the scenario has none"
                raise ValueError(f"there is no variant {name!r}; {there}")
        variants = {name: self.variants[name] for name in names} if names else self.variants
        return replace(self, variants=variants, seed=self.seed if seed is None else seed)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``over``; tables are merged, all else is replaced."""
    result = dict(base)
    for name, value in over.items():
        below = result.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = _merged(below, value)
        result[name] = value
    return result

"""How long things take: distributions of seconds, drawn from a seeded generator.

Each is an immutable value; ``sample(random)`` draws from a function that returns numbers from 0
to 1, so the same numbers give the same seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import exp, inf, isfinite, log
from statistics import NormalDist
from typing import Any, TypeAlias

__all__ = [
    "Constant",
    "Distribution",
    "Exponential",
    "LogNormal",
    "Pareto",
    "Seconds",
    "Uniform",
    "distribution",
]

_NORMAL = NormalDist()


class Distribution(ABC):
    """How long something takes, in seconds."""

    __slots__ = ()

    @abstractmethod
    def sample(self, random: Callable[[], float]) -> float:
        """Draw a number of seconds."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """The mean in seconds."""


#: A distribution, or as many seconds each time.
Seconds: TypeAlias = "Distribution | float"


@dataclass(frozen=True, slots=True)
class Constant(Distribution):
    """As long each time."""

    seconds: float

    def __post_init__(self) -> None:
        _check(self, least=0.0)

    def sample(self, random: Callable[[], float]) -> float:
        """Return the seconds."""
        return self.seconds

    @property
    def mean(self) -> float:
        """The seconds."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class Uniform(Distribution):
    """Anything from ``low`` to ``high`` seconds."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(self, least=0.0)
        if self.high < self.low:
            raise ValueError(f"Uniform.high must be at least low ({self.low!r}), not {self.high!r}")

    def sample(self, random: Callable[[], float]) -> float:
        """Draw evenly."""
        return self.low + (self.high - self.low) * random()

    @property
    def mean(self) -> float:
        """The middle."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class Exponential(Distribution):
    """What has no memory, with a mean in seconds: the service time of an M/M/c queue."""

    mean: float

    def __post_init__(self) -> None:
        _check(self)

    def sample(self, random: Callable[[], float]) -> float:
        """Draw by the inverse of the distribution function."""
        return -self.mean * log(1.0 - random())


@dataclass(frozen=True, slots=True)
class LogNormal(Distribution):
    """Most near ``median`` seconds, some much longer: what services show when all is well.

    ``sigma`` is the standard deviation of the logarithm; at 0.5 the 99th percentile is 3.2 times
    the median, at 1.0 it is 10 times.
    """

    median: float
    sigma: float = 0.5

    def __post_init__(self) -> None:
        _check(self)

    def sample(self, random: Callable[[], float]) -> float:
        """Draw by the inverse of the distribution function."""
        share = random()
        return self.median * exp(self.sigma * _NORMAL.inv_cdf(share)) if share > 0.0 else 0.0

    @property
    def mean(self) -> float:
        """The mean, which is above the median."""
        return self.median * exp(self.sigma**2 / 2)


@dataclass(frozen=True, slots=True)
class Pareto(Distribution):
    """Never less than ``least`` seconds, with a heavy tail: the smaller ``shape``, the heavier.

    At 1 or less the mean is infinite.
    """

    least: float
    shape: float = 2.0

    def __post_init__(self) -> None:
        _check(self)

    def sample(self, random: Callable[[], float]) -> float:
        """Draw by the inverse of the distribution function."""
        share: float = (1.0 - random()) ** (-1.0 / self.shape)
        return self.least * share

    @property
    def mean(self) -> float:
        """The mean, where there is one."""
        return self.least * self.shape / (self.shape - 1) if self.shape > 1 else inf


_KINDS: dict[str, type[Distribution]] = {
    "constant": Constant,
    "exponential": Exponential,
    "lognormal": LogNormal,
    "pareto": Pareto,
    "uniform": Uniform,
}


def distribution(value: Distribution | float | Mapping[str, Any]) -> Distribution:
    """Return the distribution that a value means.

    A number of seconds, a distribution, or a mapping such as ``{"kind": "lognormal", "median":
    0.01, "sigma": 0.5}``. Raises ValueError that names what is wrong.
    """
    if isinstance(value, Distribution):
        return value
    if isinstance(value, Mapping):
        options = dict(value)
        kind = options.pop("kind", None)
        if kind not in _KINDS:
            known = ", ".join(_KINDS)
            raise ValueError(f"kind must be one of {known}, not {kind!r}")
        try:
            return _KINDS[kind](**options)
        except TypeError:
            names = ", ".join(field.name for field in fields(_KINDS[kind]))  # type: ignore[arg-type]
            given = ", ".join(options) or "nothing"
            raise ValueError(f"{kind} takes {names}, not {given}") from None
    return Constant(value)


def _check(spec: Any, least: float | None = None) -> None:
    """Raise ValueError for a field that is no finite number above zero, or from ``least`` on."""
    for field in fields(spec):
        value = getattr(spec, field.name)
        wrong = isinstance(value, bool) or not isinstance(value, int | float)
        if wrong or not isfinite(value) or (value <= 0 if least is None else value < least):
            bound = "above 0" if least is None else f"{least:g} or more"
            name = f"{type(spec).__name__}.{field.name}"
            raise ValueError(f"{name} must be a number {bound}, not {value!r}")

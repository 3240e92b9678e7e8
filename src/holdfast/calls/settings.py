"""What `fault_tolerant` is told, checked, and as a `Policy`."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn

from holdfast.calls.judging import RETRIED
from holdfast.policy import Breaker, Limit, Policy, Retry

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Settings"]

#: A queue without a bound: the total timeout bounds each wait.
_ENDLESS = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The arguments of `fault_tolerant`; raises ValueError or TypeError for what makes no sense."""

    dependency_id: str
    reactor: Any = None
    circuit_reset_timeout: float = 10
    load_balancer: Any = None
    http_pool_size: int = 10
    fallback: Callable[..., Any] | None = None
    timeout: float | None = 5
    retry_attempts: int = 3
    max_open_per_netloc: int = 10
    retry_on_timeout: bool = False
    expected_in: float | None = None
    statsd: Any = None
    use_proxy: bool = False
    context_factory: Any = None
    connect_timeout: float | None = 1
    retry_on: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        name: object = self.dependency_id
        if not isinstance(name, str) or not name:
            self._wrong("dependency_id", "must be a name, or left out", TypeError)
        for field in ("timeout", "expected_in", "connect_timeout"):
            self._seconds(field, getattr(self, field), inf, " or None for no limit")
        self._seconds("circuit_reset_timeout", self.circuit_reset_timeout or 0, 1e9, "")
        self._whole("retry_attempts", 0)
        self._whole("http_pool_size", 1)
        self._whole("max_open_per_netloc", 1)
        for field in ("retry_on_timeout", "use_proxy"):
            if not isinstance(getattr(self, field), bool):
                self._wrong(field, "must be True or False", TypeError)
        if self.fallback is not None and not callable(self.fallback):
            self._wrong("fallback", "must be a function: its result takes the place", TypeError)
        if self.reactor is not None and not callable(getattr(self.reactor, "callLater", None)):
            self._wrong("reactor", "must be a reactor of Twisted, or None", TypeError)
        kinds: Any = self.retry_on
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            self._wrong("retry_on", "must be classes of exceptions", TypeError)
        object.__setattr__(self, "retry_on", kinds)

    def policy(self) -> Policy:
        """Return the policy that carries this out."""
        open_for = self.circuit_reset_timeout
        # One probe after the same time, always.
        breaker: dict[str, Any] = {"open_for": open_for, "factor": 1.0, "cap": max(open_for, 300)}
        if self.expected_in is not None:
            # By calls, not by time: what is slow is seldom called often.
            breaker |= {"slow_after": self.expected_in, "slow_rate": 0.5, "last": 20, "calls": 10}
        return Policy(
            timeout=self.timeout,
            retry=Retry(attempts=self.retry_attempts + 1, statuses=RETRIED),
            breaker=Breaker(**breaker),
            limit=Limit(self.max_open_per_netloc, queue=_ENDLESS),
        )

    def _seconds(self, field: str, value: Any, most: float, otherwise: str) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            self._wrong(field, f"must be seconds above 0{otherwise}", ValueError)

    def _whole(self, field: str, least: int) -> None:
        value = getattr(self, field)
        if type(value) is not int or value < least:
            self._wrong(field, f"must be a whole number from {least}", ValueError)

    def _wrong(self, field: str, rule: str, kind: type[Exception]) -> NoReturn:
        raise kind(f"fault_tolerant: {field} {rule}, not {getattr(self, field)!r}")

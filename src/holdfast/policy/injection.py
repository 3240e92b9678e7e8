"""Fault injection: to see, before it happens, what happens when hosts fail."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from holdfast.policy.checks import exceptions, flag, limit, positive, share, wrong
from holdfast.policy.specs import Spec

__all__ = ["Fault", "injected"]


@dataclass(frozen=True, slots=True, repr=False)
class Fault(Spec):
    """A fault that a ``share`` of the attempts meets.

    ``delay``: seconds before the attempt begins. Then one of: ``status``, an answer with that
    status instead of the host's; ``error``, an exception (its class, or an object) instead of the
    attempt; ``cut``, the connection breaks once the request was carried out. It holds for attempts
    whose ``method``, ``path`` and ``endpoint`` match the patterns, as in ``fnmatch``; of a
    function, its name is the endpoint. (Envoy's fault filter, Polly's Simmy.)
    """

    share: float
    delay: float | None = None
    status: int | None = None
    error: type[Exception] | Exception | None = None
    cut: bool = False
    method: str = "*"
    path: str = "*"
    endpoint: str = "*"

    def __post_init__(self) -> None:
        share(self, "share")
        positive(self, "share")
        limit(self, "delay")
        status: object = self.status
        if status is not None and not (type(status) is int and 200 <= status <= 599):
            raise wrong(self, "status", "must be a code from 200 to 599", status)
        if self.error is not None:
            self._check_error(self.error)
        flag(self, "cut")
        for name in ("method", "path", "endpoint"):
            if not isinstance(getattr(self, name), str):
                raise wrong(self, name, "must be a pattern", getattr(self, name))
        outcomes = (self.status is not None) + (self.error is not None) + self.cut
        if outcomes > 1:
            raise ValueError("Fault: only one of status, error and cut is possible")
        if not outcomes and self.delay is None:
            raise ValueError("Fault: it needs a delay, a status, an error or cut")

    def _check_error(self, error: type[Exception] | Exception) -> None:
        """Raise ValueError unless an error can be made for each attempt."""
        if not isinstance(error, Exception):
            exceptions(self, "error")
        try:
            copy.copy(error) if isinstance(error, Exception) else error("")
        except Exception:
            raise wrong(self, "error", "must be made of a message alone", error) from None

    def meets(self, method: str, path: str, endpoint: str) -> bool:
        """Tell whether it may happen to an attempt."""
        return (
            (self.path == "*" or fnmatchcase(path, self.path))
            and (self.method == "*" or fnmatchcase(method, self.method))
            and (self.endpoint == "*" or fnmatchcase(endpoint, self.endpoint))
        )


def injected(
    faults: Sequence[Fault], method: str, path: str, endpoint: str, random: Callable[[], float]
) -> Fault | None:
    """Return the first fault that an attempt meets now, None when it meets none."""
    for fault in faults:
        if fault.meets(method, path, endpoint) and random() < fault.share:
            return fault
    return None

"""All policies of a cluster or a function, together."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.policy.adaptive import AdaptiveLimit
from holdfast.policy.admission import Admission
from holdfast.policy.breaker import Breaker
from holdfast.policy.budget import Budget
from holdfast.policy.checks import limit, part, wrong
from holdfast.policy.coalescing import Coalesce
from holdfast.policy.fallback import Fallback
from holdfast.policy.hedge import Hedge
from holdfast.policy.injection import Fault
from holdfast.policy.limit import Limit
from holdfast.policy.rate import RateLimit
from holdfast.policy.retry import Retry
from holdfast.policy.specs import Spec

if TYPE_CHECKING:
    from os import PathLike
    from typing import IO, Self

__all__ = ["Policy"]

F = TypeVar("F", bound=Callable[..., Any])

_HEADER = re.compile(r"[A-Za-z0-9\-_]+")


@dataclass(frozen=True, slots=True, repr=False)
class Policy(Spec):
    """What is done so that a call survives. A part that is None is turned off.

    ``timeout``: seconds for the whole call, with retries and waits; a call within another one has
    no more than what is left of that. ``deadline_header``: a header that tells each host how many
    milliseconds are left, such as Envoy's ``x-envoy-expected-rq-timeout-ms``.

    ``retry`` and ``hedge``: further attempts, after a failure and when an answer is late;
    ``budget``: how many of them all calls together may make. ``breaker`` and ``limit``: each
    endpoint's own circuit breaker and concurrency limit. ``cluster_limit``, ``rate`` and
    ``admission``: limits over all endpoints together: of calls at once, of attempts a second,
    and to what the endpoints accept. ``fallback``: what is answered in the end when all failed.
    ``coalesce``: identical calls at the same time are one. ``faults``: what is to go wrong.

    A policy decorates functions, too: ``@Policy(timeout=1.0)``; see `__call__`.
    """

    timeout: float | None = 5.0
    retry: Retry | None = Retry()
    budget: Budget | None = Budget()
    hedge: Hedge | None = None
    breaker: Breaker | None = Breaker()
    limit: Limit | AdaptiveLimit | None = Limit()
    cluster_limit: Limit | AdaptiveLimit | None = None
    rate: RateLimit | None = None
    admission: Admission | None = None
    fallback: Fallback | None = None
    coalesce: Coalesce | None = None
    faults: tuple[Fault, ...] = ()
    deadline_header: str | None = None

    def __post_init__(self) -> None:
        limit(self, "timeout")
        part(self, Retry, "retry")
        part(self, Budget, "budget")
        part(self, Hedge, "hedge")
        part(self, Breaker, "breaker")
        part(self, (Limit, AdaptiveLimit), "limit", "cluster_limit")
        part(self, RateLimit, "rate")
        part(self, Admission, "admission")
        part(self, Fallback, "fallback")
        part(self, Coalesce, "coalesce")
        faults: object = self.faults
        if isinstance(faults, Fault):
            faults = (faults,)
        if not isinstance(faults, (tuple, list)) or not all(isinstance(f, Fault) for f in faults):
            raise wrong(self, "faults", "must be Faults", faults)
        object.__setattr__(self, "faults", tuple(faults))
        header: object = self.deadline_header
        if header is not None and not (isinstance(header, str) and _HEADER.fullmatch(header)):
            raise wrong(self, "deadline_header", "must be a header's name", header)

    @classmethod
    def from_toml(cls, source: str | PathLike[str] | IO[bytes], *, table: str = "") -> Self:
        """Return the policy that a TOML file, or a text with line breaks in it, describes.

        Its keys are the names of the fields; each part is a table, or false to turn it off::

            timeout = 2.0
            breaker = false
            [retry]
            attempts = 5

        ``table`` is the dotted name of the table to read, "" for the whole document. Raises
        ValueError, naming the key and the value, and OSError for a file that is not there.
        """
        from holdfast.policy.config import from_toml  # it imports the module of `Spec`

        return from_toml(cls, source, table)

    def __call__(self, function: F) -> F:
        """Decorate a function, plain or asynchronous, so that calls of it survive.

        A plain function that returns a coroutine is treated as an asynchronous one, from the call
        that does so. One that returns a Deferred raises TypeError: it takes
        `holdfast.drivers.twisted.Driver.under`.

        The function is to this policy what an endpoint is in a cluster: it has one breaker and
        one limit, shared by all its calls. Its errors count against the breaker and are raised
        as they are, with the attempts in their notes; those in ``retry.exceptions`` are worth
        another attempt. A deadline cancels an asynchronous function; a plain one runs to its end,
        and is not repeated after it.
        """
        # The one way up from a policy to what carries it out: users find the decorator here.
        from holdfast.cluster.functions import decorated

        return decorated(self, function)

"""Active checks: every endpoint is asked now and then whether it is well."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.errors import HoldfastError
from holdfast.http.exchange import exchange
from holdfast.http.limits import Timeout
from holdfast.http.pools import ConnectionPool
from holdfast.http.requests import Request
from holdfast.policy.checks import at_least, positive, status_codes, wrong
from holdfast.policy.specs import Spec
from holdfast.wire.http1 import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.cluster.endpoints import Endpoint, EndpointSet
    from holdfast.ops import Program

__all__ = ["Check", "Checking"]

#: Checks at the same time. Where so many endpoints hang, others wait for a timeout to be checked.
TOGETHER = 256

#: Bytes that an answer may have: what matters is its status.
BODY = 1 << 20


@dataclass(frozen=True, slots=True, repr=False)
class Check(Spec):
    """A GET of ``path`` at each endpoint every ``interval`` seconds.

    It passes when an answer with one of the ``statuses`` is there within ``timeout`` seconds. An
    endpoint that fails ``unhealthy`` checks in a row is out until ``healthy`` ones in a row pass.
    """

    path: str = "/"
    interval: float = 10.0
    timeout: float = 1.0
    healthy: int = 2
    unhealthy: int = 3
    statuses: Collection[int] = frozenset(range(200, 400))

    def __post_init__(self) -> None:
        path: object = self.path
        if not isinstance(path, str) or not path.startswith("/"):
            raise ValueError(f"Check: path must be a string such as '/health', not {path!r}")
        positive(self, "interval", "timeout")
        at_least(self, 1, "healthy", "unhealthy")
        object.__setattr__(self, "statuses", status_codes(self, "statuses"))
        if not self.statuses:
            raise wrong(self, "statuses", "must name a status that passes", self.statuses)


class _Record:
    """What the checks of one endpoint said, and the connection for them."""

    __slots__ = ("failed", "passed", "pool")

    def __init__(self, endpoint: Endpoint) -> None:
        pool = endpoint.pool
        # Its own: a check neither takes a call's connection nor leaves it a bad one.
        self.pool = ConnectionPool(pool.origin, pool.transport, True, pool.name)
        self.passed = 0  # in a row
        self.failed = 0


class Checking:
    """Checks the endpoints of a set, in turns; for one program at a time.

    The first checks are spread over one interval at random, so that many clients do not check at
    the same time. Endpoints that are functions are not checked.
    """

    def __init__(
        self,
        endpoints: EndpointSet,
        check: Check,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self.check = check
        self._endpoints = endpoints
        self._clock = clock
        self._random = random
        self._request = Request(
            "GET", check.path, Timeout(total=check.timeout, connect=None), max_body=BODY
        )
        self._version = -1
        self._records: dict[Endpoint, _Record] = {}
        self._due: list[tuple[float, int, Endpoint]] = []
        self._order = itertools.count()

    def turn(self) -> Program[float]:
        """Make the checks that are due, and return when to come again."""
        now = self._clock()
        if self._version != self._endpoints.version:
            self._enrol(now)
        interval = self.check.interval
        taken: list[Endpoint] = []
        # What is due soon is taken along: many at once cost less than one by one.
        while self._due and self._due[0][0] <= now + interval / 20 and len(taken) < TOGETHER:
            at, order, endpoint = heapq.heappop(self._due)
            if endpoint in self._records:
                taken.append(endpoint)
                heapq.heappush(self._due, (max(at, now) + interval, order, endpoint))
        if taken:
            results = yield ops.All([self._check(endpoint) for endpoint in taken])
            for result in results:
                if result is not None:
                    raise result  # a mistake of ours
        soonest = self._due[0][0] if self._due else now + interval
        return min(soonest, now + interval)

    def close(self) -> None:
        """Close the connections."""
        for record in self._records.values():
            record.pool.close()

    def _enrol(self, now: float) -> None:
        """Follow the changes of the members."""
        self._version = self._endpoints.version
        before = dict(self._records)
        records: dict[Endpoint, _Record] = {}
        for endpoint in self._endpoints.all:
            if not endpoint.is_host:
                continue
            record = before.pop(endpoint, None)
            if record is None:
                record = _Record(endpoint)
                at = now + self._random() * self.check.interval
                heapq.heappush(self._due, (at, next(self._order), endpoint))
            records[endpoint] = record
        self._records = records  # a new one: `close` may be under way in another thread
        for record in before.values():
            record.pool.close()

    def _check(self, endpoint: Endpoint) -> Program[None]:
        check = self.check
        record = self._records[endpoint]
        try:
            deadline = self._clock() + check.timeout
            response = yield from exchange(record.pool, self._request, deadline)
            passed = response.status_code in check.statuses
            cause = f"status {response.status_code}"
        except TimeoutError:
            passed = False
            cause = f"no answer within {check.timeout:g} s"
        except (HoldfastError, OSError, WireError) as error:
            passed = False
            cause = str(error)
        if passed:
            record.passed += 1
            record.failed = 0
            if record.passed == check.healthy:
                plural = "s" if check.healthy > 1 else ""
                self._endpoints.judge(
                    endpoint, True, self._clock(), f"{check.healthy} check{plural} passed"
                )
        else:
            record.failed += 1
            record.passed = 0
            if record.failed == check.unhealthy:
                plural = "s" if check.unhealthy > 1 else ""
                self._endpoints.judge(
                    endpoint,
                    False,
                    self._clock(),
                    f"{check.unhealthy} check{plural} failed: {cause}",
                )

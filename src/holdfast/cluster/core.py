"""The call of a cluster, as programs: what `Cluster`, `AsyncCluster` and the faces run."""

from __future__ import annotations

import random as random_module
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.cluster.balancers import BalancerTypes, PowerOfTwo, balancer_of
from holdfast.cluster.choosing import Chooser
from holdfast.cluster.endpoints import Endpoint, EndpointSet
from holdfast.cluster.health import Ejection
from holdfast.cluster.retry_after import retry_after
from holdfast.errors import (
    AttemptTimeout,
    DeadlineExceeded,
    HoldfastError,
    NoEndpointError,
)
from holdfast.http.attempts import Attempt
from holdfast.http.bodies import SourceError
from holdfast.http.exchange import Started, exchange
from holdfast.http.failures import translated
from holdfast.http.origins import Origin
from holdfast.http.pools import ConnectionPool, Transport
from holdfast.http.redirects import fetch
from holdfast.http.responses import Response
from holdfast.policy import Limiter, Policy, RetryBudget
from holdfast.policy.window import Window
from holdfast.wire.http1 import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.http.requests import Request
    from holdfast.ops import Program

__all__ = ["ClusterCore"]

#: Seconds that a Retry-After is waited for at most, also where there is no deadline.
PATIENCE = 60.0

POLICY = Policy()
EJECTION = Ejection()


class ClusterCore:
    """Hosts, a policy and a balancer; safe among threads.

    ``hosts``: strings as `Origin.parse` takes them. ``clock`` returns seconds, ``random`` numbers
    from 0 to 1; both are there to be replaced in tests and simulations.
    """

    def __init__(
        self,
        hosts: Iterable[str],
        *,
        policy: Policy = POLICY,
        balancer: BalancerTypes | None = None,
        ejection: Ejection | None = EJECTION,
        transport: Transport | None = None,
        clock: Callable[[], float] = monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        hosts = [hosts] if isinstance(hosts, str) else list(hosts)
        origins = [Origin.parse(host) for host in hosts]
        places: set[str] = set()
        for host, origin in zip(hosts, origins, strict=True):
            if origin.url in places:
                raise NoEndpointError(f"the host {shown(host)!r} is named twice")
            places.add(origin.url)
        self.policy = policy
        self.balancer = balancer_of(balancer) if balancer is not None else PowerOfTwo()
        self.transport = transport if transport is not None else Transport(clock=clock)
        retry = policy.retry
        self._statuses = retry.statuses if retry is not None else frozenset()
        self._attempt_timeout = retry.attempt_timeout if retry is not None else None
        self._observes = self.balancer.observes
        #: Statuses from here on count against an endpoint's health.
        self.fault_status = 500
        self.clock = clock
        self.random = random
        self.endpoints = EndpointSet(
            (
                Endpoint(ConnectionPool(origin, self.transport, True, shown(host)), policy)
                for host, origin in zip(hosts, origins, strict=True)
            ),
            ejection,
        )
        self.choose = Chooser(self.endpoints, self.balancer, random).choose
        self._budget = RetryBudget(policy.budget) if policy.budget is not None else None
        self._calls = self._budget.window if self._budget is not None else Window(1.0)
        self._limiter = Limiter(policy.cluster_limit) if policy.cluster_limit is not None else None

    def close(self) -> None:
        """Close the kept connections."""
        for endpoint in self.endpoints.all:
            endpoint.pool.close()
        self.transport.close()

    def call(
        self,
        request: Request,
        prefer: Callable[[], Iterable[Endpoint]] | None = None,
        again: Callable[[Response], bool] | None = None,
        attempts: int | None = None,
    ) -> Program[Response]:
        """Call one endpoint, and others after it when that fails, within the policy.

        ``prefer`` gives the endpoints in the order of preference instead of the balancer;
        ``again`` tells which responses are worth another attempt, instead of the policy's
        statuses; ``attempts`` replaces the policy's number of them. Raises HoldfastError with the
        attempts that were made.
        """
        began = now = self.clock()
        total = request.timeout.total
        deadline = inf if total is None else began + total
        calls = self._calls
        if now < calls.until:
            calls.hits += 1  # as `RetryBudget.deposit`, without the call
        elif self._budget is not None:
            self._budget.deposit(now)
        limiter = self._limiter
        made: list[Attempt] = []
        tried: tuple[Endpoint, ...] = ()
        outcome: Response | HoldfastError | None = None
        while True:
            try:
                endpoint, permit = self.choose(now, tried, prefer)
            except HoldfastError as error:
                if isinstance(outcome, Response) and outcome.reader is not None:
                    outcome = None  # it was closed already, and could not be read any more
                why = "no other endpoint may be called" if outcome is not None else ""
                return self._give_up(outcome or error, made, began, why, request)
            until = deadline if self._attempt_timeout is None else self._until(now, deadline)
            slots = 0
            ok: bool | None = None  # no verdict, so far
            response: Response | None = None
            failure: HoldfastError | None = None
            try:
                if not endpoint.try_acquire():
                    yield from endpoint.acquire(until)
                slots = 1
                if limiter is not None:
                    if not limiter.try_acquire():
                        yield from limiter.acquire(until)
                    slots = 2
                pool = endpoint.pool
                started: Started | None = None
                connection = pool.begin(request, until, now) if request.ordinary else None
                if connection is not None:
                    # The ordinary exchange, without a program of its own.
                    broken = None
                    try:
                        response = pool.accept(connection, request, (yield connection.round_trip))
                    except ConnectionError as error:
                        broken = error
                    except BaseException:
                        connection.close()
                        raise
                    if response is None:
                        started = Started(connection, request, until, broken)
                if response is None:
                    send = fetch if request.redirects else exchange
                    response = yield from send(pool, request, until, started)
                ok = response.status_code < self.fault_status
            except SourceError as failed:
                raise failed.error  # noqa: B904  the caller's own, as it was
            except (HoldfastError, OSError, WireError) as error:
                failure = self._failure(error, endpoint, request, slots, until, deadline)
                ok = False if failure.fault else None
            finally:
                ended = self.clock()
                if response is not None and response.reader is not None:
                    self._leave_open(response, endpoint, permit, ok, slots)
                elif not ok or limiter is not None or not endpoint.leave(permit, ended):
                    self._give_back(endpoint, permit, ok, slots, ended)
            if response is not None:
                if self._observes:
                    self.balancer.observe(endpoint, ended - now, ended)
                status = response.status_code
                if not (status in self._statuses if again is None else again(response)):
                    response.seconds = ended - began
                    if made:
                        made.append(_attempt(made, endpoint, now - began, ended - now, response))
                    response.tried = made or endpoint.name
                    return response
            outcome = response or failure
            assert outcome is not None
            made.append(_attempt(made, endpoint, now - began, ended - now, outcome))
            tried = (*tried, endpoint)
            delay = self._retry_delay(request, outcome, made, attempts, ended, deadline)
            if isinstance(delay, str):
                return self._give_up(outcome, made, began, delay, request)
            if response is not None and response.reader is not None:
                response.reader.close()
            slept = False
            try:
                yield ops.Sleep(ended + delay)
                slept = True
            finally:
                if not slept and self._budget is not None:
                    self._budget.refund()
            now = self.clock()

    def _give_back(
        self, endpoint: Endpoint, permit: int, ok: bool | None, slots: int, now: float
    ) -> None:
        """Give the slots of a call back, and pass the verdict on the endpoint."""
        self._free(endpoint, slots)
        self.endpoints.record(endpoint, permit, ok if slots else None, now)

    def _free(self, endpoint: Endpoint, slots: int) -> None:
        if slots:
            endpoint.release()
        if self._limiter is not None and slots > 1:
            self._limiter.release()

    def _until(self, now: float, deadline: float) -> float:
        assert self._attempt_timeout is not None
        return min(deadline, now + self._attempt_timeout)

    def _leave_open(
        self, response: Response, endpoint: Endpoint, permit: int, ok: bool | None, slots: int
    ) -> None:
        """Pass the verdict now, and have the slots given back at the end of a streamed body."""
        # The head is the verdict: a stream may stay open for hours, and a probe must not.
        now = self.clock()
        self.endpoints.record(endpoint, permit, ok, now)

        def ended(error: Exception | None) -> None:
            self._free(endpoint, slots)
            if isinstance(error, HoldfastError) and error.fault:
                self.endpoints.record(endpoint, endpoint.permit, False, self.clock())

        response.reader.on_close.append(ended)

    def _failure(
        self,
        error: Exception,
        endpoint: Endpoint,
        request: Request,
        slots: int,
        until: float,
        deadline: float,
    ) -> HoldfastError:
        """Return what made an attempt fail, and which time was over if one was."""
        over = self.clock() >= deadline
        if slots == (1 if self._limiter is None else 2):  # otherwise it only queued
            error = translated(error, endpoint.pool, request.timeout, until)
        elif not isinstance(error, HoldfastError):
            kind = DeadlineExceeded if over else AttemptTimeout
            failure = kind(f"{endpoint.name}: no free slot in time")
            failure.fault = failure.sent = False
            return failure
        if isinstance(error, DeadlineExceeded) and not over:
            late = error.summary.replace("the deadline", "the attempt's time limit")
            failure = AttemptTimeout(late)
            failure.sent = error.sent
            return failure
        return error

    def _retry_delay(
        self,
        request: Request,
        outcome: Response | HoldfastError,
        made: Sequence[Attempt],
        attempts: int | None,
        now: float,
        deadline: float,
    ) -> float | str:
        """Return how long to wait before another attempt, or why there is none."""
        retry = self.policy.retry
        delay = 0.0
        if isinstance(outcome, HoldfastError):
            if not outcome.retryable:
                return ""
            maybe_done = outcome.sent
        else:
            delay = retry_after(outcome)
            # 429 (Too Many Requests) says itself that nothing was done.
            maybe_done = outcome.status_code != 429
        if retry is None or len(made) >= (attempts or retry.attempts):
            return "no attempt is left" if len(made) > 1 else ""
        if maybe_done and not request.idempotent:
            return f"{request.method} may have been carried out, and is not repeated"
        if not request.replayable:
            return "the body cannot be sent again"
        delay = max(delay, retry.delay(len(made), self.random))
        if now + delay >= deadline or delay > PATIENCE:
            return "the deadline is too near for another attempt"
        if self._budget is not None and not self._budget.withdraw(now):
            return "the retry budget is used up"
        return delay

    def _finished(self, response: Response, attempts: list[Attempt], began: float) -> Response:
        response.tried = attempts
        response.seconds = self.clock() - began
        return response

    def _give_up(
        self,
        outcome: Response | HoldfastError,
        attempts: list[Attempt],
        began: float,
        why: str,
        request: Request,
    ) -> Response:
        if not isinstance(outcome, HoldfastError):
            return self._finished(outcome, attempts, began)
        path = request.target.partition("?")[0]
        reason = f"{request.method} {path}: {outcome.summary}"
        # An error of its own: the one in the list of attempts stays as it was.
        failure = type(outcome)(f"{reason} ({why})" if why else reason)
        failure.attempts = tuple(attempts)
        failure.sent = outcome.sent
        raise failure from outcome

    def broadcast(
        self, requests: Sequence[tuple[Endpoint, Request]]
    ) -> Program[list[Response | Exception]]:
        """Make one attempt at each endpoint, all at the same time.

        Returns a response or an exception for each, in their order. An endpoint's circuit is
        asked, its ejection is not: every host was named.
        """
        results: list[Response | Exception] = yield ops.All(
            [
                self.call(request, lambda endpoint=endpoint: (endpoint,), attempts=1)  # type: ignore[misc]
                for endpoint, request in requests
            ]
        )
        return results


def _attempt(
    made: Sequence[Attempt],
    endpoint: Endpoint,
    started: float,
    elapsed: float,
    outcome: Response | HoldfastError,
) -> Attempt:
    number = len(made) + 1
    if isinstance(outcome, HoldfastError):
        return Attempt(number, endpoint.name, started, elapsed, None, outcome)
    return Attempt(number, endpoint.name, started, elapsed, outcome.status_code)


def shown(host: str) -> str:
    """Return a host as messages name it: as the caller wrote it, without credentials."""
    scheme, mark, rest = host.rpartition("://")
    authority, slash, path = rest.partition("/")
    return scheme + mark + authority.rpartition("@")[2] + slash + path

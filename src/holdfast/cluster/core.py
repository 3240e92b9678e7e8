"""The call of a cluster, as programs: what `Cluster`, `AsyncCluster` and the faces run."""

from __future__ import annotations

import random as random_module
from collections.abc import Iterable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.cluster.balancing import BalancerTypes, PowerOfTwo, balancer_of
from holdfast.cluster.caller import Caller, weakly
from holdfast.cluster.calls import PENDING
from holdfast.cluster.endpoints import Endpoint, EndpointSet
from holdfast.cluster.exchanges import HTTPCall
from holdfast.cluster.health import Ejection
from holdfast.cluster.hosts import Host, HostTypes, shown
from holdfast.cluster.upkeep import Upkeep
from holdfast.errors import HoldfastError, InvalidRequest, NoEndpointError
from holdfast.http.exchange import Started
from holdfast.http.origins import Origin
from holdfast.http.pools import ConnectionPool, Transport
from holdfast.http.responses import Response
from holdfast.policy import Policy
from holdfast.policy.deadline import OUTER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.cluster.balancing import SlowStart
    from holdfast.cluster.checking import Check
    from holdfast.cluster.discovery import Discovery
    from holdfast.http.connections import Connection
    from holdfast.http.requests import Request
    from holdfast.ops import Program
    from holdfast.policy.events import Listener

__all__ = ["ClusterCore"]

POLICY = Policy()
EJECTION = Ejection()


class ClusterCore(Caller):
    """Hosts, a policy and a balancer; safe among threads.

    ``hosts``: strings as `Origin.parse` takes them, `Host` objects, or a `Discovery`.
    ``slow_start``: how new endpoints get their share; ``check``: active checks. ``listeners`` are
    called with every event. ``clock`` returns seconds, ``random`` numbers from 0 to 1; both are
    there to be replaced in tests and simulations.
    """

    def __init__(
        self,
        hosts: Iterable[HostTypes] | Discovery,
        *,
        policy: Policy = POLICY,
        balancer: BalancerTypes | None = None,
        ejection: Ejection | None = EJECTION,
        slow_start: SlowStart | None = None,
        check: Check | None = None,
        transport: Transport | None = None,
        listeners: Iterable[Listener] = (),
        clock: Callable[[], float] = monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        super().__init__(
            policy,
            balancer_of(balancer) if balancer is not None else PowerOfTwo(),
            clock=clock,
            random=random,
            listeners=listeners,
        )
        self.transport = transport if transport is not None else Transport(clock=clock)
        self._observes = self.balancer.observes
        #: Statuses from here on count against an endpoint's health.
        self.fault_status = 500
        discovery: Discovery | None = None
        if isinstance(hosts, str):
            hosts = [hosts]
        elif not isinstance(hosts, Iterable):
            if not callable(getattr(hosts, "refresh", None)):
                raise InvalidRequest(f"hosts are a list of hosts, or a discovery, not {hosts!r}")
            discovery = hosts
            hosts = ()
        self.call_endpoints(
            EndpointSet(weakly(self._endpoint), hosts, ejection, weakly(self.on_change)), slow_start
        )
        #: What keeps the hosts up to date and checks them: to be started, or run as a program.
        self.upkeep = Upkeep(
            self.endpoints, discovery=discovery, check=check, clock=clock, random=random
        )

    def _endpoint(self, host: Host) -> Endpoint:
        origin = Origin.parse(host.address)
        pool = ConnectionPool(origin, self.transport, True, shown(host.address))
        return self.watch(Endpoint(pool.name, self.policy, pool, host.weight, host.priority))

    def close(self) -> None:
        """Close the kept connections, and end the upkeep."""
        self.upkeep.close()
        for endpoint in self.endpoints.all:
            endpoint.pool.close()
        self.transport.close()

    def find_hosts(self, deadline: float) -> Program[bool]:
        """Wait until a discovery has asked for the hosts once; tell whether there are some now.

        Raises NoEndpointError, with what went wrong, when there are none.
        """
        if self.endpoints.all:
            return False
        try:
            yield from self.upkeep.settled(deadline)
        except TimeoutError:
            raise NoEndpointError("no host is known: the discovery takes too long") from None
        if not self.endpoints.all:
            raise NoEndpointError(f"no host is known: {self.upkeep.trouble or 'there is none'}")
        return True

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
        if self.plain and request.ordinary and OUTER.get() is None:
            return self._ordinary(request, prefer, again, attempts)
        return HTTPCall(self, request, self.clock(), prefer, again, attempts).run()

    def _ordinary(
        self,
        request: Request,
        prefer: Callable[[], Iterable[Endpoint]] | None,
        again: Callable[[Response], bool] | None,
        attempts: int | None,
    ) -> Program[Response]:
        """Make an ordinary call: nothing but the first attempt, as long as that goes well.

        Whatever is out of the ordinary is left to an `HTTPCall`, which takes over where this is.
        """
        began = self.clock()
        calls = self.calls
        if began < calls.until:
            calls.hits += 1  # as `RetryBudget.deposit`, without the call
        else:
            self.count(began)
        try:
            key = request.target if request.key is None else request.key
            endpoint, permit = self.choose(began, (), prefer, key)
        except HoldfastError:
            call = HTTPCall(self, request, began, prefer, again, attempts)
            return (yield from call.survive())
        total = request.timeout.total
        until = inf if total is None else began + total
        if self.attempt_timeout is not None:
            until = min(until, began + self.attempt_timeout)
        slots = 0
        ended = began
        connection: Connection | None = None
        response: Response | None = None
        started: Started | None = None
        failed: Exception | None = None
        if endpoint.try_acquire():
            slots = 1
            pool = endpoint.pool
            try:
                connection = pool.begin(request, until, began)
                if connection is not None:
                    data = yield connection.round_trip
                    ended = self.clock()
                    response = pool.accept(connection, request, data, ended)
                    if response is None:
                        started = Started(connection, request, until, None)
            except ConnectionError as error:
                assert connection is not None
                started = Started(connection, request, until, error)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if not isinstance(error, Exception):  # the call was cancelled
                    self.free(endpoint, slots)
                    self.endpoints.record(endpoint, permit, None, self.clock())
                    raise
                failed = error
            if response is not None:
                status = response.status_code
                if (
                    status < self.fault_status
                    and status not in self.statuses
                    and again is None
                    and endpoint.leave(permit, ended)
                ):
                    if self._observes:
                        self.balancer.observe(endpoint, ended - began, ended)
                    response.seconds = ended - began
                    response.tried = endpoint.name
                    return response
        call = HTTPCall(self, request, began, prefer, again, attempts)
        outcome = response if response is not None else PENDING
        return (yield from call.resume(endpoint, permit, began, slots, started, failed, outcome))

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

"""The dispatchers that a client knows, and what all its calls of them share."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.cluster.core import EJECTION, ClusterCore
from holdfast.cluster.endpoint import Endpoint
from holdfast.errors import NoEndpointError
from holdfast.http.limits import Timeout
from holdfast.http.pools import ConnectionPool, Transport
from holdfast.jobs.errors import InvalidCall
from holdfast.jobs.fields import TEXT_LIMIT
from holdfast.jobs.lines import Lines
from holdfast.jobs.places import CAFile, duration, place, seconds, verification
from holdfast.policy import Breaker, Policy
from holdfast.policy.deadline import inherited

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from holdfast.cluster.hosts import Host, HostTypes
    from holdfast.http.tls import CertTypes
    from holdfast.ops import Program
    from holdfast.policy.events import Listener

__all__ = ["POLICY", "Dispatcher", "DispatcherCore"]

#: What is done so that calls of dispatchers survive, unless told otherwise. A call may last for
#: hours, and there may be any number of them, so there is no limit to either; and a dispatcher that
#: is started again is to be found soon.
POLICY = Policy(timeout=None, limit=None, breaker=Breaker(open_for=0.5, cap=2.0))


class Dispatcher(Endpoint):
    """One dispatcher.

    ``knows_ids``: whether it takes the ids that clients choose for jobs; None until it showed.
    """

    __slots__ = ("knows_ids",)

    def __init__(self, policy: Policy, pool: ConnectionPool, host: Host) -> None:
        super().__init__(pool.name, policy, pool, host.weight, host.priority)
        self.knows_ids: bool | None = None


class DispatcherCore(ClusterCore):
    """Dispatchers, in the order of preference; safe among threads. See `HarpCaller`."""

    def __init__(
        self,
        host: Sequence[HostTypes],
        port: int,
        tls: bool | ssl.SSLContext,
        ca_file: CAFile,
        cert: CertTypes,
        token: str | None,
        policy: Policy,
        shared: bool,
        connect_timeout: float | None,
        reply_timeout: float | None,
        patience: float | None,
        reconnect: float | None,
        max_line: int,
        listeners: Sequence[Listener],
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        given: object = token
        if given is not None and (
            not isinstance(given, str) or not given or len(given) > TEXT_LIMIT
        ):
            raise InvalidCall(f"token must be a string of 1 to {TEXT_LIMIT} characters")
        if max_line.__class__ is not int or max_line < 1:
            raise InvalidCall(f"max_line must be a number of bytes, from 1, not {max_line!r}")
        if not host:
            raise NoEndpointError("a caller needs at least one dispatcher")
        self._port = port
        self._secure = bool(tls) or ca_file is not None or cert is not None
        self.token = token
        self.shared = shared
        self.connect_timeout = Timeout(
            total=None, connect=seconds("connect_timeout", connect_timeout)
        )
        self.reply_timeout = seconds("reply_timeout", reply_timeout)
        self.patience = seconds("patience", patience)
        self.reconnect = duration("reconnect", reconnect)
        #: Whether a dispatcher was ever reached.
        self.met = False
        self.max_line = max_line
        super().__init__(
            host,
            policy=policy,
            ejection=EJECTION,
            transport=Transport(
                verify=verification(tls, ca_file) if self._secure else True, cert=cert, clock=clock
            ),
            listeners=listeners,
            clock=clock,
            random=random,
        )

    def _endpoint(self, host: Host) -> Dispatcher:
        origin = place(host.address, self._port, self._secure)
        pool = ConnectionPool(origin, self.transport, True)
        endpoint = Dispatcher(self.policy, pool, host)
        self.watch(endpoint)
        return endpoint

    @property
    def secure(self) -> bool:
        """Whether connections to the dispatchers are encrypted."""
        return self._secure

    def order(
        self, home: Endpoint | None = None, strangers: Sequence[Endpoint] = ()
    ) -> list[Endpoint]:
        """Return the dispatchers to ask: the job's home first, none that does not know the job."""
        order = [one for one in self.endpoints.all if one not in strangers]
        if home in order:
            order.sort(key=lambda one: one is not home)
        return order

    def until(self, limit: float | None) -> float:
        """Return when a wait that begins now is over, not after the deadline around it."""
        outer = inherited(self.clock)
        return min(outer, inf if limit is None else self.clock() + limit)

    def connect(self, endpoint: Endpoint, until: float, again: bool = True) -> Program[Lines]:
        """Return a connection to a dispatcher; ``again``: perhaps one that was kept."""
        connection = endpoint.pool.take(True) if again else None
        if connection is None:
            connection = yield from endpoint.pool.connect(self.connect_timeout, until)
            self.met = True
        return Lines(connection, self.max_line)

    def keep(self, endpoint: Endpoint, lines: Lines) -> None:
        """Keep a connection whose exchange is complete."""
        if lines.clean:
            endpoint.pool.give(lines.connection)
        else:
            lines.close()

    def signed(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a request with the token, if there is one."""
        if self.token is None or "token" in message:
            return message
        return {**message, "token": self.token}

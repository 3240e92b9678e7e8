"""`HarpCaller`: dispatchers, for programs that wait on their thread."""

from __future__ import annotations

import random as random_module
import weakref
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from holdfast.drivers import blocking
from holdfast.jobs.asking import ask_anything
from holdfast.jobs.calls import RemoteCall, RemoteServer
from holdfast.jobs.connections import JSONConnection, JSONSSLConnection, Link
from holdfast.jobs.core import POLICY, DispatcherCore
from holdfast.jobs.exchanges import Opening
from holdfast.jobs.groups import Group
from holdfast.jobs.messages import DISPATCHER_PORT, REPLY_LIMIT
from holdfast.jobs.places import CAFile
from holdfast.jobs.remote import refuse_dunder
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Self

    from holdfast.cluster.hosts import HostTypes
    from holdfast.http.tls import CertTypes
    from holdfast.ops import Program
    from holdfast.policy import Policy
    from holdfast.policy.events import Listener

__all__ = ["BaseCaller", "HarpCaller"]


class BaseCaller:
    """What the blocking and the asynchronous class have in common."""

    def __init__(
        self,
        host: HostTypes | Iterable[HostTypes],
        port: int = DISPATCHER_PORT,
        *,
        tls: bool | ssl.SSLContext = False,
        ca_file: CAFile = None,
        cert: CertTypes = None,
        token: str | None = None,
        policy: Policy = POLICY,
        shared: bool = False,
        connect_timeout: float | None = 5.0,
        reply_timeout: float | None = 30.0,
        patience: float | None = 60.0,
        reconnect: float | None = 30.0,
        max_line: int = REPLY_LIMIT,
        listeners: Iterable[Listener] = (),
        clock: Callable[[], float] = monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        settings = dict(locals())  # the arguments, as there is nothing else yet
        del settings["self"]
        if isinstance(host, (str, dict)) or not isinstance(host, Iterable):
            settings["host"] = [host]
        for name in ("host", "listeners"):  # iterators are used up
            settings[name] = list(settings[name])
        self._settings: dict[str, Any] = settings
        self._core = core = DispatcherCore(**settings)
        # Kept connections go with the last one that could use them.
        weakref.finalize(self, core.close)

    def __repr__(self) -> str:
        names = ", ".join(endpoint.name for endpoint in self._core.endpoints.all)
        return f"<{type(self).__name__} {names}>"

    # A copy is another caller of the same dispatchers, with connections of its own.

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self._settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(**self._settings)

    def _open(self) -> Program[Link]:
        """Connect to a dispatcher."""
        core = self._core
        call = Opening(core, {}, "connect", "")
        lines = yield from call.run()
        assert call.endpoint is not None
        connect_timeout = core.connect_timeout.connect
        link = Link(call.endpoint.pool, connect_timeout, core.reply_timeout, core.max_line)
        link.lines = lines
        return link


def _again(kind: type[BaseCaller], settings: dict[str, Any]) -> BaseCaller:
    return kind(**settings)


class HarpCaller(BaseCaller, Closing):
    """A dispatcher, or several; any other attribute is a server that procedures are called on.

    Safe to share among threads. Use it as a context manager, `close` it, or drop it.

    ``host``: the address of a dispatcher, or a list of addresses, ``"name"`` or ``"name:port"``:
    the first that can be reached is called, in this order. ``port``: that of addresses without
    one. ``shared``: whether the dispatchers have one store, so that each knows the jobs of all;
    only then is a call that may have been submitted repeated at another one.

    ``tls``: encrypt, and verify the dispatcher by the system's authorities, or by those of
    ``ca_file``, or as an `ssl.SSLContext` says; ``cert``: the client's certificate, as in requests.
    ``token``: who asks; both are for dispatchers that are secured.

    ``policy``: what is done so that calls survive. ``connect_timeout``: seconds for connecting,
    ``reply_timeout``: for each reply that is due at once. Where a job may let wait, in
    ``get(wait=True)`` and `RemoteCall.follow`, there is no limit; after ``patience`` seconds of
    silence it is asked anew over another connection, and a dispatcher that was there before and is
    gone is waited for for ``reconnect`` seconds: 0 is not at all, None without a limit. A
    `holdfast.deadline` holds for all. ``max_line``: the most bytes in a result or a packet.
    ``listeners`` are called with every event; ``clock`` and ``random`` are for tests.
    """

    def __getattr__(self, host: str) -> RemoteServer:
        refuse_dunder(self, host)
        return RemoteServer(self, host)

    def host(self, host: str, **kwargs: Any) -> RemoteServer:
        """Return a server, with options for its jobs; see `RemoteServer`."""
        return RemoteServer(self, host)(**kwargs)

    def job(self, job_id: str) -> RemoteCall:
        """Return a job by its identifier."""
        return RemoteCall(self, job_id)

    def group(self, hosts: str | Iterable[str], *, at_once: int = 10, **kwargs: Any) -> Group:
        """Return several servers, to call a procedure on all of them.

        ``hosts``: their names, or a glob such as ``"web*"`` over those that the dispatcher knows.
        ``at_once``: how many jobs there are at a time; the others are options of the jobs, see
        `RemoteServer`. Iterating over a call gives triples of host, job and result as jobs end::

            for host, job, result in rpc.group("web*").restart_nginx():
                ...
        """
        return Group(self, hosts, at_once, kwargs)

    def connect(self) -> JSONConnection:
        """Connect to a dispatcher, to send a request and read replies."""
        link = blocking.run(self._open())
        return (JSONSSLConnection if self._core.secure else JSONConnection).of(link)

    def request(self, req: dict[str, Any]) -> dict[str, Any]:
        """Send a request to a dispatcher, and return its first reply, also where it is an error.

        A call of a procedure is not repeated if it may have been carried out.
        """
        return blocking.run(ask_anything(self._core, req))

    def close(self) -> None:
        """Close the kept connections."""
        self._core.close()

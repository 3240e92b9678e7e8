"""`ClusterClient`: many hosts as one, stepped by the caller's own loop.

Retries, balancing, circuit breakers, deadlines and hedges are those of `holdfast.Cluster`: the
same programs, each of which goes on for a bit at every `ClusterClient.service`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson

from holdfast.cluster.clients import Cluster
from holdfast.cluster.core import POLICY
from holdfast.drivers.stepped import Stepper
from holdfast.errors import HoldfastError, InvalidRequest
from holdfast.flow.contents import urlencoded
from holdfast.flow.requesting import Requester
from holdfast.flow.responses import Response, attrify
from holdfast.flow.targets import quoted, take_apart
from holdfast.http.headers import Headers
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from holdfast.cluster.clients import Options
    from holdfast.cluster.core import ClusterCore
    from holdfast.cluster.discovery import Discovery
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.cluster.hosts import HostTypes
    from holdfast.flow.contents import BodyTypes, FieldTypes
    from holdfast.http.headers import HeaderTypes
    from holdfast.http.requests import Request
    from holdfast.http.responses import Response as Answer
    from holdfast.ops import Program
    from holdfast.policy import Policy
    from holdfast.policy.events import Listener

__all__ = ["ClusterClient"]

#: What makes a request.
_OF_REQUEST = ("method", "path", "fragment", "qargs", "headers", "body", "data", "fargs")

_VERSIONS = {"HTTP/1.1": (1, 1), "HTTP/1.0": (1, 0)}

_CLOSED = "the client was closed before the answer came"

_log = logging.getLogger("holdfast")


class _Clock:
    """A time that goes on without a jump when its source is replaced.

    What was measured before, such as deadlines and since when a circuit is open, stays right
    however the new source counts.
    """

    def __init__(self, source: Callable[[], float]) -> None:
        self._source = source
        self._ahead = 0.0

    def __call__(self) -> float:
        return self._source() + self._ahead

    def wind(self, source: Callable[[], float]) -> None:
        now = self()
        self._source = source
        self._ahead = now - source()


class ClusterClient(Closing):
    """Hosts that are called as one, by a client that never blocks.

    Its owner calls `service` again and again. ``hosts``, ``policy`` and all ``options`` (such as
    ``balancer``, ``headers``, ``auth``, ``timeout``, ``verify``, ``cert``, ``check``) are those of
    `holdfast.Cluster`. Up to ``concurrency`` requests are outstanding at a time, and are answered
    in any order: what is given as ``reply`` tells whose a response is. ``requests`` and
    ``responses`` are queues to use instead of new ones. ``tymth`` returns the time, in seconds, by
    default the system's; `wind` replaces it.

    Active checks and a discovery take their turns along with the requests. A discovery that calls
    a function, or asks name servers, has the loop wait for that.

    Use it as a context manager, or `close` it.
    """

    def __init__(
        self,
        hosts: Iterable[HostTypes] | str | Discovery,
        *,
        policy: Policy = POLICY,
        concurrency: int = 100,
        requests: deque[dict[str, Any]] | None = None,
        responses: deque[dict[str, Any]] | None = None,
        tymth: Callable[[], float] = monotonic,
        listeners: Iterable[Listener] = (),
        **options: Any,
    ) -> None:
        if not concurrency >= 1:
            raise ValueError(f"concurrency is a number of requests, from 1, not {concurrency!r}")
        self.concurrency = concurrency
        self.requests: deque[dict[str, Any]] = deque() if requests is None else requests
        self.responses: deque[dict[str, Any]] = deque() if responses is None else responses
        self._pending: dict[int, dict[str, Any]] = {}  # what was begun and is not answered yet
        self._numbers = count()
        if isinstance(hosts, Iterable) and not isinstance(hosts, str):
            hosts = list(hosts)  # they may be needed again
        self._hosts = hosts
        self._options = {**options, "policy": policy}
        self._listeners = list(listeners)
        self._requester = Requester()  # what the next request has from the one before it
        self._clock = _Clock(tymth)
        self._stepper = Stepper(self._clock)
        self._cluster: Cluster
        self._opened = False
        self.reopen()

    def __repr__(self) -> str:
        return f"<ClusterClient {self.core.endpoints!r}: {self.outstanding} outstanding>"

    @property
    def outstanding(self) -> int:
        """How many requests were begun and are not answered yet."""
        return len(self._pending)

    @property
    def core(self) -> ClusterCore:
        """The state and the programs behind it, for telemetry; `reopen` makes a new one."""
        return self._cluster.core

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, in the order of the hosts, with their load and health."""
        return self._cluster.endpoints

    def wind(self, tymth: Callable[[], float]) -> None:
        """Take the time from ``tymth`` from now on.

        Time goes on where it was, at the new pace: what began before ends neither sooner nor
        later than it should.
        """
        self._clock.wind(tymth)

    def reopen(self) -> bool:
        """Be ready for requests, anew after `close`; returns True, as no host is asked yet."""
        if not self._opened:
            self._cluster = Cluster(
                self._hosts,
                driver=self._stepper,
                clock=self._clock,
                listeners=self._listeners,
                **self._options,
            )
            self._stepper.start(self.core.upkeep.program())
            self._opened = True
        return True

    def close(self) -> None:
        """Close all connections; each outstanding request is answered by an error.

        What is still in ``requests`` stays there, for the next `service`, which begins anew.
        """
        pending, self._pending = self._pending, {}
        self.responses.extend(_failed(asked, _CLOSED) for asked in pending.values())
        self._stepper.close()
        self._cluster.close()
        self._opened = False

    def listen(self, listener: Listener) -> None:
        """Have a function called with each `holdfast.policy.Event`, where it happens."""
        self._listeners.append(listener)
        self.core.listen(listener)

    def unlisten(self, listener: Listener) -> None:
        """End the listening of a function."""
        self._listeners = [other for other in self._listeners if other != listener]
        self.core.unlisten(listener)

    def request(
        self,
        method: str | None = None,
        path: str | None = None,
        qargs: FieldTypes | None = None,
        fragment: str | None = None,
        headers: HeaderTypes | None = None,
        body: BodyTypes | None = None,
        data: Any = None,
        fargs: FieldTypes | None = None,
        reply: Any = None,
        options: Options | None = None,
        **kwa: Any,
    ) -> None:
        """Put a request into the queue.

        What is None is as in the request before it, but for ``body``, ``data`` and ``fargs``,
        which are never repeated; all are those of a `Requester`. ``options``: what else
        `holdfast.Cluster` takes for a call, such as ``timeout``, ``idempotent`` or ``key``.
        ``reply``, ``fragment``, which no host is sent, and all others come back in the response's
        ``request``.
        """
        given = dict(
            kwa,
            method=method,
            path=path,
            qargs=qargs,
            fragment=fragment,
            headers=headers,
            body=body,
            data=data,
            fargs=fargs,
        )
        if reply is not None:
            given["reply"] = reply
        if options is not None:
            given["options"] = options
        self.requests.append(given)

    def service(self) -> None:
        """Take one turn, without waiting: begin requests, and go on with those outstanding.

        Nothing is raised for what a host or the network does.
        """
        self.reopen()
        for _ in range(min(len(self.requests), self.concurrency - len(self._pending))):
            self._begin(self.requests.popleft())
        self._stepper.service()

    def respond(self) -> Response | None:
        """Take the next response out of ``responses``; None when there is none."""
        return attrify(self.responses.popleft()) if self.responses else None

    #: Returns a response's dictionary as a named tuple.
    attrify = staticmethod(attrify)

    def serviceWhileGen(self, tymeout: float = 0.5) -> Generator[bytes, Any, Response | None]:
        """Step the client until there is a response, or for ``tymeout`` seconds.

        Yields b"" after each turn; returns the response, None when it did not come in time. Use
        it as ``response = yield from client.serviceWhileGen()`` where someone else advances time.
        """
        until = self._clock() + tymeout
        while True:
            self.service()
            if self.responses or self._clock() >= until:
                return self.respond()
            yield b""

    def _begin(self, given: Mapping[str, Any]) -> None:
        """Begin a request from the queue, or respond that it is none."""
        try:
            request = self._build(given)
        except ValueError as error:
            self.responses.append(_failed(dict(given), str(error)))
            return
        except (AttributeError, TypeError) as error:  # an argument of a wrong type
            self.responses.append(_failed(dict(given), f"not a request: {error}"))
            return
        asked = {**given, **{name: getattr(self._requester, name) for name in _OF_REQUEST}}
        number = next(self._numbers)
        self._pending[number] = asked
        self._stepper.start(self._call(number, asked, request))

    def _build(self, given: Mapping[str, Any]) -> Request:
        requester = self._requester
        if given.get("path") and take_apart(given["path"]).place is not None:
            raise InvalidRequest(f"a path names no host, which the cluster has: {given['path']!r}")
        requester.rebuild(**{name: given.get(name) for name in _OF_REQUEST})
        path = "*" if requester.path == "*" else quoted(requester.path)
        if requester.qargs:
            path += f"?{urlencoded(requester.qargs)}"
        headers = [
            field
            for field in requester.headers.multi_items()
            if field[0].lower() != "content-length"  # which is what it will be anyway
        ]
        options: Any = {**(given.get("options") or {}), "headers": headers}
        content = requester.msg[len(requester.head) :]
        if content:
            options["content"] = content
        return self._cluster._build(requester.method, path, options)

    def _call(self, number: int, asked: dict[str, Any], request: Request) -> Program[None]:
        """Call the cluster, and put what comes of it among the responses."""
        response: dict[str, Any] | None = None
        try:
            answer = yield from self.core.call(request)
            response = _answered(asked, answer)
        except HoldfastError as error:
            response = _failed(asked, str(error))
        except Exception as error:  # of a function of the user's, which is no host's fault
            _log.exception("a request failed: %s %s", asked["method"], asked["path"])
            response = _failed(asked, f"{type(error).__name__}: {error}")
        finally:
            if self._pending.pop(number, None) is not None:
                self.responses.append(response or _failed(asked, "it was interrupted"))


def _answered(asked: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """Return the response for what a host has answered."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    data = None
    if kind == "application/json" or kind.endswith("+json"):
        try:
            data = orjson.loads(answer.content)
        except ValueError:
            pass  # the body is there for whoever can read it
    origin = answer.origin
    return {
        "version": _VERSIONS.get(answer.http_version),
        "status": answer.status_code,
        "reason": answer.reason,
        "headers": answer.headers,
        "body": bytearray(answer.content),
        "data": data,
        "request": {**asked, "host": origin.host, "port": origin.port, "scheme": origin.scheme},
        "errored": False,
        "error": None,
    }


def _failed(asked: dict[str, Any], error: str) -> dict[str, Any]:
    """Return the response for a request that nobody has answered."""
    return {
        "version": None,
        "status": None,
        "reason": None,
        "headers": Headers(),
        "body": bytearray(),
        "data": None,
        "request": {**asked, "host": None, "port": None, "scheme": None},
        "errored": True,
        "error": error,
    }

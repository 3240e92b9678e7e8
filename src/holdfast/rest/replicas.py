"""Hosts that replicate each other: writes to the first, reads to the rest, failover for both."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast.cluster.health import Ejection
from holdfast.errors import InvalidRequest
from holdfast.policy import Retry
from holdfast.rest.pools import AsyncPool, Pool, PoolPrograms, core_of
from holdfast.rest.resources import AsyncResources, Resources, ResourcesPrograms
from holdfast.rest.response import Response
from holdfast.rest.verbs import Verbs, request_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.cluster.core import ClusterCore
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.http.responses import Response as HTTPResponse
    from holdfast.ops import Program

__all__ = ["AsyncReplicas", "Replicas"]

P = TypeVar("P", bound=PoolPrograms[Any])
R = TypeVar("R")
L = TypeVar("L")

# One failure puts a host last for a second, two for two, and so on; any number may be.
_EJECTION = Ejection(failures=1, base=1.0, cap=30.0, most=1.0, panic=0.0)

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class _Replicas(Verbs[R], ResourcesPrograms[P, R, L], Generic[P, R, L]):  # type: ignore[misc]  # get
    def _make_core(self, hosts: list[str], limit: int, **transport: Any) -> ClusterCore:
        if not hosts:
            raise ValueError("replicas need at least one host")
        retry = Retry(attempts=len(hosts), base=0.001, cap=0.1)
        core = core_of(hosts, limit, retry, _EJECTION, **transport)
        # An HTTP error is an answer: it must not move the writes to another host.
        core.fault_status = 1000
        return core

    def priority(self, host: str) -> Any:
        """Return the number of calls in flight, so that reads spread. To be overridden."""
        return self[host]._endpoint.in_flight

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Any = (),
        retry: bool | int = False,
        **options: Any,
    ) -> R:
        """Send a request and return the completed response, even if hosts are unreachable.

        Writes go to the first host and fail over in order. Reads go to one of the others, to the
        first one when nothing else is left. A write that may have been carried out goes to no
        other host, unless its method is idempotent or there is ``retry``, which also retries on
        HTTP errors: true for each host once, or so many times.
        """
        return self._run(self._program(method, path, body, params, retry=retry, **options))  # type: ignore[no-any-return]

    def _program(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Any = (),
        retry: bool | int = False,
        **options: Any,
    ) -> Program[Response]:
        if retry < 0:
            raise InvalidRequest(f"retry is a flag or a count, not {retry!r}")
        request = request_of(
            self._timeout, method, path, body, params, idempotent=True if retry else None, **options
        )
        left = len(self) - 1 if retry is True else int(retry)
        response = yield from self._core.call(
            request,
            self._reads if request.method in _READS else self._writes,
            again=_again(left),
            attempts=max(len(self), left + 1),
        )
        return Response(response)

    def _writes(self) -> Iterable[Endpoint]:
        return [pool._endpoint for pool in self.values()]

    def _reads(self) -> Iterable[Endpoint]:
        hosts = list(self)
        first, rest = hosts[0], hosts[1:]
        random.shuffle(rest)  # ties are random: the sort is stable
        ranked = [(self.priority(host), host) for host in rest]
        ranked = sorted((item for item in ranked if item[0] is not None), key=lambda item: item[0])
        return [self[host]._endpoint for host in [host for _, host in ranked] + [first]]


def _again(left: int) -> Callable[[HTTPResponse], bool]:
    """Return whether a response is to be asked for again, ``left`` times at most."""

    def again(response: HTTPResponse) -> bool:
        nonlocal left
        if response.status_code < 400 or not left:
            return False
        left -= 1
        return True

    return again


class Replicas(_Replicas[Pool, Response, "list[Response]"], Resources):  # type: ignore[misc]  # get
    """`Resources` whose hosts replicate each other; see `Replicas.call`.

    A host that failed is tried last for a while, and comes back when it answers.
    """


class AsyncReplicas(  # type: ignore[misc]  # get
    _Replicas[AsyncPool, Coroutine[Any, Any, Response], "Coroutine[Any, Any, list[Response]]"],
    AsyncResources,
):
    """`Replicas` for asyncio: its methods are to be awaited."""

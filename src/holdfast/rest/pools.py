"""One host: a pool of kept connections."""

from __future__ import annotations

from collections.abc import Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.cluster.core import ClusterCore
from holdfast.http.limits import Timeout, TimeoutTypes
from holdfast.http.pools import Transport
from holdfast.policy import Policy, Retry
from holdfast.rest.response import Response
from holdfast.rest.verbs import Asynchronous, Blocking, Verbs, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from holdfast.cluster.endpoints import Endpoint
    from holdfast.cluster.health import Ejection
    from holdfast.ops import Program

__all__ = ["TIMEOUT", "AsyncPool", "Pool", "PoolPrograms", "core_of"]

R = TypeVar("R")

TIMEOUT = Timeout(total=5.0)

# A host is called when it is named, whatever it did before: no breaker, no limit, no ejection.
_PLAIN = Policy(retry=None, budget=None, breaker=None, limit=None)


def core_of(
    hosts: Iterable[str],
    limit: int,
    retry: Retry | None = None,
    ejection: Ejection | None = None,
    clock: Callable[[], float] = monotonic,
    **transport: Any,
) -> ClusterCore:
    """Return the core for a face: ``limit`` connections are kept for each host.

    ``clock`` returns seconds; it is there to be replaced in tests.
    """
    if limit < 0:
        raise ValueError(f"limit is a number of connections, from 0, not {limit!r}")
    policy = Policy(retry=retry, budget=None, breaker=None, limit=None) if retry else _PLAIN
    return ClusterCore(
        hosts,
        policy=policy,
        ejection=ejection,
        transport=Transport(max_idle=limit, clock=clock, **transport),
        clock=clock,
    )


class PoolPrograms(Verbs[R]):
    """What both pools share. ``len`` is the number of idle connections."""

    _core: ClusterCore
    _endpoint: Endpoint
    _timeout: Timeout

    def __init__(
        self,
        host: str,
        limit: int = 0,
        *,
        timeout: TimeoutTypes = TIMEOUT,
        **transport: Any,
    ) -> None:
        self._core = core_of([host], limit, **transport)
        self._endpoint = self._core.endpoints.all[0]
        self._timeout = Timeout.of(timeout, TIMEOUT)

    @classmethod
    def _of(cls, core: ClusterCore, endpoint: Endpoint, timeout: Timeout) -> Self:
        """Return the pool of one endpoint of many."""
        pool = cls.__new__(cls)
        pool._core = core
        pool._endpoint = endpoint
        pool._timeout = timeout
        return pool

    def __len__(self) -> int:
        return len(self._endpoint.pool)

    def __bool__(self) -> bool:
        return True  # also without idle connections

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._endpoint.name}: {len(self)} idle>"

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Any = (),
        redirect: bool | int = False,
        **options: Any,
    ) -> R:
        """Send a request and return the completed response, whatever its status.

        A ``body`` that is not None is sent as JSON. ``params`` are the query: a mapping or pairs;
        a sequence of values repeats its key. ``redirect``: follow redirects, or so many of them.
        ``headers`` may be given besides. Raises `HoldfastError`, an OSError when the host cannot
        be reached.
        """
        return self._run(self._program(method, path, body, params, redirect=redirect, **options))  # type: ignore[no-any-return]

    def _program(
        self, method: str, path: str, body: Any = None, params: Any = (), **options: Any
    ) -> Program[Response]:
        request = request_of(self._timeout, method, path, body, params, **options)
        response = yield from self._core.call(request, lambda: (self._endpoint,))
        return Response(response)


class Pool(Blocking, PoolPrograms[Response]):
    """A thread-safe pool of connections to one host.

    ``host``: ``name``, ``name:port`` or a URL with scheme and base path. ``limit``: how many idle
    connections are kept; with 0 each request has its own. ``timeout``: seconds for a call, or a
    `holdfast.Timeout`. Further keywords are those of `holdfast.http.pools.Transport`: ``headers``,
    ``auth``, ``verify``, ``cert``, ``proxy``, ...

    A kept connection that the server closed in the meantime is replaced, and the request sent
    again, once, when that is safe.
    """


class AsyncPool(Asynchronous, PoolPrograms[Coroutine[Any, Any, Response]]):
    """`Pool` for asyncio: its methods are to be awaited."""

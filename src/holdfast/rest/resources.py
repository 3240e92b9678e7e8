"""Many hosts: a mapping of hosts to their pools."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast.errors import NoEndpointError
from holdfast.http.limits import Timeout, TimeoutTypes
from holdfast.rest.pools import TIMEOUT, AsyncPool, Pool, PoolPrograms, core_of
from holdfast.rest.response import Response
from holdfast.rest.verbs import Asynchronous, Blocking, request_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.cluster.core import ClusterCore
    from holdfast.ops import Program

__all__ = ["AsyncResources", "Resources", "ResourcesPrograms", "chosen"]

P = TypeVar("P", bound=PoolPrograms[Any])
R = TypeVar("R")  # a response
L = TypeVar("L")  # a list of them
T = TypeVar("T")


def chosen(candidates: Iterable[T], priority: Callable[[T], Any]) -> T:
    """Return the candidate with the lowest priority; ties are random, None excludes.

    Raises NoEndpointError, a ValueError, when none is left.
    """
    best: list[T] = []
    lowest: Any = None
    for candidate in candidates:
        value = priority(candidate)
        if value is None:
            continue
        if not best or value < lowest:
            best, lowest = [candidate], value
        elif value == lowest:
            best.append(candidate)
    if not best:
        raise NoEndpointError("there is no host to choose from")
    return random.choice(best)


class ResourcesPrograms(dict[str, P], Generic[P, R, L]):
    """What the blocking and the asynchronous mapping share."""

    _pool: type[P]
    _core: ClusterCore

    def __init__(
        self,
        hosts: Iterable[str],
        limit: int = 0,
        *,
        timeout: TimeoutTypes = TIMEOUT,
        **transport: Any,
    ) -> None:
        hosts = [hosts] if isinstance(hosts, str) else list(dict.fromkeys(hosts))
        self._core = self._make_core(hosts, limit, **transport)
        self._timeout = Timeout.of(timeout, TIMEOUT)
        super().__init__(
            (host, self._pool._of(self._core, endpoint, self._timeout))
            for host, endpoint in zip(hosts, self._core.endpoints.all, strict=True)
        )

    def _make_core(self, hosts: list[str], limit: int, **transport: Any) -> ClusterCore:
        return core_of(hosts, limit, **transport)

    def _run(self, program: Program[Any]) -> Any:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"

    def priority(self, host: str) -> Any:
        """Return a host's priority: the lowest is chosen, None excludes it. To be overridden.

        By default a host with more idle connections comes first.
        """
        return -len(self[host])

    def choice(self, hosts: Iterable[str]) -> str:
        """Return the host with the lowest `priority`; ties are random. To be overridden.

        Raises ValueError when there is none.
        """
        return chosen(hosts, self.priority)

    def unicast(
        self, method: str, path: str, body: Any = None, hosts: Iterable[str] = (), **options: Any
    ) -> R:
        """Send a request to one of the ``hosts``, by default of all, and return the response.

        ``options`` are ``params``, ``redirect`` and ``headers``, as in `Pool.call`. Raises
        ValueError when there is no host to choose.
        """
        return self._run(self._unicast(method, path, body, hosts, **options))  # type: ignore[no-any-return]

    def broadcast(
        self, method: str, path: str, body: Any = None, hosts: Iterable[str] = (), **options: Any
    ) -> L:
        """Send a request to all ``hosts`` at the same time, by default to all there are.

        Returns the responses in the order of the hosts. When a host cannot be reached, its error
        is raised after the others have finished.
        """
        return self._run(self._broadcast(method, path, body, hosts, **options))  # type: ignore[no-any-return]

    def _unicast(
        self, method: str, path: str, body: Any, hosts: Iterable[str], **options: Any
    ) -> Program[Response]:
        pool = self[self.choice(tuple(hosts) or self)]
        return (yield from pool._program(method, path, body, **options))

    def _broadcast(
        self, method: str, path: str, body: Any, hosts: Iterable[str], **options: Any
    ) -> Program[list[Response]]:
        pools = [self[host] for host in tuple(hosts) or self]
        results = yield from self._core.broadcast(
            [
                (pool._endpoint, request_of(self._timeout, method, path, body, **options))
                for pool in pools
            ]
        )
        responses = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            responses.append(Response(result))
        return responses


class Resources(Blocking, ResourcesPrograms[Pool, Response, "list[Response]"]):
    """A thread-safe mapping of hosts to their pools.

    ``hosts``: strings as for `Pool`. ``limit``: how many idle connections are kept for each.
    """

    _pool = Pool


class AsyncResources(
    Asynchronous,
    ResourcesPrograms[
        AsyncPool, Coroutine[Any, Any, Response], "Coroutine[Any, Any, list[Response]]"
    ],
):
    """`Resources` for asyncio: ``unicast`` and ``broadcast`` are to be awaited."""

    _pool = AsyncPool

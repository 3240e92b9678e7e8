"""Clients of every kind behind one interface, so that one test holds for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from holdfast import AsyncCluster, Cluster, Policy, Response, Timeout
from tests.conformance.drivers import LOOPS

#: Nothing but the exchange: what goes wrong is seen at once.
BARE = Policy(timeout=10, retry=None, budget=None, breaker=None, limit=None)

KINDS = ["blocking", *LOOPS]


class Client:
    """A `Cluster`, or an `AsyncCluster` on a loop of its own that runs during each call."""

    def __init__(self, kind: str, *hosts: str, policy: Policy = BARE, **options: Any) -> None:
        self._runner: asyncio.Runner | None = None
        self.cluster: Any
        options.setdefault("ejection", None)
        # A busy machine may stand still for longer than the usual limit.
        options.setdefault("timeout", Timeout(connect=20))
        if kind == "blocking":
            self.cluster = Cluster(hosts, policy=policy, **options)
        else:
            self.cluster = AsyncCluster(hosts, policy=policy, **options)
            self._runner = asyncio.Runner(loop_factory=LOOPS[kind])

    def _finish(self, result: Any) -> Any:
        return result if self._runner is None else self._runner.run(_awaited(result))

    def request(self, method: str, path: str, **options: Any) -> Response:
        """Call the cluster."""
        return self._finish(self.cluster.request(method, path, **options))  # type: ignore[no-any-return]

    def get(self, path: str = "/", **options: Any) -> Response:
        """Send a GET."""
        return self.request("GET", path, **options)

    def post(self, path: str = "/", **options: Any) -> Response:
        """Send a POST."""
        return self.request("POST", path, **options)

    @contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[Streamed]:
        """Call the cluster and leave the body to be read."""
        context = self.cluster.stream(method, path, **options)
        if self._runner is None:
            with context as response:
                yield Streamed(response, self)
            return
        response = self._finish(context.__aenter__())
        try:
            yield Streamed(response, self)
        finally:
            self._finish(context.__aexit__(None, None, None))

    @property
    def kept(self) -> int:
        """How many connections are kept."""
        return sum(len(endpoint.pool) for endpoint in self.cluster.endpoints)

    def rest(self) -> None:
        """Let the loop, if there is one, see what has happened meanwhile."""
        if self._runner is not None:
            self._runner.run(asyncio.sleep(0.001))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._runner is None:
            self.cluster.close()
            return
        try:
            self._runner.run(self.cluster.aclose())
            self.rest()
        finally:
            self._runner.close()


class Streamed:
    """A response that is being read."""

    def __init__(self, response: Any, client: Client) -> None:
        self.response = response
        self._client = client

    def pieces(self, size: int | None = None) -> Iterator[bytes]:
        """Iterate over the body."""
        if self._client._runner is None:
            yield from self.response.iter_bytes(size)
            return
        iterator = self.response.aiter_bytes(size)
        while True:
            try:
                yield self._client._finish(anext(iterator))
            except StopAsyncIteration:
                return

    def read(self) -> bytes:
        """Read the rest of the body."""
        response = self.response
        if self._client._runner is None:
            return response.read()  # type: ignore[no-any-return]
        return self._client._finish(response.aread())  # type: ignore[no-any-return]


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


StartClient = Callable[..., Client]

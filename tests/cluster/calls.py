"""Clusters and calls in virtual time."""

from __future__ import annotations

from typing import Any, TypeVar

from holdfast.cluster import Attempt, ClusterCore
from holdfast.errors import HoldfastError
from holdfast.http.bodies import body_of
from holdfast.http.limits import Timeout
from holdfast.http.requests import Request
from holdfast.http.responses import Response
from holdfast.ops import Program
from holdfast.policy import Policy, Retry
from holdfast.simulation import Asked, Host, Reply, World

T = TypeVar("T")

#: Retries without waits, as many as a test likes, and nothing else.
EAGER = Policy(retry=Retry(attempts=3, base=1e-9), budget=None, breaker=None, limit=None)


class Virtual:
    """A cluster of hosts in a world, and calls of it.

    The hosts are ``10.0.0.1:80`` and so on. All answer 200 at once until told otherwise.
    """

    def __init__(
        self,
        count: int = 3,
        policy: Policy = EAGER,
        *,
        ejection: Any = None,
        seed: int = 0,
        start: float = 1000.0,
        **options: Any,
    ) -> None:
        self.world = World(seed, start)
        self.names = [f"10.0.0.{number}:80" for number in range(1, count + 1)]
        self.hosts = [Host(self.world, name, record=True) for name in self.names]
        self.core = ClusterCore(
            self.names,
            policy=policy,
            ejection=ejection,
            clock=self.world.clock,
            random=self.world.random,
            **options,
        )

    @property
    def elapsed(self) -> float:
        """Seconds since the world began."""
        return self.world.now - self.world.began

    def all_reply(self, **reply: Any) -> None:
        """Have every host do the same from now on."""
        for host in self.hosts:
            host.behaviour = Reply(**reply)

    def program(self, method: str = "GET", path: str = "/", **options: Any) -> Program[Response]:
        """Return a call as a program."""
        return self.core.call(request(self.core, method, path, **options))

    def call(self, method: str = "GET", path: str = "/", **options: Any) -> Response:
        """Make a call and return its response."""
        return self.world.run(self.program(method, path, **options))

    def fail(self, method: str = "GET", path: str = "/", **options: Any) -> HoldfastError:
        """Make a call that fails and return its error."""
        try:
            response = self.call(method, path, **options)
        except HoldfastError as error:
            return error
        raise AssertionError(f"{response!r} came")

    def idle(self) -> bool:
        """Tell whether every slot and every connection in use was given back."""
        self.world.advance(0)  # the hosts hear of what was closed
        return all(
            endpoint.in_flight == endpoint.waiting == 0 and len(endpoint.pool) == host.open
            for endpoint, host in zip(self.core.endpoints.all, self.hosts, strict=True)
        )


def request(
    core: ClusterCore,
    method: str = "GET",
    path: str = "/",
    *,
    timeout: Any = None,
    content: Any = None,
    **options: Any,
) -> Request:
    """Make a request with the policy's time limit, or another one."""
    total = timeout if timeout is not None else core.policy.timeout
    limits = total if isinstance(total, Timeout) else Timeout(total, connect=None)
    return Request(method, path, limits, body=body_of(content), **options)


def tried(outcome: Response | HoldfastError) -> list[str]:
    """Return the endpoints of the attempts, in order."""
    return [attempt.endpoint for attempt in attempts(outcome)]


def attempts(outcome: Response | HoldfastError) -> list[Attempt]:
    """Return the attempts of a call."""
    return list(outcome.attempts)


__all__ = ["EAGER", "Asked", "Host", "Reply", "Virtual", "World", "attempts", "request", "tried"]

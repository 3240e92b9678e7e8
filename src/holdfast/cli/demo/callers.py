"""Who calls: each kind of client of holdfast, made to look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from holdfast import AsyncCluster, Breaker, Cluster, Ejection, Policy, Retry
from holdfast.rest import AsyncReplicas, Replicas

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "RECOVERY",
    "Answer",
    "AsyncCaller",
    "AsyncClusterCaller",
    "AsyncReplicasCaller",
    "Caller",
    "ClusterCaller",
    "ReplicasCaller",
    "WrongAnswer",
    "checked",
    "settings",
]

#: Seconds that a failing server is left alone. Far less than the defaults (10 s for the circuit,
#: 30 s for the ejection), since the whole demonstration takes no longer than that.
RECOVERY = 0.5

#: Every so many calls one writes: a PUT, whose body comes back.
_WRITE_EVERY = 4

#: Connections that replicas keep for each host: as many as there may be callers.
_KEPT = 64


class Answer(NamedTuple):
    """An answer, whichever client it came through."""

    status: int
    body: Any
    attempts: int


class Caller(Protocol):
    """Makes numbered calls through one client, from threads."""

    name: str

    def call(self, number: int) -> Answer:
        """Make the call with a number."""

    def close(self) -> None:
        """Close the connections."""


class AsyncCaller(Protocol):
    """Makes numbered calls through one client, from tasks."""

    name: str

    async def call(self, number: int) -> Answer:
        """Make the call with a number."""

    async def close(self) -> None:
        """Close the connections."""


class WrongAnswer(Exception):
    """An answer to something else than what was asked."""

    def __init__(self, number: int, answer: Answer) -> None:
        super().__init__(f"call {number} was answered with {answer.status} {answer.body!r:.200}")
        self.attempts = range(answer.attempts)


def checked(number: int, answer: Answer) -> int:
    """Return the port that answered; raises WrongAnswer unless it is the answer to the number."""
    body = answer.body
    if answer.status != 200 or not isinstance(body, dict) or body.get("number") != number:
        raise WrongAnswer(number, answer)
    if _writes(number) and body.get("written") != number:
        raise WrongAnswer(number, answer)
    return int(body["port"])


def _writes(number: int) -> bool:
    return number % _WRITE_EVERY == 0


def _request(number: int) -> tuple[str, str, dict[str, int] | None]:
    if _writes(number):
        return "PUT", f"/echo/{number}", {"number": number}
    return "GET", f"/echo/{number}", None


def settings(retry: bool) -> dict[str, Any]:
    """Return the arguments of a cluster that soon tries again a server that failed."""
    breaker = Breaker(open_for=RECOVERY, cap=RECOVERY)
    return {
        "policy": Policy(breaker=breaker, retry=Retry() if retry else None),
        "ejection": Ejection(base=RECOVERY, cap=RECOVERY),
    }


class ClusterCaller:
    """Calls through a `Cluster`."""

    name = "Cluster"

    def __init__(self, hosts: Sequence[str], retry: bool) -> None:
        self._client = Cluster(hosts, **settings(retry))

    def call(self, number: int) -> Answer:
        """Make the call with a number."""
        method, path, body = _request(number)
        response = self._client.request(method, path, json=body)
        return Answer(response.status_code, response.json(), len(response.attempts))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class ReplicasCaller:
    """Calls through `Replicas`, whose failover is its own and is never off."""

    name = "Replicas"

    def __init__(self, hosts: Sequence[str]) -> None:
        self._client = Replicas(hosts, limit=_KEPT)

    def call(self, number: int) -> Answer:
        """Make the call with a number."""
        response = self._client.call(*_request(number))
        return Answer(response.status, response(), len(response.attempts))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class AsyncClusterCaller:
    """Calls through an `AsyncCluster`."""

    name = "AsyncCluster"

    def __init__(self, hosts: Sequence[str], retry: bool) -> None:
        self._client = AsyncCluster(hosts, **settings(retry))

    async def call(self, number: int) -> Answer:
        """Make the call with a number."""
        method, path, body = _request(number)
        response = await self._client.request(method, path, json=body)
        return Answer(response.status_code, response.json(), len(response.attempts))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class AsyncReplicasCaller:
    """Calls through `AsyncReplicas`, whose failover is its own and is never off."""

    name = "AsyncReplicas"

    def __init__(self, hosts: Sequence[str]) -> None:
        self._client = AsyncReplicas(hosts, limit=_KEPT)

    async def call(self, number: int) -> Answer:
        """Make the call with a number."""
        response = await self._client.call(*_request(number))
        return Answer(response.status, response(), len(response.attempts))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

"""Hosts partitioned by keys: each key is held by some of them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Coroutine, Iterable, Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast.errors import NoEndpointError
from holdfast.http.limits import TimeoutTypes
from holdfast.rest.pools import TIMEOUT
from holdfast.rest.resources import AsyncResources, Resources, ResourcesPrograms, chosen
from holdfast.rest.response import Response
from holdfast.rest.verbs import Asynchronous, Blocking

if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import TypeAlias

    from holdfast.ops import Program

    Key: TypeAlias = Hashable

__all__ = ["AsyncShards", "Shards"]

M = TypeVar("M", bound=ResourcesPrograms[Any, Any, Any])
R = TypeVar("R")
L = TypeVar("L")

#: Sets of hosts that are looked at for an exact smallest cover: a few milliseconds.
_EXACT = 20_000


class _Shards(dict[Any, set[str]], Generic[M, R, L]):
    _resources: type[M]

    def __init__(
        self,
        items: Iterable[tuple[str, Key]] = (),
        limit: int = 0,
        *,
        timeout: TimeoutTypes = TIMEOUT,
        transport: Mapping[str, Any] | None = None,
        **multimap: Iterable[Key],
    ) -> None:
        super().__init__()
        pairs = list(items)
        pairs += [(host, key) for host, keys in multimap.items() for key in keys]
        for host, key in pairs:
            self.setdefault(key, set()).add(host)
        hosts = dict.fromkeys(host for host, _ in pairs)
        #: All hosts, as a mapping to their pools.
        self.resources: M = self._resources(hosts, limit, timeout=timeout, **(transport or {}))
        self._core = self.resources._core

    def _run(self, program: Program[Any]) -> Any:
        raise NotImplementedError

    def priority(self, hosts: Collection[str]) -> Any:
        """Return the priority of several hosts together; the lowest is chosen. To be overridden.

        Their number, then the sum of their priorities; None when any of them is excluded.
        """
        priorities = [self.resources.priority(host) for host in hosts]
        return None if None in priorities else (len(priorities), sum(priorities))

    def choice(self, hosts: Iterable[Collection[str]]) -> Collection[str]:
        """Return the set of hosts with the lowest `priority`; ties are random.

        Raises ValueError when there is none.
        """
        return chosen(hosts, self.priority)

    def unicast(self, key: Key, method: str, path: str, body: Any = None, **options: Any) -> R:
        """Send a request to one host that holds the key; see `Resources.unicast`."""
        return self._run(self.resources._unicast(method, path, body, self._holders(key), **options))  # type: ignore[no-any-return]

    def broadcast(self, key: Key, method: str, path: str, body: Any = None, **options: Any) -> L:
        """Send a request to all hosts that hold the key; see `Resources.broadcast`."""
        hosts = sorted(self._holders(key))
        return self._run(self.resources._broadcast(method, path, body, hosts, **options))  # type: ignore[no-any-return]

    def multicast(
        self, keys: Iterable[Key], method: str, path: str, body: Any = None, **options: Any
    ) -> L:
        """Send a request to a smallest set of live hosts that together hold all the keys.

        Hosts that their priority excludes are not live. The set is a smallest one where few hosts
        are concerned, and found greedily beyond. Raises ValueError when a key has no live host.
        """
        hosts = self._cover(keys)
        if not hosts:
            return self._run(_nothing())  # type: ignore[no-any-return]
        return self._run(self.resources._broadcast(method, path, body, hosts, **options))  # type: ignore[no-any-return]

    def _holders(self, key: Key) -> set[str]:
        holders = self.get(key)
        if not holders:
            raise NoEndpointError(f"no host holds the key {key!r}")
        return holders

    def _cover(self, keys: Iterable[Key]) -> list[str]:
        """Return hosts that hold all the keys, sorted."""
        priorities: dict[str, Any] = {}
        groups: set[frozenset[str]] = set()  # keys with the same hosts are as one
        for key in set(keys):
            holders = self._holders(key)
            for host in holders:
                if host not in priorities:
                    priorities[host] = self.resources.priority(host)
            live = frozenset(host for host in holders if priorities[host] is not None)
            if not live:
                raise NoEndpointError(f"no live host holds the key {key!r}")
            groups.add(live)
        # What a host holds, as bits: sets of thousands of keys would take a hundred times as long.
        held = dict.fromkeys(sorted(set().union(*groups)), 0)
        for number, group in enumerate(groups):
            for host in group:
                held[host] |= 1 << number
        covers = _smallest(held)
        return list(self.choice(covers)) if covers else _greedy(groups, priorities)


def _smallest(held: dict[str, int]) -> list[tuple[str, ...]]:
    """Return smallest sets of hosts that hold everything, none when there are too many to try."""
    wanted = reduce(or_, held.values(), 0)
    covers: list[tuple[str, ...]] = []
    looked_at = 0
    for size in range(1, len(held) + 1):
        for hosts in itertools.combinations(held, size):
            looked_at += 1
            if looked_at > _EXACT:
                return covers
            union = 0
            for host in hosts:
                union |= held[host]
            if union == wanted:
                covers.append(hosts)
        if covers:
            break
    return covers


def _greedy(groups: Iterable[frozenset[str]], priorities: dict[str, Any]) -> list[str]:
    """Take the host that holds most of what is missing, until nothing is; return them sorted.

    At most ln(n) + 1 times as many as needed (V. Chvátal, 1979).
    """
    missing: dict[str, set[frozenset[str]]] = {}  # of what each host holds
    for group in groups:
        for host in group:
            missing.setdefault(host, set()).add(group)
    cover = []
    while missing:
        most = max(map(len, missing.values()))
        best = [host for host, left in missing.items() if len(left) == most]
        host = chosen(best, priorities.__getitem__)
        cover.append(host)
        for group in missing.pop(host):
            for other in group - {host}:
                missing[other].discard(group)
        missing = {host: left for host, left in missing.items() if left}
    return sorted(cover)


def _nothing() -> Program[list[Response]]:
    yield from ()  # a program, though it asks for nothing
    return []


class Shards(Blocking, _Shards[Resources, Response, "list[Response]"]):
    """A mapping of keys to the sets of hosts that hold them.

    ``items``: (host, key) pairs; ``multimap``: hosts with their keys, ``host=[key, ...]``.
    ``limit``: how many idle connections are kept for each host. ``transport``: further keywords
    of `Resources` (``auth``, ``verify``, ...), which would be hosts if they stood alone.
    """

    _resources = Resources


class AsyncShards(
    Asynchronous,
    _Shards[AsyncResources, Coroutine[Any, Any, Response], "Coroutine[Any, Any, list[Response]]"],
):
    """`Shards` for asyncio: its methods are to be awaited."""

    _resources = AsyncResources

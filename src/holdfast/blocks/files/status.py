"""What services tell of themselves: whether they answer, their volumes, how much is free."""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from holdfast import ops
from holdfast.blocks.errors import ArgumentError
from holdfast.blocks.requests import Fields, new_request_id
from holdfast.errors import HoldfastError
from holdfast.http.exchange import exchange
from holdfast.http.requests import Request
from holdfast.telemetry.redaction import redacted

if TYPE_CHECKING:
    from holdfast.blocks.base import KeepBase
    from holdfast.blocks.placement import Service
    from holdfast.http.limits import Timeout
    from holdfast.http.pools import ConnectionPool
    from holdfast.ops import Program

__all__ = ["Mount", "ServiceStatus", "status"]

#: The largest answer that is taken, but for lists of blocks, which are only counted.
_MOST = 1 << 24

_FREE = re.compile(rb'^holdfast_blocks_free_bytes\{mount="([^"]*)"\} (\S+)$', re.MULTILINE)


class Mount(NamedTuple):
    """A volume of a service; ``free`` bytes, None when nobody knows."""

    uuid: str
    writable: bool
    replication: int
    classes: tuple[str, ...]
    free: int | None


class ServiceStatus(NamedTuple):
    """A service, and what it told: None for what it did not."""

    uuid: str
    url: str
    kind: str
    #: Why it could not be reached, None when it could.
    error: str | None
    #: Whether nothing can be written to it.
    read_only: bool | None
    #: How many bytes are free on the volumes that can be written to.
    free: int | None
    #: How many blocks it has, which it tells those with the system token.
    blocks: int | None
    mounts: tuple[Mount, ...] | None


def status(client: KeepBase) -> Program[list[ServiceStatus]]:
    """Ask all services side by side; see `Files.status`."""
    if client.local_store:
        raise ArgumentError("a local store has no services")
    core = client.core
    services = core.services.services
    if services is None:
        services = yield from core.services.known(inf)
    results: list[Any] = yield ops.All([_one(client, service) for service in services.all])
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _one(client: KeepBase, service: Service) -> Program[ServiceStatus]:
    core = client.core
    pool = core.service(service, Fields(new_request_id())).pool
    timeout = core.timeout(service.kind == "proxy", 0, False)
    try:
        # Whatever it answers, it does.
        yield from exchange(pool, _request("/_health/ping", timeout), inf)
    except (HoldfastError, OSError) as error:
        why = redacted(str(getattr(error, "summary", error)))
        return ServiceStatus(service.uuid, service.root, service.kind, why, None, None, None, None)
    listed = yield from _answer(pool, "/mounts", timeout)
    metrics = yield from _answer(pool, "/metrics", timeout)
    mounts = _mounts(listed, metrics or b"")
    blocks = yield from _count(pool, timeout)
    read_only: bool | None = service.read_only
    free = None
    if mounts is not None:
        writable = [mount for mount in mounts if mount.writable]
        read_only = service.read_only or not writable
        known = [mount.free for mount in writable if mount.free is not None]
        free = sum(known) if known or not writable else None
    return ServiceStatus(
        service.uuid, service.root, service.kind, None, read_only, free, blocks, mounts
    )


def _request(path: str, timeout: Timeout, stream: bool = False) -> Request:
    return Request("GET", path, timeout, max_body=None if stream else _MOST, stream=stream)


def _answer(pool: ConnectionPool, path: str, timeout: Timeout) -> Program[bytes | None]:
    """Return what a service answers, None for anything but 200."""
    try:
        response = yield from exchange(pool, _request(path, timeout), inf)
    except (HoldfastError, OSError):
        return None
    return bytes(response.content) if response.status_code == 200 else None


def _mounts(listed: bytes | None, metrics: bytes) -> tuple[Mount, ...] | None:
    """Return the volumes; None for what is no list of them."""
    if listed is None:
        return None
    free: dict[str, int] = {}
    mounts = []
    try:
        for name, value in _FREE.findall(metrics):
            free[name.decode("utf-8", "replace")] = int(float(value))
        for entry in orjson.loads(listed):
            uuid = str(entry["uuid"])
            mounts.append(
                Mount(
                    uuid,
                    bool(entry["allow_write"]),
                    int(entry.get("replication") or 1),
                    tuple(map(str, entry.get("storage_classes") or ())),
                    free.get(uuid),
                )
            )
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return tuple(mounts)


def _count(pool: ConnectionPool, timeout: Timeout) -> Program[int | None]:
    """Count the lines of a service's list of blocks, which ends with an empty one."""
    try:
        response = yield from exchange(pool, _request("/index", timeout, stream=True), inf)
        reader = response.reader
        assert reader is not None
        try:
            if response.status_code != 200:
                return None
            lines = 0
            end = b""
            while piece := (yield from reader.read()):
                lines += piece.count(b"\n")
                end = (end + piece)[-2:]
        finally:
            reader.close()
    except (HoldfastError, OSError):
        return None
    return lines - 1 if end in (b"\n", b"\n\n") else None

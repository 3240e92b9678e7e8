"""What services tell of themselves: whether they answer, their volumes, how much is free."""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from holdfast import ops
from holdfast.blocks.errors import ArgumentError
from holdfast.blocks.requests import BlockRequest, Fields
from holdfast.errors import HoldfastError
from holdfast.http.exchange import exchange
from holdfast.telemetry.redaction import redacted

if TYPE_CHECKING:
    from holdfast.blocks.base import KeepBase
    from holdfast.blocks.core import KeepCore
    from holdfast.blocks.placement import Service
    from holdfast.http.responses import Response
    from holdfast.ops import Program

__all__ = ["Mount", "ServiceStatus", "answer", "mounts_in", "status"]

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
    services = yield from core.services.known(inf)
    fields = Fields.new()
    return (yield from ops.all_of([_one(core, service, fields) for service in services.all]))


def _one(core: KeepCore, service: Service, fields: Fields) -> Program[ServiceStatus]:
    try:
        # Whatever it answers, it does.
        yield from _asked(core, service, fields, "/_health/ping")
    except (HoldfastError, OSError) as error:
        why = redacted(str(getattr(error, "summary", error)))
        return ServiceStatus(service.uuid, service.root, service.kind, why, None, None, None, None)
    listed = yield from answer(core, service, fields, "/mounts")
    metrics = yield from answer(core, service, fields, "/metrics")
    mounts = mounts_in(listed, metrics or b"")
    blocks = yield from _count(core, service, fields)
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


def _asked(
    core: KeepCore, service: Service, fields: Fields, path: str, stream: bool = False
) -> Program[Response]:
    timeout = core.timeout(service.kind == "proxy", 0, False)
    request = BlockRequest("GET", path, timeout, fields)
    request.max_body = None if stream else _MOST
    request.stream = stream
    return (yield from exchange(core.service(service, fields).pool, request, inf))


def answer(core: KeepCore, service: Service, fields: Fields, path: str) -> Program[bytes | None]:
    """Return what a service answers, None for anything but 200."""
    try:
        response = yield from _asked(core, service, fields, path)
    except (HoldfastError, OSError):
        return None
    return bytes(response.content) if response.status_code == 200 else None


def mounts_in(listed: bytes | None, metrics: bytes = b"") -> tuple[Mount, ...] | None:
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
                    _classes(entry.get("storage_classes")),
                    free.get(uuid),
                )
            )
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return tuple(mounts)


def _classes(told: Any) -> tuple[str, ...]:
    if isinstance(told, dict):
        return tuple(str(name) for name, has in told.items() if has)
    return tuple(map(str, told or ()))


def _count(core: KeepCore, service: Service, fields: Fields) -> Program[int | None]:
    """Count the lines of a service's list of blocks, which ends with an empty one."""
    try:
        response = yield from _asked(core, service, fields, "/index", stream=True)
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

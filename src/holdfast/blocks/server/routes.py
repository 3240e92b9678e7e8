"""The paths that are no blocks: the index, the lists, the mounts, health and metrics."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from holdfast.blocks.server.pulls import PullRequest
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.trash import TrashRequest, entries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from starlette.requests import Request

    from holdfast.blocks.server.exchanges import Exchange
    from holdfast.blocks.server.service import Service
    from holdfast.blocks.server.volumes import Stored

__all__ = ["routes"]

T = TypeVar("T")

#: The largest list that is taken, in bytes.
LIST = 256 * 1024 * 1024

#: How many lines of the index are sent at once.
LINES = 5000

_PREFIX = re.compile(r"[0-9a-f]{0,32}")


def routes(service: Callable[[], Service]) -> list[Route]:
    """Return the routes of a service that is asked for at each request."""
    others = _Others(service)
    return [
        Route("/index", others.index, methods=["GET"]),
        Route("/index/{prefix}", others.index, methods=["GET"]),
        Route("/mounts", others.mounts, methods=["GET"]),
        Route("/trash", others.trash, methods=["PUT"]),
        Route("/pull", others.pull, methods=["PUT"]),
        Route("/corrupt", others.corrupt, methods=["GET"]),
        Route("/_health/ping", others.ping, methods=["GET"]),
        Route("/metrics", others.metrics, methods=["GET"]),
    ]


class _Others:
    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service

    async def index(self, request: Request) -> Response:
        """Send a line for each block: its locator and its time; then an empty one."""
        service = self._service()
        service.access.check_system(_exchange(request).token)
        prefix = request.path_params.get("prefix", "")
        if not _PREFIX.fullmatch(prefix):
            raise Refused(400, "a prefix is up to 32 hexadecimal digits")
        # A volume that fails breaks the answer off, without the empty line at its end.
        return StreamingResponse(self._lines(service, prefix), media_type="text/plain")

    async def _lines(self, service: Service, prefix: str) -> AsyncIterator[bytes]:
        for volume in service.mounts:
            blocks = volume.index(prefix)
            while lines := await service.workers.run(_some_lines, blocks):
                yield lines
        yield b"\n"

    async def mounts(self, request: Request) -> Response:
        """Send what is known about the volumes."""
        service = self._service()
        return _json(
            [
                {
                    "uuid": volume.uuid,
                    "device_id": volume.device_id,
                    "allow_write": volume.writable,
                    "allow_trash": volume.writable and service.trash.enabled,
                    "replication": volume.replication,
                    "storage_classes": dict.fromkeys(volume.classes, True),
                }
                for volume in service.mounts
            ]
        )

    async def trash(self, request: Request) -> Response:
        """Take a list of blocks to be removed."""
        service = self._service()
        service.access.check_system(_exchange(request).token)
        if not service.trash.enabled:
            raise Refused(405, "trash is off")
        service.trash.requests.replace(await _list(request, TrashRequest.of))
        return Response()

    async def pull(self, request: Request) -> Response:
        """Take a list of blocks to be copied from elsewhere."""
        service = self._service()
        service.access.check_system(_exchange(request).token)
        service.pulls.requests.replace(await _list(request, PullRequest.of))
        return Response()

    async def corrupt(self, request: Request) -> Response:
        """Send the copies that are known to be corrupt, and how far the scrub has come."""
        service = self._service()
        service.access.check_system(_exchange(request).token)
        return _json(
            {
                "rounds": service.scrub.rounds,
                "blocks": service.scrub.blocks,
                "corrupt": [
                    {"hash": one.md5sum, "mount_uuid": one.mount, "seen": one.seen}
                    for one in service.mounts.corrupt()
                ],
            }
        )

    async def ping(self, request: Request) -> Response:
        """Tell that the service answers."""
        return _json({"health": "OK"})

    async def metrics(self, request: Request) -> Response:
        """Send the metrics, as Prometheus reads them."""
        service = self._service()
        # On a thread: it asks the volumes how much is free.
        data = await service.workers.run(generate_latest, service.metrics.registry)
        return Response(data, headers={"content-type": CONTENT_TYPE_LATEST})


def _exchange(request: Request) -> Exchange:
    exchange: Exchange = request.scope["exchange"]
    return exchange


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


def _some_lines(blocks: Iterator[Stored]) -> bytes:
    lines = []
    for block in blocks:
        lines.append(f"{block.md5sum}+{block.size} {block.mtime_ns}\n")
        if len(lines) == LINES:
            break
    return "".join(lines).encode()


async def _list(request: Request, of: Callable[[dict[str, Any]], T]) -> list[T]:
    """Return the list in the body of a request."""
    data = await _exchange(request).body(LIST)
    try:
        return [of(entry) for entry in entries(orjson.loads(data))]
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(400, f"not a list of that kind: {error}") from None

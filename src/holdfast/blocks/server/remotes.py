"""Blocks of other services: fetched with our own client, checked, and kept.

A block on another cluster is asked for with the reader's own permission there. A token of the form
``v2/<uuid>/<secret>`` is salted with the cluster's id first, so that the other cluster gets nothing
that it could use elsewhere. Other tokens never leave: for those the configuration may name a token
that we have on the other cluster ourselves.
"""

from __future__ import annotations

import hmac
import logging
from typing import TYPE_CHECKING, NamedTuple

from holdfast.blocks.locators import BLOCK, KeepLocator
from holdfast.blocks.server.incoming import Incoming
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.storing import Storing
from holdfast.cluster import AsyncCluster
from holdfast.errors import HoldfastError
from holdfast.http.limits import Timeout
from holdfast.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.blocks.server.mounts import Mounts
    from holdfast.blocks.server.reading import Reading
    from holdfast.blocks.server.volumes import Volume
    from holdfast.blocks.server.workers import Workers

__all__ = ["Remote", "Remotes", "salted"]

logger = logging.getLogger("holdfast.blocks.server")

#: Of every request: seconds to connect and to wait, and the least rate in bytes per second.
TIMEOUT = Timeout(connect=20.0, read=60.0, min_bandwidth=32768)


class Remote(NamedTuple):
    """Another cluster: where its service is, and a token for it, if not the reader's own."""

    url: str
    token: str = ""


def salted(token: str, cluster: str) -> str:
    """Return a token for one other cluster; empty when it is not of the form that allows that."""
    parts = token.split("/")
    if len(parts) != 3 or parts[0] != "v2" or not parts[1] or not parts[2]:
        return ""
    secret = hmac.digest(parts[2].encode("latin-1", "replace"), cluster.encode(), "sha1").hex()
    return f"v2/{parts[1]}/{secret}"


class Remotes:
    """Fetches blocks from other services; ``remotes``: the other clusters, by their ids."""

    def __init__(
        self, mounts: Mounts, reading: Reading, workers: Workers, remotes: Mapping[str, Remote]
    ) -> None:
        self._mounts = mounts
        self._reading = reading
        self._workers = workers
        self._remotes = remotes
        self._clusters: dict[str, AsyncCluster] = {}

    async def fetch(self, locator: KeepLocator, token: str) -> None:
        """Get a block from the cluster that its ``+R`` hint names; raises Refused."""
        permission = locator.remote
        assert permission is not None
        remote = self._remotes.get(permission.cluster)
        if remote is None:
            raise Refused(400, f"the cluster {permission.cluster} is not known")
        if not token:
            raise Refused(401, "a token is needed")
        token = remote.token or salted(token, permission.cluster)
        if not token:
            raise Refused(400, "only a v2 token can be used on another cluster")
        cluster = self._clusters.get(remote.url)
        if cluster is None:
            cluster = self._clusters[remote.url] = _cluster(remote.url)
        name = f"{locator.stripped()}+A{permission.permission}"
        storing = Storing(self._mounts, self._reading, locator.md5sum, size=_size(locator))
        await self._transfer(cluster, name, token, storing)

    async def copy(self, locator: KeepLocator, url: str, token: str, volume: Volume | None) -> None:
        """Get a block from another service of our own cluster; raises Refused."""
        storing = Storing(
            self._mounts, self._reading, locator.md5sum, size=_size(locator), only=volume
        )
        async with _cluster(url) as cluster:
            await self._transfer(cluster, str(locator), token, storing)

    async def _transfer(
        self, cluster: AsyncCluster, name: str, token: str, storing: Storing
    ) -> None:
        md5sum = name[:32]
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with cluster.stream("GET", f"/{name}", headers=headers) as response:
                if response.status_code != 200:
                    raise Refused(*_REFUSED.get(response.status_code, _FAILED))
                async with Incoming(storing, md5sum, self._workers) as incoming:
                    async for piece in response.aiter_bytes():
                        await incoming.add(piece)
                    try:
                        await incoming.finish()
                    except Refused as error:
                        if error.status != 400:
                            raise
                        # A wrong body is a fault of the other one, not of who asks us.
                        raise Refused(*_FAILED) from None
        except (HoldfastError, ValueError) as error:
            logger.warning("%s was not fetched: %s", md5sum, error)
            raise Refused(*_FAILED) from None

    async def close(self) -> None:
        """Close the connections."""
        for cluster in self._clusters.values():
            await cluster.aclose()


_FAILED = (502, "the other service did not give the block")
_REFUSED = {
    401: (401, "the other service refuses the token"),
    403: (403, "the other service refuses the token"),
    404: (404, "no such block on the other service"),
}


def _cluster(url: str) -> AsyncCluster:
    return AsyncCluster([url], policy=Policy(timeout=None), timeout=TIMEOUT)


def _size(locator: KeepLocator) -> int:
    return BLOCK if locator.size is None else min(locator.size, BLOCK)

"""The list of blocks to be copied from other services of the cluster."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.worklist import Worklist

if TYPE_CHECKING:
    from holdfast.blocks.server.access import Access
    from holdfast.blocks.server.metrics import Metrics
    from holdfast.blocks.server.mounts import Mounts
    from holdfast.blocks.server.remotes import Remotes

__all__ = ["PullRequest", "Pulls"]

logger = logging.getLogger("holdfast.blocks.server")


@dataclass(frozen=True, slots=True)
class PullRequest:
    """One entry of a pull list: a block, who may have it, and the mount that shall get it."""

    locator: KeepLocator
    servers: tuple[str, ...]
    mount: str

    @classmethod
    def of(cls, entry: dict[str, Any]) -> PullRequest:
        """Return the entry in a list; raises ValueError."""
        servers = entry.get("servers")
        mount = entry.get("mount_uuid") or ""
        if (
            not isinstance(servers, list)
            or not all(isinstance(one, str) for one in servers)
            or not all(one.startswith(("http://", "https://")) for one in servers)
            or not isinstance(mount, str)
        ):
            raise ValueError("servers is a list of URLs, and mount_uuid is text")
        return cls(KeepLocator(entry["locator"]), tuple(servers), mount)


class Pulls:
    """Copies blocks from other services, one by one."""

    def __init__(self, mounts: Mounts, remotes: Remotes, access: Access, metrics: Metrics) -> None:
        self._mounts = mounts
        self._remotes = remotes
        self._access = access
        self._metrics = metrics
        #: The list that was sent last.
        self.requests: Worklist[PullRequest] = Worklist(metrics.pending.labels("pull"))

    async def work(self) -> None:
        """Work off the list, for ever."""
        while True:
            request = await self.requests.next()
            outcome = "success" if await self._carry_out(request) else "failure"
            self._metrics.pulled.labels(outcome).inc()

    async def _carry_out(self, request: PullRequest) -> bool:
        volume = self._mounts.volumes.get(request.mount)
        if request.mount and (volume is None or not volume.writable):
            logger.warning("%s was not pulled: no such mount", request.locator.md5sum)
            return False
        # The cluster's services share the signing key, and trust each other's system token.
        token = self._access.system_token
        signed = KeepLocator(self._access.signed(request.locator.stripped(), token))
        for url in request.servers:
            try:
                await self._remotes.copy(signed, url, token, volume)
            except Refused as error:
                logger.warning("%s was not pulled from %s: %s", signed.md5sum, url, error)
            else:
                return True
        return False

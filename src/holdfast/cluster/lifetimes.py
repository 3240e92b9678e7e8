"""Context managers around a cluster's kept connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast import lifetimes

if TYPE_CHECKING:
    from holdfast.cluster.core import ClusterCore

__all__ = ["AsyncClosing", "Closing"]


class Closing(lifetimes.Closing):
    """Closes in blocking programs, and at the end of ``with``."""

    _core: ClusterCore

    def close(self) -> None:
        """Close the kept connections."""
        self._core.close()


class AsyncClosing(lifetimes.AsyncClosing):
    """Closes in an event loop, and at the end of ``async with``."""

    _core: ClusterCore

    async def aclose(self) -> None:
        """Close the kept connections."""
        self._core.close()

"""Context managers around a cluster's kept connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from holdfast.cluster.core import ClusterCore

__all__ = ["AsyncClosing", "Closing"]


class Closing:
    """Closes in blocking programs, and at the end of ``with``."""

    _core: ClusterCore

    def close(self) -> None:
        """Close the kept connections."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClosing:
    """Closes in an event loop, and at the end of ``async with``."""

    _core: ClusterCore

    async def aclose(self) -> None:
        """Close the kept connections."""
        self._core.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

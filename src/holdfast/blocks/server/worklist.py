"""A list of what is to be done, which a newer one replaces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from prometheus_client import Gauge

__all__ = ["Worklist"]

T = TypeVar("T")


class Worklist(Generic[T]):
    """What is left of a list; ``pending`` shows how much that is."""

    def __init__(self, pending: Gauge) -> None:
        self._pending = pending
        self._left: list[T] = []
        self._arrived = asyncio.Event()

    def replace(self, requests: list[T]) -> None:
        """Put a list in the place of the one that is left."""
        self._left = requests[::-1]
        self._pending.set(len(requests))
        self._arrived.set()

    async def next(self) -> T:
        """Wait for the next request, and take it."""
        while not self._left:
            self._arrived.clear()
            await self._arrived.wait()
        request = self._left.pop()
        self._pending.set(len(self._left))
        return request

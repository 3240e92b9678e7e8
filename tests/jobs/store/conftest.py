"""Stores: every test of this folder that asks for `stores` is run with each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from holdfast.jobs.dispatcher.memory import MemoryStore
from holdfast.jobs.dispatcher.sqlite import SqliteStore
from holdfast.jobs.dispatcher.store import Store

T = TypeVar("T")


class Stores:
    """Makes stores that see the same jobs, one after the other."""

    def __init__(self, make: Callable[[], Store]) -> None:
        self._make = make

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        """Open the store, and close it at the end."""
        store = self._make()
        await store.open()
        try:
            yield store
        finally:
            await store.close()


Run = Callable[[Callable[[], Awaitable[Any]]], None]


@pytest.fixture(params=["memory", "sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Give one implementation after the other."""
    if request.param == "sqlite":
        return Stores(lambda: SqliteStore(tmp_path / "jobs"))
    store = MemoryStore()
    return Stores(lambda: store)


@pytest.fixture
def run() -> Run:
    """Run an asynchronous test."""

    async def to_end(test: Callable[[], Awaitable[Any]]) -> None:
        await test()

    return lambda test: asyncio.run(to_end(test))

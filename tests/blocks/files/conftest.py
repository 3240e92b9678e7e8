from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from holdfast.blocks.aio import AsyncKeepClient
from holdfast.blocks.cache import KeepBlockCache
from holdfast.blocks.client import KeepClient
from holdfast.blocks.files import AsyncFiles, Files
from tests.blocks.client.clients import KINDS
from tests.blocks.client.conftest import VARIABLES
from tests.blocks.client.stubs import Stubs

pytest.importorskip("uvicorn", reason="the service needs it")

from holdfast.blocks.server.memory import MemoryVolume
from tests.blocks.server.services import QUIET, SYSTEM, Running, running

#: The files below a folder, with their contents; a folder that is empty ends with a slash.
Tree: TypeAlias = dict[str, bytes]


class Store:
    """Services, each on a volume in memory, and a `Files` or `AsyncFiles` for them."""

    def __init__(self, services: list[Running], kind: str = "blocking") -> None:
        self.services = services
        self.kind = kind

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method, with a client of its own that has cached nothing."""
        urls = " ".join(one.url for one in self.services)
        settings: dict[str, Any] = {
            "proxy": urls,
            "api_token": options.pop("token", SYSTEM),
            "block_cache": KeepBlockCache(1),
        }
        if self.kind == "blocking":
            with KeepClient(**settings) as client:
                return getattr(Files(client), name)(*arguments, **options)

        async def awaited() -> Any:
            async with AsyncKeepClient(**settings) as keep:
                return await getattr(AsyncFiles(keep), name)(*arguments, **options)

        return asyncio.run(awaited())

    def put(self, *arguments: Any, **options: Any) -> Any:
        return self.call("put", *arguments, **{"block_size": 1000, **options})

    def get(self, *arguments: Any, **options: Any) -> Any:
        return self.call("get", *arguments, **options)

    def verify(self, *arguments: Any, **options: Any) -> Any:
        return self.call("verify", *arguments, **options)

    def volume(self, number: int) -> MemoryVolume:
        (volume,) = self.services[number].service.mounts
        assert isinstance(volume, MemoryVolume)
        return volume

    def copies(self, locator: str) -> list[int]:
        """Return which services have a block."""
        return [
            number
            for number in range(len(self.services))
            if any(self.volume(number).index(locator[:32]))
        ]

    def requests(self, method: str, status: str = "200") -> int:
        """Return how many requests of a method the services have answered so, so far."""
        value = 0.0
        for one in self.services:
            found = one.service.metrics.registry.get_sample_value(
                "holdfast_blocks_requests_total", {"method": method, "status": status}
            )
            value += found or 0
        return int(value)

    def damage(self, number: int, locator: str) -> None:
        """Have a service hold something else as a block."""
        size = int(locator.split("+")[1])
        self.volume(number).put(locator[:32], b"#" * size)

    def remove(self, number: int, locator: str) -> None:
        """Take a block from a service."""
        self.volume(number).trash(locator[:32], 1 << 62, 0)

    def empty(self) -> None:
        """Take all blocks from all services."""
        for number in range(len(self.services)):
            for stored in list(self.volume(number).index()):
                self.remove(number, stored.md5sum)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hide the settings of whoever runs the tests, and their cache."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Name each kind of client in turn."""
    name: str = request.param
    return name


@pytest.fixture
def stubs() -> Stubs:
    """Have three services in a simulated world."""
    return Stubs(3)


@pytest.fixture(scope="module")
def served() -> Iterator[list[Running]]:
    """Serve three services that sign nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(running([MemoryVolume()])) for _ in range(3)]


@pytest.fixture(scope="module")
def served_signed() -> Iterator[list[Running]]:
    """Serve three services that sign locators."""
    config = dataclasses.replace(QUIET, signing_key="key")
    with ExitStack() as stack:
        yield [stack.enter_context(running([MemoryVolume()], config)) for _ in range(3)]


@pytest.fixture
def store(served: list[Running]) -> Iterator[Store]:
    """Have files on three services that sign nothing, and have no blocks yet."""
    store = Store(served)
    yield store
    store.empty()


@pytest.fixture
def signing(served_signed: list[Running]) -> Iterator[Store]:
    """Have files on three services that sign locators, and have no blocks yet."""
    store = Store(served_signed)
    yield store
    store.empty()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Tree], Path]:
    """Write files below a folder: `write({"a": b"…"})`."""

    def write_below(tree: Tree, folder: str = "data") -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for path, data in tree.items():
            if path.endswith("/"):
                (root / path).mkdir(parents=True)
                continue
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return root

    return write_below


def read(root: Path) -> Tree:
    """Return the files below a folder, and the empty folders."""
    tree: Tree = {}
    for folder, folders, files in os.walk(root):
        inner = os.path.relpath(folder, root)
        prefix = "" if inner == "." else f"{inner}/"
        if prefix and not folders and not files:
            tree[prefix] = b""
        for name in files:
            tree[prefix + name] = (Path(folder) / name).read_bytes()
    return tree


def some_tree(scale: int = 1) -> Tree:
    """Return files of many sizes, for blocks of 1000 bytes."""
    return {
        "a": os.urandom(10),
        "b c\n:d\\": os.urandom(2500 * scale),
        "deep/er/x": os.urandom(700),
        "deep/er/y": os.urandom(700),
        "deep/er.z": os.urandom(1000),
        "deep/same": b"s" * 3000 * scale,
        "deep/same too": b"s" * 3000 * scale,
        "empty": b"",
        "none/": b"",
        "caf\udce9 ü\xa0": b"1",
    }

"""The Python client of Arvados puts to our service and gets from it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from holdfast.blocks import KeepClient
from holdfast.blocks.locators import BLOCK, KeepLocator
from holdfast.blocks.server.memory import MemoryVolume
from tests.blocks.server.services import QUIET, Running, locator, md5, running

keep = pytest.importorskip("arvados.keep", reason="arvados-python-client is not installed")
errors = pytest.importorskip("arvados.errors")

TOKEN = "the-token"
SIZES = [17, 4096, 3_000_000]


class Api:
    """As much of an API client as it takes to find the services."""

    api_token = TOKEN
    insecure = False
    request_id = ""

    def __init__(self, services: list[Running]) -> None:
        self._items = [
            {
                "uuid": f"zzzzz-bi6l4-{number:015d}",
                "service_host": service.address[0],
                "service_port": service.address[1],
                "service_ssl_flag": False,
                "service_type": "disk",
                "read_only": False,
            }
            for number, service in enumerate(services)
        ]

    def keep_services(self) -> Api:
        return self

    def accessible(self) -> Api:
        return self

    def execute(self) -> dict[str, Any]:
        return {"items": self._items, "items_available": len(self._items)}

    def config(self) -> dict[str, Any]:
        return {"StorageClasses": {"default": {"Default": True}}}


def client(services: list[Running]) -> Any:
    """Return a client of theirs, without a cache of what it has put."""
    return keep.KeepClient(
        api_client=Api(services),
        block_cache=keep.KeepBlockCache(max_slots=1),
        local_store="",
        proxy="",
        num_retries=0,
    )


@contextmanager
def ours(services: list[Running]) -> Iterator[KeepClient]:
    """Open a client of ours."""
    with KeepClient(Api(services), local_store="", proxy="") as one:
        yield one


@pytest.fixture(scope="module", params=["signed", "unsigned"])
def services(request: pytest.FixtureRequest) -> Iterator[list[Running]]:
    """Serve three services with one signing key, or none."""
    key = "common key" if request.param == "signed" else ""
    config = dataclasses.replace(QUIET, signing_key=key)
    with ExitStack() as stack:
        yield [stack.enter_context(running([MemoryVolume()], config)) for _ in range(3)]


def copies(services: list[Running], md5sum: str) -> int:
    """Return how many services have a block."""
    return sum(len(list(volume.index(md5sum))) for one in services for volume in one.service.mounts)


@pytest.mark.parametrize("size", SIZES)
def test_put_and_get(services: list[Running], size: int) -> None:
    """Two copies on three services, read back by a client that has not seen them."""
    data = os.urandom(size)
    name = client(services).put(data, copies=2)
    parsed = KeepLocator(name)
    assert (parsed.md5sum, parsed.size) == (md5(data), size)
    assert bool(parsed.perm_sig) == bool(services[0].service.access.key)
    # With storage classes confirmed, it may begin a third copy while the second is on its way.
    assert copies(services, md5(data)) >= 2
    assert client(services).get(name) == data
    assert client(services).head(name)


@pytest.mark.parametrize("size", SIZES)
def test_from_theirs_to_ours(services: list[Running], size: int) -> None:
    """What their client has put ours reads, by the locator that theirs was given."""
    data = os.urandom(size)
    name = client(services).put(data, copies=2)
    with ours(services) as reader:
        assert reader.head(name)
        assert reader.get(name) == data
        assert KeepLocator(reader.refresh_signature(name)).stripped() == locator(data)


@pytest.mark.parametrize("size", SIZES)
def test_from_ours_to_theirs(services: list[Running], size: int) -> None:
    """What our client has put, on exactly two services, theirs reads, wherever it looks first."""
    data = os.urandom(size)
    with ours(services) as writer:
        name = writer.put(data, copies=2)
        assert writer.weighted_service_roots(name) == client(services).weighted_service_roots(
            keep.KeepLocator(name)
        )
    assert copies(services, md5(data)) == 2
    assert client(services).head(name)
    assert client(services).get(name) == data


def test_empty(services: list[Running]) -> None:
    """The empty block."""
    for name in (client(services).put(b"", copies=1), locator(b"")):
        assert client(services).get(name) == b""
        with ours(services) as reader:
            assert reader.get(name) == b""


def test_largest() -> None:
    """The largest block, both ways."""
    data = bytes(BLOCK)
    with running([MemoryVolume()]) as service, ours([service]) as one:
        assert one.get(client([service]).put(data, copies=1)) == data
        assert client([service]).get(one.put(data, copies=1)) == data


def test_order(services: list[Running]) -> None:
    """One copy goes to the service that their formula names first, and is found there."""
    for _ in range(5):
        data = os.urandom(10)
        one = client(services)
        one.put(data, copies=1)
        first = one.weighted_service_roots(keep.KeepLocator(locator(data)))[0]
        (holder,) = [it for it in services if copies([it], md5(data))]
        assert first == f"{holder.url}/"


def test_a_service_gone(services: list[Running]) -> None:
    """With one of two copies lost, the other one is read."""
    data = os.urandom(1000)
    name = client(services).put(data, copies=2)
    for service in services:
        (volume,) = service.service.mounts
        if list(volume.index(md5(data))):
            volume.trash(md5(data), 1 << 62, 0)
            break
    assert client(services).get(name) == data


def test_corrupt_copy(services: list[Running]) -> None:
    """A corrupt copy is no answer: they read the other one, small or large."""
    for size in SIZES:
        data = os.urandom(size)
        one = client(services)
        name = one.put(data, copies=2)
        first = one.weighted_service_roots(keep.KeepLocator(name))[0]
        (holder,) = [it for it in services if first == f"{it.url}/"]
        (volume,) = holder.service.mounts
        assert isinstance(volume, MemoryVolume)
        volume.put(md5(data), data[:-1] + bytes([data[-1] ^ 1]))
        assert client(services).get(name) == data


def test_absent(services: list[Running]) -> None:
    """What is nowhere is their NotFoundError; without permission, their KeepReadError."""
    name = services[0].service.access.signed(locator(b"absent"), TOKEN)
    with pytest.raises(errors.NotFoundError):
        client(services).get(name)
    if services[0].service.access.key:
        with pytest.raises(errors.KeepReadError):
            client(services).get(locator(b"absent"))


def test_new_signature(services: list[Running]) -> None:
    """They get a new signature for a block."""
    one = client(services)
    name = one.put(b"foo", copies=3)
    # It leaves the end of the header's line in its place.
    assert KeepLocator(one.refresh_signature(name).strip()).stripped() == locator(b"foo")


def test_storage_classes(services: list[Running]) -> None:
    """Classes that no service has are not confirmed, and make their put fail."""
    one = client(services)
    assert one.put(b"foo", copies=1, classes=["default"])
    with pytest.raises(errors.KeepWriteError):
        one.put(b"bar", copies=1, classes=["glacier"])


def test_full_service(services: list[Running]) -> None:
    """A full service is passed over."""
    data = os.urandom(3_000_000)
    one = client(services)
    first = one.weighted_service_roots(keep.KeepLocator(locator(data)))[0]
    with running([MemoryVolume(capacity=0)]) as full:
        others = [full if first == f"{it.url}/" else it for it in services]
        client(others).put(data, copies=2)
        assert copies([full], md5(data)) == 0
        assert copies(others, md5(data)) == 2


def test_as_a_proxy(services: list[Running]) -> None:
    """By its URL alone a service is a proxy to them."""
    one = keep.KeepClient(
        proxy=services[0].url,
        api_token=TOKEN,
        local_store="",
        block_cache=keep.KeepBlockCache(cache_max=1),
    )
    name = one.put(b"foo", copies=1, num_retries=0)
    assert one.get(name) == b"foo"

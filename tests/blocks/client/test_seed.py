"""The names, parameters and defaults that users of the blocks' client rely on."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from holdfast import blocks
from holdfast.blocks import AsyncKeepClient, KeepClient
from tests.signatures import conforms, promised

TIMEOUT, PROXY_TIMEOUT = (2, 256, 32768), (20, 256, 32768)

SIGNATURES = promised(
    # Where keywords are handed on to another method, its own are here.
    """
    KeepClient(api_client=None, proxy=None, timeout=TIMEOUT, proxy_timeout=PROXY_TIMEOUT, \
        api_token=None, local_store=None, block_cache=None, num_retries=0, session=None)
    KeepClient.current_timeout(attempt_number)
    KeepClient._any_nondisk_services(service_list)
    KeepClient.build_services_list(force_rebuild=False)
    KeepClient._service_weight(data_hash, service_uuid)
    KeepClient.weighted_service_roots(locator, force_rebuild=False, need_writable=False)
    KeepClient.map_new_services(roots_map, locator, force_rebuild, need_writable, headers)
    KeepClient.get_from_cache(loc)
    KeepClient.refresh_signature(loc)
    KeepClient.head(loc_s, *, num_retries=None, request_id=None, headers=None)
    KeepClient.get(loc_s, *, num_retries=None, request_id=None, headers=None)
    KeepClient._get_or_head(loc_s, method="GET", num_retries=None, request_id=None, headers=None)
    KeepClient.put(data, copies=2, num_retries=None, request_id=None)
    KeepClient.local_store_put(data, copies=1, num_retries=None)
    KeepClient.local_store_get(loc_s, num_retries=None)
    KeepClient.local_store_head(loc_s, num_retries=None)
    KeepClient.is_cached(locator)
    KeepClient._check_loop_result(result)
    """,
    TIMEOUT=TIMEOUT,
    PROXY_TIMEOUT=PROXY_TIMEOUT,
)

#: What talks to others, and is awaited in asyncio.
WAITS = [
    "_get_or_head",
    "build_services_list",
    "get",
    "get_from_cache",
    "head",
    "local_store_get",
    "local_store_head",
    "local_store_put",
    "put",
    "refresh_signature",
    "weighted_service_roots",
]


@pytest.mark.parametrize("prefix", ["", "Async"])
@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(prefix: str, name: str) -> None:
    """Everything takes what its users give it, in that order, with those defaults."""
    conforms(blocks, prefix + name, SIGNATURES[name])


@pytest.mark.parametrize("name", WAITS)
def test_what_is_awaited(name: str) -> None:
    """What waits is awaited in asyncio."""
    assert inspect.iscoroutinefunction(getattr(AsyncKeepClient, name))
    assert not inspect.iscoroutinefunction(getattr(KeepClient, name))


@pytest.mark.parametrize("kind", [KeepClient, AsyncKeepClient])
def test_what_a_class_has(kind: Any) -> None:
    """The clients have their defaults, and the classes that are within them."""
    assert kind.DEFAULT_TIMEOUT == TIMEOUT
    assert kind.DEFAULT_PROXY_TIMEOUT == PROXY_TIMEOUT
    assert isinstance(inspect.getattr_static(kind, "_check_loop_result"), staticmethod)
    for name in ("KeepService", "KeepWriterQueue", "KeepWriterThreadPool", "KeepWriterThread"):
        assert isinstance(getattr(kind, name), type)


def test_all_names() -> None:
    """The package offers what it promises, and nothing that has no documentation."""
    assert {"KeepClient", "AsyncKeepClient"} <= set(blocks.__all__)
    assert all(inspect.getdoc(getattr(blocks, name)) for name in blocks.__all__)

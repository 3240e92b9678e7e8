"""The caches in memory and on disk, and what they save."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast.blocks.diskcache as diskcache
from holdfast.blocks.cache import KeepBlockCache, MemoryCache
from holdfast.blocks.client import KeepClient
from holdfast.blocks.diskcache import DiskCache
from holdfast.blocks.errors import ArgumentError, KeepCacheError, KeepReadError, NotFoundError
from holdfast.simulation import Reply
from tests.blocks.client.clients import Client, locator, md5
from tests.blocks.client.conftest import StartClient
from tests.blocks.client.stubs import SIGNATURE, Stubs
from tests.servers import Receive, Script, ScriptedServer, Wait, response
from tests.servers.fixtures import StartScripted

DATA = b"foo" * 100
NAME = md5(DATA)
TEXT = locator(DATA)


def block(number: int, size: int = 100) -> tuple[str, bytes]:
    """Return one of many blocks with its hash."""
    data = (b"%d." % number).ljust(size, b".")
    return md5(data), data


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> KeepBlockCache:
    """Have a cache of ten blocks of 100 bytes, of each kind."""
    return KeepBlockCache(1000, 20, request.param == "disk", tmp_path / "cache")


def test_the_least_recently_used_goes_first(cache: KeepBlockCache) -> None:
    """What was put or got last stays."""
    blocks = [block(number) for number in range(11)]
    for name, data in blocks[:10]:
        cache.set(name, data)
    assert cache.get(blocks[0][0]) == blocks[0][1]
    cache.set(*blocks[10])
    kept = [name in cache for name, _ in blocks]
    assert kept[0]
    assert kept[10]
    assert not kept[1]
    assert sum(kept) >= 9
    cache.clear()
    assert not any(name in cache for name, _ in blocks)
    assert cache.get(blocks[0][0]) is None


def test_slots(tmp_path: Path) -> None:
    """There are no more blocks than slots, however small they are."""
    for cache in (KeepBlockCache(10**6, 4), KeepBlockCache(10**6, 4, True, tmp_path)):
        blocks = [block(number, 3) for number in range(20)]
        for name, data in blocks:
            cache.set(name, data)
        assert 3 <= sum(name in cache for name, _ in blocks) <= 4
        assert blocks[-1][0] in cache


def test_more_than_all(cache: KeepBlockCache) -> None:
    """A block that is larger than the cache is not kept, and drives nothing out."""
    cache.set(*block(1))
    cache.set(*block(2, 1001))
    assert block(1)[0] in cache
    assert block(2, 1001)[0] not in cache
    cache.set(*block(1))  # once more
    assert cache.get(block(1)[0]) == block(1)[1]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_memory_is_bounded(steps: list[tuple[int, int]]) -> None:
    """Whatever is put, the limits hold, and what is found is what was put."""
    cache = MemoryCache(100, 4)
    put: dict[str, bytes] = {}
    for number, size in steps:
        data = bytes(size)
        cache.set(str(number), data)
        put[str(number)] = data
        assert cache._held == sum(map(len, cache._blocks.values())) <= 100
        assert len(cache) <= 4
        assert cache.get(str(number)) == put[str(number)]


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default limits are those of the protocol."""
    assert repr(KeepBlockCache()) == "<KeepBlockCache <MemoryCache: 0 blocks, 0 bytes>>"
    memory = MemoryCache()
    assert (memory._size, memory._slots) == (256 << 20, 512)
    gib = 1 << 30
    usage: Any = type("Usage", (), {"total": 1000 * gib, "free": 100 * gib})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    monkeypatch.setattr("resource.getrlimit", lambda which: (1024, 4096))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = DiskCache()
    assert cache.size == 8 * gib  # 128 slots
    assert (tmp_path / "holdfast" / "blocks").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("resource.getrlimit", lambda which: (1 << 20, 1 << 20))
    assert DiskCache(tmp_path / "a").size == 25 * gib
    usage.total = 10 * gib
    assert DiskCache(tmp_path / "a").size == gib
    usage.total = 0
    assert DiskCache(tmp_path / "a").size == 64 << 20


def test_wrong_arguments(tmp_path: Path) -> None:
    """Limits are not negative, and the folder must be one that can be used."""
    with pytest.raises(ArgumentError):
        KeepBlockCache(-1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeepCacheError, match="no cache of blocks"):
        KeepBlockCache(disk_cache=True, disk_cache_dir=tmp_path / "file" / "folder")


# The disk.


def test_blocks_survive_the_process(tmp_path: Path) -> None:
    """What one process has cached, another finds, and the limits hold for both together."""
    name, data = block(1)
    program = (
        "import sys; from holdfast.blocks.diskcache import DiskCache;"
        f"DiskCache({str(tmp_path)!r}, 1000, 9).set({name!r}, {data!r})"
    )
    before = DiskCache(tmp_path, 1000, 9)
    assert before.get(name) is None
    subprocess.run([sys.executable, "-c", program], check=True)
    assert before.get(name) == data
    later = DiskCache(tmp_path, 1000, 9)
    assert name in later
    assert later.get(name) == data
    for number in range(2, 12):
        before.set(*block(number))
    for number in range(12, 30):
        later.set(*block(number))
    assert len(list(tmp_path.glob("??/*"))) <= 19
    assert len(DiskCache(tmp_path, 1000, 9)._entries()) <= 9


def test_half_a_block_is_never_served(tmp_path: Path) -> None:
    """A process that dies while it writes leaves nothing that is found, and not for ever."""
    name, data = block(1)
    program = (
        "import os; from holdfast.blocks.diskcache import DiskCache\n"
        "os.rename = lambda *_: os.kill(os.getpid(), 9)\n"
        f"DiskCache({str(tmp_path)!r}).set({name!r}, {data!r})"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    (left,) = tmp_path.glob("new-*")
    cache = DiskCache(tmp_path)
    assert cache.get(name) is None
    assert left.exists()  # its process may be alive
    long_ago = time.time() - 7200
    os.utime(left, (long_ago, long_ago))
    DiskCache(tmp_path)
    assert not left.exists()


def test_blocks_of_an_earlier_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a crash of the system, files are checked before they are used, once."""
    good, bad = block(1), block(2)
    monkeypatch.setattr(diskcache, "_boot", lambda: "0" * 8)
    old = DiskCache(tmp_path)
    old.set(*good)
    old.set(*bad)
    (damaged,) = tmp_path.glob(f"??/{bad[0]}.*")
    damaged.write_bytes(bytes(100))
    monkeypatch.undo()
    cache = DiskCache(tmp_path)
    assert good[0] in cache
    assert cache.get(good[0]) == good[1]
    assert cache.get(bad[0]) is None
    assert "damaged" in caplog.text
    assert not damaged.exists()
    assert cache.get(good[0]) == good[1]
    monkeypatch.setattr(diskcache, "md5", None)  # checked no more
    assert DiskCache(tmp_path).get(good[0]) == good[1]


def test_a_disk_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A block that cannot be cached is no error; it is logged."""
    cache = DiskCache(tmp_path / "cache")
    name, data = block(1)
    (tmp_path / "cache" / name[:2]).write_bytes(b"")  # a file, where a folder has to be
    with caplog.at_level(logging.WARNING):
        cache.set(name, data)
        assert cache.get(name) is None
    assert "cannot be cached" in caplog.text
    assert list((tmp_path / "cache").glob("new-*")) == []


def test_threads_and_a_full_disk_cache(tmp_path: Path) -> None:
    """Threads that put and get find either the block or nothing, and the limits hold."""
    caches = [DiskCache(tmp_path, 1000, 100), DiskCache(tmp_path, 1000, 100)]
    wrong: list[int] = []

    def work(cache: DiskCache, seed: int) -> None:
        for step in range(150):
            number = (seed * 7 + step * 5) % 23
            name, data = block(number)
            if cache.get(name) not in (None, data):
                wrong.append(number)
            cache.set(name, data)

    threads = [threading.Thread(target=work, args=(caches[n % 2], n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(one.size for one in DiskCache(tmp_path, 1000, 100)._entries()) <= 1000


# Clients.


def set_once_asked(server: ScriptedServer, go: threading.Event) -> None:
    """Set an event when a server was asked."""
    server.wait_for_requests(1)
    go.set()


@pytest.fixture
def server_of_one(scripted: StartScripted) -> tuple[Any, threading.Event]:
    """Serve one block, once, when the event is set."""
    go = threading.Event()
    return scripted([Receive(), Wait(go), response(200, DATA)]), go


def test_one_request_for_many(
    server_of_one: tuple[Any, threading.Event], start: StartClient
) -> None:
    """Those who ask for one block at the same time cause one request."""
    server, go = server_of_one
    client = start(proxy=server.url)
    threading.Thread(target=set_once_asked, args=(server, go)).start()
    texts = [TEXT, TEXT, TEXT + SIGNATURE, TEXT]
    assert client.together(*[("get", text) for text in texts]) == [DATA] * 4
    assert server.request_count == 1
    assert client.get(TEXT) == DATA
    assert server.request_count == 1
    assert client.keep.get_counter.get() == 5


def test_a_failure_is_shared_and_not_kept(stubs: Stubs, client: Client) -> None:
    """Those who wait for a fetch that fails get its error; the next one tries again."""
    for service in stubs.services:
        service.plan.append(Reply(500, after=1.0))
    if client._runner is not None:
        results = client.together(("get", TEXT), ("get", TEXT))
        assert [type(one) for one in results] == [KeepReadError, KeepReadError]
        assert results[0] is not results[1]
        assert str(results[0]) == str(results[1])
        assert len(stubs.asked) == 3
    else:
        with pytest.raises(KeepReadError):
            client.get(TEXT)
    assert not client.is_cached(TEXT)
    stubs.put(DATA)
    assert client.get(TEXT) == DATA


def test_a_failure_of_another_signature(scripted: StartScripted, start: StartClient) -> None:
    """Who waited for a fetch that another signature has failed asks with their own."""
    go = threading.Event()
    server = scripted(
        [
            Receive(),
            Wait(go),
            response(403, b"expired\n"),
            Receive(),
            response(200, DATA),
        ]
    )
    client = start(proxy=server.url)
    threading.Thread(target=set_once_asked, args=(server, go)).start()
    first = f"{TEXT}+A{'1' * 40}@00000001"
    results = client.together(("get", first), ("get", TEXT + SIGNATURE))
    asked = [one.target for one in server.requests]
    assert asked in ([f"/{first}", f"/{TEXT}{SIGNATURE}"], [f"/{TEXT}{SIGNATURE}", f"/{first}"])
    failed, good = (0, 1) if asked[0] == f"/{first}" else (1, 0)
    assert results[good] == DATA
    assert isinstance(results[failed], KeepReadError)


def test_get_from_cache(stubs: Stubs, client: Client) -> None:
    """What is cached can be had without a request; what is not, is None."""
    stubs.put(DATA)
    assert client.get_from_cache(TEXT) is None
    assert client.is_cached(TEXT) is False
    client.get(TEXT)
    assert client.get_from_cache(TEXT + SIGNATURE) == DATA
    assert client.is_cached(TEXT) is True
    assert len(stubs.asked) == 1
    with pytest.raises(ValueError, match="not a locator"):
        client.get_from_cache("x")


def test_a_disk_cache(stubs: Stubs, start: StartClient, tmp_path: Path) -> None:
    """A client with a cache on disk finds there what an earlier one has read."""
    stubs.put(DATA)
    for hits in (0, 1):
        cache = KeepBlockCache(disk_cache=True, disk_cache_dir=tmp_path)
        client = start(stubs.api, proxy="", driver=stubs.world, block_cache=cache)
        assert client.get(TEXT) == DATA
        assert client.get_from_cache(TEXT) == DATA
        assert client.keep.hits_counter.get() == hits
    assert len(stubs.asked) == 1


def test_a_disk_cache_and_real_threads(
    scripted: StartScripted, start: StartClient, tmp_path: Path
) -> None:
    """The disk is waited for on a thread where there is a loop to be kept free."""
    server = scripted([Receive(), response(200, DATA)])
    cache = KeepBlockCache(disk_cache=True, disk_cache_dir=tmp_path)
    client = start(proxy=server.url, block_cache=cache)
    for _ in range(2):
        assert client.get(TEXT) == DATA
    assert client.get_from_cache(TEXT) == DATA
    assert server.request_count == 1


def test_prefetch(scripted: StartScripted, start: StartClient) -> None:
    """Blocks that will be needed come in the background; who asks meanwhile waits for them."""
    go = threading.Event()
    server = scripted([Receive(), Wait(go), response(200, DATA)])
    client = start(proxy=server.url)
    client.block_prefetch(TEXT)
    threading.Thread(target=set_once_asked, args=(server, go)).start()
    assert client.get(TEXT) == DATA
    client.block_prefetch(TEXT)
    assert server.request_count == 1
    with pytest.raises(ValueError, match="not a locator"):
        client.block_prefetch("x")


def test_a_prefetch_that_fails(scripted: StartScripted, start: StartClient) -> None:
    """A block that cannot be fetched ahead is an error only for who asks for it."""
    server = scripted([Receive(), response(404)])
    client = start(proxy=server.url, num_prefetch_threads=1)
    for number in range(5):
        client.block_prefetch(locator(b"%d" % number))
    with pytest.raises(NotFoundError):
        client.get(TEXT)
    if client._runner is None:
        client.stop_prefetch_threads()


def test_a_client_that_is_gone(scripted: StartScripted) -> None:
    """A client is not kept alive by what it may fetch ahead."""
    server = scripted([Receive(), response(200, DATA)])
    client = KeepClient(proxy=server.url)
    client.get(TEXT)
    client.close()
    watched = threading.Event()
    weakref.finalize(client, watched.set)
    del client
    gc.collect()
    assert watched.is_set()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process(scripted: StartScripted) -> None:
    """A child has the parent's cache, and connections of its own."""
    script: Script = [Receive(), response(200, DATA), Receive(), response(200, b"bar")]
    server = scripted(script, [Receive(), response(200, b"bar")])
    with KeepClient(proxy=server.url) as client:
        client.get(TEXT)
        child = os.fork()
        if not child:
            status = 1
            try:
                good = client.get(TEXT) == DATA and client.get(locator(b"bar")) == b"bar"
                status = 0 if good else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.get(locator(b"bar")) == b"bar"
    assert server.connection_count == 2
    assert len(server.requests_on(0)) == 2

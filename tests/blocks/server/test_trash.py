"""Blocks are removed, brought back, and gone for good."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.memory import MemoryVolume
from tests.blocks.server.services import QUIET, SYSTEM, Answer, Running, locator, md5, running

FOO = "acbd18db4cc2f85cedef654fccc4a4d8"
OLD = 1_000_000_000


def age(folder: Path, data: bytes) -> int:
    """Make a block old; return its time, in nanoseconds."""
    path = folder / md5(data)[:3] / md5(data)
    os.utime(path, (OLD, OLD))
    return path.stat().st_mtime_ns


def send(service: Running, path: str, entries: object) -> Answer:
    """Send a list."""
    return service.request("PUT", path, json.dumps(entries), token=SYSTEM)


def until_gone(service: Running, name: str) -> None:
    """Wait until a block is not found any more."""
    while service.get(name).status != 404:
        pass


def test_delete(service: Running, folder: Path) -> None:
    """An old block goes into the trash and can be brought back, as new."""
    service.put(b"foo")
    age(folder, b"foo")
    answer = service.request("DELETE", f"/{FOO}+3", token=SYSTEM)
    assert answer.status == 200
    assert json.loads(answer.body) == {"copies_deleted": 1, "copies_kept": 0}
    assert service.get(f"{FOO}+3").status == 404
    (trashed,) = os.listdir(folder / "acb")
    assert trashed.startswith(f"{FOO}.trash.")
    deadline = int(trashed.rpartition(".")[2])
    assert abs(deadline - time.time() - QUIET.trash_lifetime) < 60
    assert service.request("DELETE", f"/{FOO}+3", token=SYSTEM).status == 404
    assert service.request("PUT", f"/untrash/{FOO}", token=SYSTEM).status == 200
    assert service.get(f"{FOO}+3").body == b"foo"
    assert (folder / "acb" / FOO).stat().st_mtime > OLD
    assert service.request("PUT", f"/untrash/{FOO}", token=SYSTEM).status == 404
    assert service.request("PUT", "/untrash/foo", token=SYSTEM).status == 400


def test_delete_new(service: Running) -> None:
    """A block for which signatures may still hold stays."""
    service.put(b"foo")
    answer = service.request("DELETE", f"/{FOO}+3", token=SYSTEM)
    assert (answer.status, json.loads(answer.body)["copies_deleted"]) == (200, 0)
    assert service.get(f"{FOO}+3").status == 200


def test_trash_off(folder: Path) -> None:
    """Without trash nothing is removed."""
    config = dataclasses.replace(QUIET, trash=False)
    with running([FolderVolume(folder, fsync=False)], config) as service:
        service.put(b"foo")
        age(folder, b"foo")
        assert service.request("DELETE", f"/{FOO}+3", token=SYSTEM).status == 405
        assert send(service, "/trash", []).status == 405
        assert service.get(f"{FOO}+3").status == 200
        assert not json.loads(service.request("GET", "/mounts").body)[0]["allow_trash"]


def test_no_lifetime(folder: Path) -> None:
    """Without a time in the trash a block is gone at once."""
    config = dataclasses.replace(QUIET, trash_lifetime=0)
    with running([FolderVolume(folder, fsync=False)], config) as service:
        service.put(b"foo")
        age(folder, b"foo")
        assert service.request("DELETE", f"/{FOO}+3", token=SYSTEM).status == 200
        assert os.listdir(folder / "acb") == []


def test_list(service: Running, folder: Path) -> None:
    """Of a list those blocks go that still have the time that was seen."""
    blocks = [b"one", b"two", b"touched", b"new", b"elsewhere", b"last"]
    times = {}
    for data in blocks:
        service.put(data)
        times[data] = age(folder, data)
    service.request("TOUCH", f"/{locator(b'touched')}")
    service.request("TOUCH", f"/{locator(b'new')}")
    new = (folder / md5(b"new")[:3] / md5(b"new")).stat().st_mtime_ns
    mount = json.loads(service.request("GET", "/mounts").body)[0]["uuid"]
    entries = [
        {"locator": locator(data), "block_mtime": times[data], "mount_uuid": mount}
        for data in blocks
    ]
    entries[0]["mount_uuid"] = ""
    entries[3]["block_mtime"] = new
    entries[4]["mount_uuid"] = "zzzzz-nyw5e-000000000000000"
    assert send(service, "/trash", entries).status == 200
    until_gone(service, locator(b"last"))
    there = [data for data in blocks if service.get(locator(data)).status == 200]
    assert there == [b"touched", b"new", b"elsewhere"]


def test_list_replaces(folder: Path) -> None:
    """A new list takes the place of what is left of the old one."""
    volume = FolderVolume(folder, fsync=False)
    with running([volume]) as service:
        for data in (b"one", b"two"):
            service.put(data)
        times = [age(folder, data) for data in (b"one", b"two")]
        many = [{"locator": f"{n:032x}", "block_mtime": 1} for n in range(20_000)]
        first = [*many, {"locator": locator(b"one"), "block_mtime": times[0]}]
        assert send(service, "/trash", first).status == 200
        second = [{"locator": locator(b"two"), "block_mtime": times[1]}]
        assert send(service, "/trash", second).status == 200
        until_gone(service, locator(b"two"))
        assert service.get(locator(b"one")).status == 200


def test_bad_lists(service: Running) -> None:
    """What is no list of that kind is refused, and changes nothing."""
    for path in ("/trash", "/pull"):
        values: list[object] = [{}, [1], [{}], [{"locator": "x"}], [{"locator": f"{FOO}+3"}], None]
        for value in values:
            assert send(service, path, value).status == 400
        assert service.request("PUT", path, b"[", token=SYSTEM).status == 400
    bad = {"locator": f"{FOO}+3", "servers": ["file:///etc"], "mount_uuid": ""}
    assert send(service, "/pull", [bad]).status == 400
    bad = {"locator": f"{FOO}+3", "block_mtime": "1", "mount_uuid": ""}
    assert send(service, "/trash", [bad]).status == 400


def test_emptied_at_start(folder: Path) -> None:
    """What is beyond its deadline is removed for good, by itself."""
    volume = FolderVolume(folder, fsync=False)
    for data, deadline in ((b"foo", 1), (b"bar", 1 << 33)):
        with volume.create(md5(data)) as writer:
            writer.write(data)
            writer.commit()
        volume.trash(md5(data), 1 << 62, deadline)
    with running([volume]) as service:
        while os.listdir(folder / "acb"):
            service.request("GET", "/_health/ping")
        assert len(os.listdir(folder / md5(b"bar")[:3])) == 1


def test_all_volumes() -> None:
    """A block is removed from every volume that has it, but from none that is read-only."""
    clock_ns = 1
    volumes = [MemoryVolume(clock=lambda: clock_ns) for _ in range(2)]
    kept = MemoryVolume(read_only=True, clock=lambda: clock_ns)
    for volume in (*volumes, kept):
        volume.put(FOO, b"foo")
    with running([*volumes, kept]) as service:
        answer = service.request("DELETE", f"/{FOO}", token=SYSTEM)
        assert json.loads(answer.body)["copies_deleted"] == 2
        assert service.get(f"{FOO}+3").body == b"foo"
        assert service.request("DELETE", f"/{FOO}", token=SYSTEM).status == 404

"""The paths that are no blocks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.memory import MemoryVolume
from holdfast.blocks.server.volumes import Volume, VolumeError
from tests.blocks.server.services import QUIET, SYSTEM, Running, locator, md5, read_answer, running
from tests.blocks.server.test_at_once import asked, put_of


def test_index(service: Running, folder: Path) -> None:
    """The index has a line for each block, its time in nanoseconds, and an empty one at its end."""
    blocks = [os.urandom(5) for _ in range(20)]
    for data in blocks:
        service.put(data)
    answer = service.request("GET", "/index", token=SYSTEM)
    assert answer.text.endswith("\n\n")
    lines = answer.text[:-2].split("\n")
    expected = [
        f"{locator(data)} {(folder / md5(data)[:3] / md5(data)).stat().st_mtime_ns}"
        for data in blocks
    ]
    assert sorted(lines) == sorted(expected)
    prefix = md5(blocks[0])[:4]
    answer = service.request("GET", f"/index/{prefix}", token=SYSTEM)
    assert all(line.startswith(prefix) for line in answer.text.split("\n")[:-2])
    assert service.request("GET", "/index/ffff0000ffff", token=SYSTEM).text == "\n"
    for bad in ("xyz", "A", "0" * 33):
        assert service.request("GET", f"/index/{bad}", token=SYSTEM).status == 400


def test_broken_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that cannot be completed has no empty line, and no proper end."""
    volume = MemoryVolume()
    volume.put(md5(b"foo"), b"foo")

    def index(prefix: str) -> object:
        yield volume.stat(md5(b"foo"))
        raise VolumeError("input/output error")

    monkeypatch.setattr(volume, "index", index)
    with running([volume]) as service, service.socket() as sock:
        request = f"GET /index HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SYSTEM}\r\n\r\n"
        sock.sendall(request.encode())
        data = b"".join(read_answer(sock))
        while piece := sock.recv(65536):
            data += piece
        assert not data.endswith(b"0\r\n\r\n")
        assert b"\n\n" not in data


def test_mounts(tmp_path: Path) -> None:
    """The mounts are listed with what clients and balancers must know."""
    volumes: list[Volume] = [
        MemoryVolume(classes=("fast", "default"), replication=2),
        FolderVolume(tmp_path, read_only=True),
    ]
    with running(volumes) as service:
        mounts = json.loads(service.request("GET", "/mounts").body)
        assert mounts == [
            {
                "uuid": volume.uuid,
                "device_id": volume.device_id,
                "allow_write": volume.writable,
                "allow_trash": volume.writable,
                "replication": volume.replication,
                "storage_classes": dict.fromkeys(volume.classes, True),
            }
            for volume in volumes
        ]


def test_health(service: Running) -> None:
    """The service says that it is well."""
    answer = service.request("GET", "/_health/ping")
    assert (answer.status, json.loads(answer.body)) == (200, {"health": "OK"})


def test_metrics(service: Running) -> None:
    """Requests, bytes and free space are counted, and their text can be parsed."""
    data = os.urandom(100_000)
    service.put(data)
    service.get(locator(data))
    service.get(locator(b"absent"))
    answer = service.request("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert values["holdfast_blocks_requests_total", "200", "PUT"] == 1
    assert values["holdfast_blocks_requests_total", "404", "GET"] == 1
    assert values["holdfast_blocks_request_duration_seconds_count", "GET"] == 2
    assert values["holdfast_blocks_received_bytes_total",] == 100_000
    assert values["holdfast_blocks_sent_bytes_total",] == 100_000
    assert values["holdfast_blocks_requests_in_flight",] == 1
    mount = json.loads(service.request("GET", "/mounts").body)[0]["uuid"]
    assert values["holdfast_blocks_free_bytes", mount] > 0


def test_error_in_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has thought of is a 503, and the service goes on."""
    volume = MemoryVolume()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake")

    with running([volume], QUIET) as service:
        with monkeypatch.context() as patch:
            patch.setattr(volume, "add", fail)
            patch.setattr(volume, "create", fail)
            assert asked(service, put_of(b"foo"))[0][0].startswith(b"HTTP/1.1 503 ")
            assert service.put(bytes(2_000_000)).status == 503
        assert service.put(b"foo").status == 200
        with monkeypatch.context() as patch:
            patch.setattr(volume, "stat", fail)
            assert service.request("GET", "/metrics").status == 200

"""The dispatcher is killed at random points of a load."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.dispatcher.kit import host_line
from tests.jobs.dispatcher.lines import Lines
from tests.jobs.dispatcher.playing import playing
from tests.jobs.dispatcher.process import DispatcherProcess
from tests.servers.certificates import Certificates


class Witness:
    """What clients have been told, which must be true for ever."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.packets: dict[str, int] = {}
        self.ends: dict[str, Any] = {}

    def load(self, port: int, told: Callable[[], None]) -> None:
        """Submit and follow jobs until the dispatcher is gone."""
        try:
            with Lines(port) as client:
                for number in range(1000):
                    count = number % 7 * 40
                    queue = {"queue": {"name": {}, "concurrency": 3}} if number % 3 == 0 else {}
                    asked = {"host": "web01", "procedure": "count", "arguments": [count]}
                    reply = client.ask(**asked, **queue)
                    if reply is None:
                        return
                    job_id = reply["job_id"]
                    self.acknowledged.add(job_id)
                    told()
                    client.send(follow_stream=job_id, since=0)
                    while (message := client.receive()) is not None and "packet" in message:
                        assert message["packet"] == self.packets.get(job_id, 0)
                        self.packets[job_id] = message["packet"] + 1
                    if message is None:
                        return
                    self.ends[job_id] = message
                    told()
        except ConnectionError:
            pass

    def check(self, process: DispatcherProcess) -> None:
        """Compare with what is recorded."""
        listed = process.lines("list", "--all")
        ids = [one["job"] for one in listed]
        assert len(set(ids)) == len(ids)
        assert self.acknowledged <= set(ids)
        assert all(one["time"]["end"] is not None for one in listed)
        with Lines(process.port) as client:
            for one in listed:
                job_id = one["job"]
                client.send(read_stream=job_id)
                packets = []
                while "packet" in (message := client.receive()):
                    packets.append((message["packet"], message["data"]))
                assert packets == [(number, number) for number in range(len(packets))]
                assert len(packets) >= self.packets.get(job_id, 0)
                assert message == self.ends.get(job_id, message)
                if "result" in message:
                    assert len(packets) == message["result"]
                else:
                    assert message["error"]["type"] == "missing_result"


@pytest.mark.parametrize(
    "times", [2, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_killed_again_and_again(times: int, tmp_path: Path, certificates: Certificates) -> None:
    """No packet is lost or repeated, no acknowledged job forgotten, every job has one end."""
    chance = random.Random(times)
    witness = Witness()
    with playing(certificates) as host:
        (tmp_path / "hosts").write_text(host_line("web01", host.port))
        process = DispatcherProcess(tmp_path, host_db="hosts")
        for _ in range(times):
            with process:
                steps = chance.randrange(1, 60)
                left = threading.Semaphore(0)
                clients = [
                    threading.Thread(target=witness.load, args=(process.port, left.release))
                    for _ in range(5)
                ]
                for client in clients:
                    client.start()
                for _ in range(steps):
                    assert left.acquire(timeout=60)
                process.kill()
                for client in clients:
                    client.join(60)
        with process:
            witness.check(process)
        assert len(witness.acknowledged) > times

"""One procedure on many hosts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from holdfast import deadline
from holdfast.jobs import (
    CALL_CANCELLED,
    CommunicationError,
    CommunicationTimeout,
    HarpCaller,
    InvalidCall,
    RemoteError,
    RemoteException,
)
from tests.jobs.client.conftest import StartLines
from tests.jobs.client.faces import Face, scripted
from tests.jobs.client.scripts import Hear, LineServer, Say, hear_line
from tests.servers.connection import Connection


class Crowd(LineServer):
    """A dispatcher whose jobs are named for their hosts, and end when they may.

    ``most`` is how many jobs there were at once.
    """

    def __init__(self, hosts: list[str]) -> None:
        super().__init__(())
        self.hosts = hosts
        self.calls: list[dict[str, Any]] = []
        self.most = 0
        self.open = {host: threading.Event() for host in hosts}
        self._running: set[str] = set()

    def serve(self, connection: Connection) -> None:
        """Answer requests until the client closes."""
        while True:
            request = json.loads(hear_line(connection))
            if "get_result" in request:
                host = request["get_result"]
                connection.wait(self.open[host], 30.0)
                with self.changed:
                    self._running.discard(host)
            Say(self.answer(request)).play(connection)
            self.heard(request)

    def answer(self, request: dict[str, Any]) -> Any:
        """Return the reply."""
        if "hosts" in request:
            return {
                "hosts": [host for host in self.hosts if host.startswith(request["hosts"][:-1])]
            }
        if "procedure" in request:
            host = request["host"]
            if host == "bad":
                return {"error": {"type": "unknown_host", "message": host}}
            with self.changed:
                self.calls.append(request)
                self._running.add(host)
                self.most = max(self.most, len(self._running))
            return {"harpcaller": 1, "job_id": host}
        host = request["get_result"]
        if host == "odd":
            return {"exception": {"type": "ValueError", "message": "odd"}}
        return {"cancelled": True} if host == "gone" else {"result": host.upper()}


@scripted
async def test_a_list_of_hosts(face: Face) -> None:
    """Results come as the jobs end, whatever their ends, with host and job."""
    hosts = ["a", "odd", "gone", "z", "bad"]
    with Crowd(hosts) as server:
        rpc = face.caller(server)
        results = rpc.group(hosts, timeout=5, info="all").restart("now")
        await _until(server, lambda: len(server.calls) == 4)
        found = []
        host, job, result = await face.next(results)
        assert (host, job) == ("bad", None)
        assert isinstance(result, RemoteError)
        for name in ("z", "gone", "odd", "a"):
            server.open[name].set()
            found.append(await face.next(results))
        assert await face.all(results) == []
        assert [one.host for one in found] == ["z", "gone", "odd", "a"]
        assert [one.job.id() for one in found] == ["z", "gone", "odd", "a"]
        assert found[0].result == "Z"
        assert found[1].result is CALL_CANCELLED
        assert isinstance(found[2].result, RemoteException)
        assert found[3].result == "A"
        for call in server.calls:
            assert (call["arguments"], call["timeout"], call["info"]) == (["now"], 5, "all")


@scripted
async def test_a_glob(face: Face) -> None:
    """A glob means the hosts that the dispatcher knows by such names."""
    with Crowd(["web1", "web2", "db1"]) as server:
        for event in server.open.values():
            event.set()
        results = await face.got(face.caller(server).group("web*").restart().all())
        assert sorted((host, result) for host, _, result in results) == [
            ("web1", "WEB1"),
            ("web2", "WEB2"),
        ]
        with pytest.raises(RemoteError, match="no host matches 'x\\*'"):
            await face.all(face.caller(server).group("x*").restart())


@pytest.mark.parametrize("at_once", [1, 3, 100])
@scripted
async def test_so_many_at_once(at_once: int, face: Face) -> None:
    """No more jobs than wanted are there at once, and all are there in the end."""
    hosts = [f"h{number}" for number in range(12)]
    with Crowd(hosts) as server:
        results = face.caller(server).group(hosts, at_once=at_once).restart()
        await _until(server, lambda: len(server.calls) == min(at_once, 12))
        for event in server.open.values():
            event.set()
        found = await face.all(results)
        assert sorted(one.host for one in found) == sorted(hosts)
        assert server.most <= at_once


@scripted
async def test_leaving_a_group(face: Face) -> None:
    """Who leaves the results submits no more jobs, and its connections are closed."""
    hosts = ["a", "b", "c", "d"]
    with Crowd(hosts) as server:
        server.open["a"].set()
        rpc = face.caller(server)
        results = rpc.group(hosts, at_once=2).restart()
        assert (await face.next(results)).host == "a"
        await _until(server, lambda: len(server.calls) == 3)
        await face.close(results)
        assert await face.all(results) == []
        await face.close(rpc)
        await _until(server, lambda: server.open_connections == 0)
        assert len(server.calls) == 3


@scripted
async def test_dropping_a_group(face: Face) -> None:
    """Results that nobody holds any more are left."""
    hosts = ["a", "b"]
    with Crowd(hosts) as server:
        rpc = face.caller(server)
        results = rpc.group(hosts, at_once=1).restart()
        await _until(server, lambda: len(server.calls) == 1)
        del results
        await _until(server, lambda: server.open_connections == 0)
        assert len(server.calls) == 1


async def _until(server: Crowd, condition: Callable[[], bool]) -> None:
    """Wait for something at the server, while the loop goes on."""
    await asyncio.to_thread(server.wait_for, condition)


@scripted
async def test_a_context(face: Face) -> None:
    """Results are a context manager, too, and jobs are submitted before anybody iterates."""
    with Crowd(["a"]) as server:
        server.open["a"].set()
        results = face.caller(server).group(["a"]).restart()
        if face.blocks:
            with results as found:
                assert [one.result for one in found] == ["A"]
        else:
            async with results as found:
                assert [one.result async for one in found] == ["A"]


@scripted
async def test_a_deadline(face: Face) -> None:
    """The deadline around a call of many hosts holds for all of them."""
    with Crowd(["a", "b"]) as server, deadline(0.2):
        for _, job, result in await face.all(face.caller(server).group(["a", "b"]).restart()):
            assert job is not None
            assert isinstance(result, CommunicationTimeout)


@scripted
async def test_a_dispatcher_that_is_not_there(face: Face, refusing: tuple[str, int]) -> None:
    """A list of hosts gets an error each, a glob one for all."""
    rpc = face.caller(refusing)
    found = await face.all(rpc.group(["a", "b"]).restart())
    assert sorted((one.host, one.job, type(one.result)) for one in found) == [
        ("a", None, CommunicationError),
        ("b", None, CommunicationError),
    ]
    with pytest.raises(CommunicationError):
        await face.all(rpc.group("a*").restart())


@scripted
async def test_no_hosts_at_all(face: Face, lines: StartLines) -> None:
    """An empty list of hosts has no results; a classic dispatcher knows no globs."""
    refused = {"error": {"type": "invalid_request", "message": "what?"}}
    server = lines([Hear({"harpcaller": 1, "hosts": "*"}), Say(refused)])
    assert await face.all(face.caller(server).group([]).restart()) == []
    with pytest.raises(RemoteError, match="what"):
        await face.all(face.caller(server).group("*").restart())


@scripted
async def test_wrong_groups(face: Face) -> None:
    """What makes no call is refused at once."""
    rpc = face.caller(("127.0.0.1", 1))
    with pytest.raises(InvalidCall, match="at_once"):
        rpc.group(["a"], at_once=0)
    with pytest.raises(InvalidCall, match="timeout"):
        rpc.group(["a"], timeout=0)
    with pytest.raises(TypeError, match="colour"):
        rpc.group(["a"], colour=1)
    with pytest.raises(InvalidCall, match="host"):
        rpc.group(["a", ""])
    with pytest.raises(InvalidCall, match="not both"):
        rpc.group(["a"]).restart(1, x=1)
    with pytest.raises(InvalidCall, match="JSON can carry"):
        rpc.group(["a"]).restart(object())


def test_names() -> None:
    """A group is named by its hosts, and Python's own names are no procedures."""
    group = HarpCaller("x").group(["a", "b"])
    assert repr(group) == "<Group 2 hosts>"
    assert repr(HarpCaller("x").group("web*")) == "<Group web*>"
    assert not hasattr(group, "__copy__")

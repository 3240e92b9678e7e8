"""The client port, line by line."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit, Peer, dispatching
from tests.servers.certificates import Certificates

UNKNOWN = "3f22e0d4-c8ed-11e5-8d66-001e8c140268"
CALL = {"harpcaller": 1, "host": "web01", "procedure": "echo", "arguments": [1]}


def test_call(dispatch: Dispatch) -> None:
    """A call is answered with the id of a job, whose result is what the procedure returned."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("echo", 1, "ž", None, {"a": [1.5]})
        assert await peer.result(job_id) == {"result": [1, "ž", None, {"a": [1.5]}]}
        assert await peer.ask(get_result=job_id, wait=False) == {
            "result": [1, "ž", None, {"a": [1.5]}]
        }
        named = await peer.ask(host="web02", procedure="echo", arguments={"x": 10**30})
        assert await peer.result(named["job_id"]) == {"result": {"x": 10**30}}

    dispatch(test)


def test_request_to_the_host(dispatch: Dispatch) -> None:
    """The host gets the procedure, its arguments, and the registry's credentials."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("hold", "a", info={"who": "me"}, queue={"name": {}})
        call = await kit.host.call()
        assert call.request == {
            "harp": 1,
            "procedure": "hold",
            "arguments": ["a"],
            "auth": {"user": "dispatcher", "password": "hush"},
        }
        call.finish(7)
        assert await peer.result(job_id) == {"result": 7}

    dispatch(test)


def test_status(dispatch: Dispatch) -> None:
    """The status tells the call, its times as whole seconds, and the caller's info."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        info = {"user": ["x", 1, None]}
        job_id = await peer.call("hold", 1, info=info)
        call = await kit.host.call()
        status = await peer.ask(get_status=job_id)
        times = status["time"]
        assert status == {
            "call": {"host": "web01", "procedure": "hold", "arguments": [1]},
            "time": {"submit": times["submit"], "start": times["start"], "end": None},
            "info": info,
        }
        assert type(times["submit"]) is int
        assert times["submit"] <= times["start"]
        call.finish()
        await peer.result(job_id)
        times = (await peer.ask(get_status=job_id))["time"]
        assert type(times["end"]) is int
        assert times["start"] <= times["end"]

    dispatch(test)


def test_unknown_job(dispatch: Dispatch) -> None:
    """Every request about a job that does not exist says so; cancelling it is no error."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        for name in ("get_result", "get_status", "follow_stream", "read_stream"):
            for job_id in (UNKNOWN, "no id at all", "ž" * 1000):
                reply = await peer.ask(**{name: job_id})
                assert reply["error"]["type"] == "invalid_jobid"
        assert await peer.ask(cancel=UNKNOWN) == {"cancelled": False}

    dispatch(test)


MALFORMED: list[tuple[bytes, str]] = [
    (b"", "parse_error"),
    (b"rubbish", "parse_error"),
    (b"\xff\xfe", "parse_error"),
    (b'{"harpcaller": 1', "parse_error"),
    (b"[" * 300 + b"]" * 300, "parse_error"),
    (b"NaN", "parse_error"),
    (b"null", "invalid_request"),
    (b"[]", "invalid_request"),
    (b"{}", "invalid_request"),
    (b'{"harpcaller": 1}', "invalid_request"),
    (b'{"harpcaller": 2, "cancel": "x"}', "invalid_request"),
    (b'{"harpcaller": true, "cancel": "x"}', "invalid_request"),
    (b'{"harpcaller": 1, "cancel": 1}', "invalid_request"),
    (b'{"harpcaller": 1, "get_result": "x", "wait": 1}', "invalid_request"),
    (b'{"harpcaller": 1, "follow_stream": "x", "since": -1}', "invalid_request"),
    (b'{"harpcaller": 1, "follow_stream": "x", "since": 1, "recent": 1}', "invalid_request"),
    (b'{"harpcaller": 1, "read_stream": "x", "recent": 1.5}', "invalid_request"),
    (b'{"harpcaller": 1, "cancel": "x", "more": 1}', "invalid_request"),
]


def test_malformed(dispatch: Dispatch) -> None:
    """A malformed request is answered with an error, and the next is answered as ever."""

    async def test(kit: Kit) -> None:
        for line, kind in MALFORMED:
            peer = await kit.peer()
            peer.raw(line + b"\n")
            reply = await peer.receive()
            assert reply.keys() == {"error"}, line
            assert reply["error"]["type"] == kind, line
            assert reply["error"]["message"], line
            assert await peer.ask(cancel=UNKNOWN) == {"cancelled": False}, line

    dispatch(test)


MALFORMED_CALLS: list[dict[str, Any]] = [
    {"host": ""},
    {"host": 1},
    {"procedure": None},
    {"arguments": "x"},
    {"timeout": 0},
    {"timeout": 1.5},
    {"timeout": True},
    {"max_exec_time": -1},
    {"queue": []},
    {"queue": {}},
    {"queue": {"name": 1}},
    {"queue": {"name": {}, "concurrency": 0}},
    {"queue": {"name": {}, "other": 1}},
    {"id": "x"},
    {"id": UNKNOWN},
    {"unknown": 1},
]


def test_malformed_call(dispatch: Dispatch) -> None:
    """A call with a wrong field is refused, and nothing of it is recorded."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        for fields in MALFORMED_CALLS:
            peer.raw(json.dumps({**CALL, **fields}).encode() + b"\n")
            assert (await peer.receive())["error"]["type"] == "invalid_request", fields
        assert (await kit.service.dispatcher.store.list()).records == []

    dispatch(test)


def test_pipelined(dispatch: Dispatch) -> None:
    """Requests that are sent together are answered in their order, however they are cut."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        line = json.dumps(CALL).encode() + b"\n"
        for piece in (line * 3)[:-10], (line * 3)[-10:]:
            peer.raw(piece)
            await peer.writer.drain()
        ids = [(await peer.receive())["job_id"] for _ in range(3)]
        assert len(set(ids)) == 3
        for job_id in ids:
            peer.send(get_result=job_id)
            peer.send(read_stream=job_id)
            peer.send(get_status=job_id)
        for _ in ids:
            assert await peer.receive() == {"result": [1]}
            assert await peer.receive() == {"result": [1]}
            assert (await peer.receive())["call"]["procedure"] == "echo"

    dispatch(test)


def test_wait_holds_up_what_follows(dispatch: Dispatch) -> None:
    """A request behind one that waits is answered after it; other connections go on."""

    async def test(kit: Kit) -> None:
        peer, other = await kit.peer(), await kit.peer()
        job_id = await peer.call("hold")
        call = await kit.host.call()
        peer.send(get_result=job_id)
        for _ in range(1000):
            peer.send(cancel=UNKNOWN)
        assert await other.ask(get_result=job_id, wait=False) == {"no_result": True}
        call.finish("done")
        assert await peer.receive() == {"result": "done"}
        for _ in range(1000):
            assert await peer.receive() == {"cancelled": False}

    dispatch(test)


def test_end_of_requests(dispatch: Dispatch) -> None:
    """A client that closes its side gets the answers that are there, and then the end."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("count", 3)
        await peer.result(job_id)
        for name in ("follow_stream", "read_stream"):
            peer.send(**{name: job_id, "since": 1})
        peer.send(get_result=job_id)
        peer.writer.write_eof()
        lines = (await peer.rest()).splitlines()
        assert [json.loads(line) for line in lines] == [
            {"packet": 1, "data": 1},
            {"packet": 2, "data": 2},
            {"result": 3},
        ] * 2 + [{"result": 3}]

    dispatch(test)


def test_gone_while_waiting(dispatch: Dispatch) -> None:
    """A client that goes while it waits is forgotten; the job goes on."""

    async def test(kit: Kit) -> None:
        peer, other = await kit.peer(), await kit.peer()
        job_id = await peer.call("hold")
        call = await kit.host.call()
        for name in ("get_result", "follow_stream"):
            waiting = await kit.peer()
            waiting.send(**{name: job_id})
            waiting.writer.write_eof()
            assert await waiting.rest() == b""
        call.finish(1)
        assert await other.result(job_id) == {"result": 1}
        assert len(kit.service.port.connections) == 2

    dispatch(test)


def test_gone_after_the_request(dispatch: Dispatch) -> None:
    """A job runs whether its client waits for the id or not."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        peer.send(host="web01", procedure="hold", arguments=[])
        await peer.writer.drain()
        call = await kit.host.call()
        peer.writer.transport.abort()
        call.finish(1)
        other = await kit.peer()
        (record,) = (await kit.service.dispatcher.store.list()).records
        assert await other.result(record.id) == {"result": 1}

    dispatch(test)


def test_long_lines(dispatch: Dispatch) -> None:
    """A request may have a megabyte; one that is longer is refused, and the connection ends."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        frame = json.dumps({**CALL, "arguments": [""]}).encode()
        text = "x" * ((1 << 20) - len(frame))
        peer.raw(json.dumps({**CALL, "arguments": [text]}).encode() + b"\n")
        job_id = (await peer.receive())["job_id"]
        assert await peer.result(job_id) == {"result": [text]}
        peer.send(cancel=UNKNOWN)
        peer.raw(json.dumps({**CALL, "arguments": [text + "x"]}).encode() + b"\n" + b"y" * 100000)
        assert await peer.receive() == {"cancelled": False}
        assert (await peer.receive())["error"]["type"] == "parse_error"
        assert await peer.rest() == b""

    dispatch(test)


@pytest.mark.parametrize("size", [65534, 65535, 65536, 65537])
def test_lines_of_64_kib(dispatch: Dispatch, size: int) -> None:
    """Values around the size of a buffer come through whole."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        text = ("žluťoučký kůň " * size)[: size - 2]
        played = "".join(
            json.dumps(one, ensure_ascii=False) + "\n"
            for one in ({"harp": 1, "stream_result": True}, {"stream": text}, {"result": text})
        )
        job_id = await peer.call("play", played)
        assert await peer.result(job_id) == {"result": text}
        peer.send(read_stream=job_id)
        assert await peer.stream() == ([(0, text)], {"result": text})

    dispatch(test)


def test_too_deep_arguments(dispatch: Dispatch) -> None:
    """Arguments that could be recorded but not be told again are refused."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        deep: Any = []
        for _ in range(197):
            deep = [deep]
        job_id = await peer.call("echo", *deep)
        assert await peer.result(job_id) == {"result": deep}
        assert (await peer.ask(get_status=job_id))["call"]["arguments"] == deep
        reply = await peer.ask(host="web01", procedure="echo", arguments=[deep])
        assert reply["error"]["type"] == "invalid_request"

    dispatch(test)


def test_chosen_id(dispatch: Dispatch) -> None:
    """A request with the same id is answered with the same job, which runs once."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        chosen = "a3f1c0de-0000-4000-8000-000000000001"
        asked = {"host": "web01", "procedure": "hold", "arguments": {"b": 1, "a": 2}, "id": chosen}
        peers = [await kit.peer() for _ in range(5)]
        replies = await asyncio.gather(*(one.ask(**asked) for one in peers))
        assert replies == [{"harpcaller": 1, "job_id": chosen}] * 5
        call = await kit.host.call()
        assert (await peer.ask(**asked))["job_id"] == chosen
        changes: list[dict[str, Any]] = [
            {"procedure": "echo"},
            {"info": 1},
            {"timeout": 5},
            {"queue": {"name": {}}},
        ]
        for change in changes:
            reply = await peer.ask(**(asked | change))
            assert reply["error"]["type"] == "invalid_request", change
        call.finish(1)
        assert await peer.result(chosen) == {"result": 1}
        assert (await peer.ask(**asked))["job_id"] == chosen
        assert (await peer.ask(**(asked | {"host": "web02"})))["error"]["type"] == "invalid_request"
        assert kit.host.calls == 1
        assert kit.service.dispatcher.store.queues() == []

    dispatch(test)


def test_chosen_id_after_a_reload(dispatch: Dispatch) -> None:
    """A repeated request is the same call though the limits were changed meanwhile."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        plain = {"host": "web01", "procedure": "hold", "arguments": []}
        limits: list[dict[str, Any]] = [
            {},
            {"timeout": 30},
            {"max_exec_time": 100},
            {"timeout": 20, "max_exec_time": 40},
        ]
        asked = [
            plain | limit | {"id": f"a3f1c0de-0000-4000-8000-00000000000{number}"}
            for number, limit in enumerate(limits)
        ]
        for one in asked:
            assert (await peer.ask(**one))["job_id"] == one["id"]
        dispatcher = kit.service.dispatcher
        dispatcher.config = replace(dispatcher.config, default_timeout=30, max_exec_time=50)
        for one in asked:
            assert (await peer.ask(**one))["job_id"] == one["id"]
            for change in limits:
                another = plain | change | {"id": one["id"]}
                if another != one:
                    reply = await peer.ask(**another)
                    assert reply["error"]["type"] == "invalid_request", (one, change)

    dispatch(test, default_timeout=20, max_exec_time=40)


def test_chosen_id_while_stopping(dispatch: Dispatch) -> None:
    """Whoever asks again for a job that is known gets it, though new jobs are refused."""

    async def test(kit: Kit) -> None:
        peer, follower = await kit.peer(), await kit.peer()
        asked = {"host": "web01", "procedure": "hold", "arguments": []}
        chosen = [f"a3f1c0de-0000-4000-8000-00000000000{number}" for number in range(3)]
        assert (await peer.ask(**asked, id=chosen[0]))["job_id"] == chosen[0]
        call = await kit.host.call()
        ended = {"host": "web01", "procedure": "echo", "arguments": [], "id": chosen[1]}
        await peer.ask(**ended)
        assert await peer.result(chosen[1]) == {"result": []}
        follower.send(get_result=chosen[0])
        kit.service.stop(60)
        while not kit.service.dispatcher.stopping:
            await asyncio.sleep(0)
        assert (await peer.ask(**asked, id=chosen[0]))["job_id"] == chosen[0]
        assert (await peer.ask(**ended))["job_id"] == chosen[1]
        assert (await peer.ask(**(ended | {"info": 1})))["error"]["type"] == "invalid_request"
        assert (await peer.ask(**asked, id=chosen[2]))["error"]["type"] == "shutdown"
        assert (await peer.ask(**asked))["error"]["type"] == "shutdown"
        call.finish(1)
        assert await follower.receive() == {"result": 1}

    dispatch(test)


def test_hosts(dispatch: Dispatch) -> None:
    """The names of the registry's hosts can be asked for by a glob."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        assert await peer.ask(hosts="*") == {"hosts": ["web01", "web02"]}
        assert await peer.ask(hosts="*1") == {"hosts": ["web01"]}
        assert await peer.ask(hosts="db*") == {"hosts": []}

    dispatch(test)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NAMES = st.sampled_from(
    [
        "harpcaller",
        "host",
        "procedure",
        "arguments",
        "timeout",
        "max_exec_time",
        "queue",
        "info",
        "id",
        "token",
        "cancel",
        "get_result",
        "wait",
        "get_status",
        "follow_stream",
        "since",
        "recent",
        "read_stream",
        "hosts",
    ]
)
LINES = st.one_of(
    st.binary().map(lambda data: data.replace(b"\n", b" ")),
    st.dictionaries(NAMES, JSON | st.just(UNKNOWN)).map(
        lambda fields: json.dumps({"harpcaller": 1, **fields}).encode()
    ),
)


def test_anything(tmp_path: Path, certificates: Certificates) -> None:
    """Whatever comes, each line gets an answer, and the dispatcher goes on."""
    with asyncio.Runner() as runner:
        stack = dispatching(tmp_path, certificates)
        kit = runner.run(stack.__aenter__())

        async def each(lines: list[bytes]) -> None:
            peer = await kit.peer()
            for line in lines:
                peer.raw(line + b"\n")
            for _ in lines:
                await answered(peer)
            assert await peer.ask(cancel=UNKNOWN) == {"cancelled": False}
            peer.close()

        async def answered(peer: Peer) -> None:
            message = await peer.receive()
            assert message.keys() & {"error", "cancelled", "hosts", "job_id"}, message

        @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(LINES, min_size=1, max_size=5))
        def check(lines: list[bytes]) -> None:
            runner.run(each(lines))

        try:
            check()
        finally:
            runner.run(stack.__aexit__(None, None, None))

"""What travels between the client and the dispatcher, line by line."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.jobs import (
    CALL_CANCELLED,
    CALL_NOT_FINISHED,
    CancelledException,
    CommunicationError,
    InvalidCall,
    RemoteError,
    RemoteException,
)
from tests.jobs.client.conftest import StartLines
from tests.jobs.client.faces import Face, scripted
from tests.jobs.client.scripts import ID, ClassicDispatcher, Hear, Say
from tests.servers import Hold
from tests.servers.scripted import Script

JOB = "3f22e0d4-c8ed-41e5-8d66-001e8c140268"

CALL = {"harpcaller": 1, "host": "web01", "procedure": "restart", "arguments": [], "id": ID}
JOB_ID = {"harpcaller": 1, "job_id": ID}

ID_OF_JOB = "<the job>"

STATUS = {
    "call": {"host": "web01", "procedure": "restart", "arguments": ["nginx", {"now": True}]},
    "time": {"submit": 1_000_000_000, "start": None, "end": None},
    "info": {"why": "Ω"},
}


@scripted
async def test_a_call_and_its_result(face: Face, lines: StartLines) -> None:
    """A job is submitted under an id of the client's, and asked for its result."""
    server = lines(
        [
            Hear(CALL | {"arguments": ["nginx", 5]}),
            Say(JOB_ID),
            Hear({"harpcaller": 1, "get_result": ID_OF_JOB, "wait": True}),
            Say({"result": {"pid": 17}}),
        ]
    )
    server.heard = _same_job(server.heard, server.ids)  # type: ignore[method-assign]
    rpc = face.caller(server)
    job = await face.got(rpc.web01.restart("nginx", 5))
    assert job.id() == server.ids[0]
    assert await face.got(job.get()) == {"pid": 17}
    assert server.connection_count == 1


def _same_job(heard: Any, ids: list[str]) -> Any:
    def rename(message: Any) -> None:
        for name, value in message.items():
            if value in ids and name != "id":
                message[name] = ID_OF_JOB
        heard(message)

    return rename


@scripted
async def test_named_arguments_and_options(face: Face, lines: StartLines) -> None:
    """Options travel with the call, named arguments as an object."""
    call = CALL | {
        "arguments": {"service": "nginx", "delay": 1.5},
        "queue": {"name": {"b": 1, "a": [2]}, "concurrency": 3},
        "timeout": 10,
        "max_exec_time": 15,
        "info": ["for", None],
    }
    server = lines([Hear(call), Say(JOB_ID)])
    rpc = face.caller(server)
    host = rpc.host("web01", queue={"b": 1, "a": [2]}, timeout=10)
    assert host(concurrency=3, max_exec_time=15, info=["for", None]) is host
    await face.got(host.restart(service="nginx", delay=1.5))


@scripted
async def test_options_are_taken_back(face: Face, lines: StartLines) -> None:
    """None takes an option back, and an empty queue name is a name."""
    server = lines(
        [
            Hear(CALL | {"queue": {"name": {}}}),
            Say(JOB_ID),
            Hear(CALL),
            Say(JOB_ID),
        ]
    )
    host = face.caller(server).web01(queue={}, timeout=3)
    host(timeout=None)
    await face.got(host.restart())
    host(queue=None)
    await face.got(host.restart())


@pytest.mark.parametrize(
    ("end", "result", "raised"),
    [
        ({"result": None}, None, None),
        ({"result": 2**80}, 2**80, None),
        ({"cancelled": True}, CALL_CANCELLED, CancelledException),
        (
            {"exception": {"type": "KeyError", "message": "'x'", "data": {"class": "KeyError"}}},
            ("KeyError", "'x'", {"class": "KeyError"}),
            RemoteException,
        ),
        (
            {"error": {"type": "timeout", "message": "too long"}},
            ("timeout", "too long", None),
            RemoteError,
        ),
        (
            {"error": {"type": "invalid_jobid", "message": ""}},
            ("invalid_jobid", "", None),
            RemoteError,
        ),
    ],
)
@scripted
async def test_ends(
    end: Any, result: Any, raised: type[Exception] | None, face: Face, lines: StartLines
) -> None:
    """Each end of a job is what `result` returns and `get` raises."""
    waiting = {"harpcaller": 1, "get_result": JOB, "wait": True}
    asking = {"harpcaller": 1, "get_result": JOB, "wait": False}
    server = lines([Hear(waiting), Say(end), Hear(asking), Say(end), Hear(asking), Say(end)])
    job = face.caller(server).job(JOB)
    found = [await face.got(job.result(wait=True)), await face.got(job.result())]
    if raised is not None:
        with pytest.raises(raised):
            await face.got(job.get(wait=False))
    else:
        assert await face.got(job.get(wait=False)) == result
    for one in found:
        if isinstance(one, (RemoteException, RemoteError)):
            assert type(one) is raised
            assert (one.type, one.message, one.data) == result
            assert str(one) == f"{one.type}: {one.message}"
        else:
            assert one == result


@scripted
async def test_not_finished(face: Face, lines: StartLines) -> None:
    """A job that still runs has no result yet."""
    asking = {"harpcaller": 1, "get_result": JOB, "wait": False}
    server = lines([Hear(asking), Say({"no_result": True})] * 2)
    job = face.caller(server).job(JOB)
    assert await face.got(job.result()) is CALL_NOT_FINISHED
    assert await face.got(job.get(wait=False)) is CALL_NOT_FINISHED


@scripted
async def test_status(face: Face, lines: StartLines) -> None:
    """What never changes is asked once, what may have changed is asked again."""
    asking = Hear({"harpcaller": 1, "get_status": JOB})
    started = STATUS | {"time": {"submit": 1_000_000_000, "start": 1_000_000_001, "end": None}}
    ended = STATUS | {
        "time": {"submit": 1_000_000_000, "start": 1_000_000_001, "end": 1_000_000_002}
    }
    server = lines(
        [asking, Say(STATUS), asking, Say(STATUS), asking, Say(started), asking, Say(ended)]
    )
    job = face.caller(server).job(JOB)
    assert await face.got(job.host()) == "web01"
    assert await face.got(job.procedure()) == "restart"
    assert await face.got(job.args()) == ["nginx", {"now": True}]
    assert await face.got(job.info()) == {"why": "Ω"}
    assert await face.got(job.submit_time()) == 1_000_000_000
    assert len(server.messages) == 1
    assert await face.got(job.start_time()) is None
    assert await face.got(job.start_time()) == 1_000_000_001
    assert await face.got(job.end_time()) == 1_000_000_002
    assert await face.got(job.end_time()) == 1_000_000_002
    assert len(server.messages) == 4


@scripted
async def test_status_of_nobody(face: Face, lines: StartLines) -> None:
    """A job that is not known is an error of the dispatcher's."""
    reply = {"error": {"type": "invalid_jobid", "message": "no job", "data": [1]}}
    server = lines([Hear({"harpcaller": 1, "get_status": "x"}), Say(reply)])
    with pytest.raises(RemoteError) as caught:
        await face.got(face.caller(server).job("x").host())
    assert (caught.value.type, caught.value.message, caught.value.data) == (
        "invalid_jobid",
        "no job",
        [1],
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"call": None},
        {"time": []},
        {"call": {"host": "h", "procedure": "p"}},
        {"call": {"host": 1, "procedure": "p", "arguments": []}},
        {"call": {"host": "h", "procedure": None, "arguments": []}},
        {"time": {"submit": None, "start": None, "end": None}},
        {"time": {"submit": 1, "start": True, "end": None}},
        {"time": {"submit": 1, "start": 1.5, "end": None}},
    ],
    ids=str,
)
@scripted
async def test_a_malformed_status(wrong: Any, face: Face, lines: StartLines) -> None:
    """A status that lacks something is no status."""
    server = lines([Say(STATUS | wrong)])
    with pytest.raises(CommunicationError, match="malformed"):
        await face.got(face.caller(server).job(JOB).host())


@pytest.mark.parametrize("stopped", [True, False])
@scripted
async def test_cancel(stopped: bool, face: Face, lines: StartLines) -> None:
    """Cancelling tells whether there was something to cancel."""
    server = lines([Hear({"harpcaller": 1, "cancel": JOB}), Say({"cancelled": stopped})])
    assert await face.got(face.caller(server).job(JOB).cancel()) is stopped


@scripted
async def test_a_refused_call(face: Face, lines: StartLines) -> None:
    """A dispatcher that refuses a call says why; other types than invalid_request are final."""
    reply = {"error": {"type": "access_denied", "message": "not yours"}}
    server = lines([Hear(CALL), Say(reply)])
    with pytest.raises(RemoteError, match="access_denied: not yours"):
        await face.got(face.caller(server).web01.restart())


@scripted
async def test_a_call_that_is_wrong_in_every_way(face: Face, lines: StartLines) -> None:
    """A call that is refused with and without an id was refused for itself."""
    reply = {"error": {"type": "invalid_request", "message": "arguments are too many"}}
    plain = {name: value for name, value in CALL.items() if name != "id"}
    # Without an id it could not be repeated, so that it needs a connection that is surely open.
    with_id: Script = [Hear(CALL), Say(reply)]
    without: Script = [Hear(plain), Say(reply)]
    server = lines(with_id, without, with_id, without)
    rpc = face.caller(server)
    for _ in range(2):  # nothing is concluded about the dispatcher
        with pytest.raises(RemoteError, match="arguments are too many"):
            await face.got(rpc.web01.restart())


@scripted
async def test_any_request(face: Face, lines: StartLines) -> None:
    """A request of one's own is sent as it is, and its reply is returned as it is."""
    reply = {"error": {"type": "invalid_request", "message": "what?"}}
    server = lines([Hear({"harpcaller": 1, "brew": "tea"}), Say(reply)])
    assert await face.got(face.caller(server).request({"harpcaller": 1, "brew": "tea"})) == reply


@scripted
async def test_a_request_with_more_replies(face: Face, lines: StartLines) -> None:
    """What comes after the first reply to a request of one's own is no reply to the next."""
    packet = {"packet": 0, "data": 0}
    ask = Hear({"harpcaller": 1, "get_status": JOB})
    follow = {"harpcaller": 1, "follow_stream": JOB}
    server = lines([Hear(follow), Say(packet), Hold()], [ask, Say(STATUS)])
    rpc = face.caller(server)
    assert await face.got(rpc.request(follow)) == packet
    assert await face.got(rpc.job(JOB).host()) == "web01"
    assert server.connection_count == 2


@scripted
async def test_any_name_of_an_argument(
    face: Face, lines: StartLines, refusing: tuple[str, int]
) -> None:
    """Arguments may have any names, also those that our own parameters have."""
    named = {"self": 1, "args": 2, "procedure": 3}
    rpc = face.caller(lines([Hear(CALL | {"arguments": named}), Say(JOB_ID)]))
    await face.got(rpc.web01.restart(**named))
    assert await face.all(rpc.group([]).restart(**named)) == []
    with pytest.raises(CommunicationError):
        await face.got(face.server(refusing).restart(**named))


@scripted
async def test_a_connection_of_ones_own(face: Face, lines: StartLines) -> None:
    """A connection to the dispatcher carries any messages, both ways."""
    server = lines([Say("hello"), Hear(["Ω", 2**70]), Say({"got": True}, None)])
    connection = await face.got(face.caller(server).connect())
    assert await face.got(connection.receive()) == "hello"
    await face.got(connection.send(("Ω", 2**70)))
    assert await face.got(connection.receive()) == {"got": True}
    assert await face.got(connection.receive()) is None
    with pytest.raises(CommunicationError, match="closed the connection"):
        await face.got(connection.receive())
    with pytest.raises(CommunicationError, match="the connection is closed"):
        await face.got(connection.send(1))


@scripted
async def test_tokens(face: Face, lines: StartLines) -> None:
    """Every request carries the token, when there is one."""
    token = {"token": "t0ken"}
    since = {"harpcaller": 1, "follow_stream": JOB, "since": 0}
    server = lines(
        [
            Hear(CALL | token),
            Say(JOB_ID),
            Hear({"harpcaller": 1, "get_status": JOB} | token),
            Say(STATUS),
            Hear({"harpcaller": 1, "cancel": JOB} | token),
            Say({"cancelled": True}),
            Hear({"harpcaller": 1, "get_result": JOB, "wait": True} | token),
            Say({"cancelled": True}),
            Hear(since | token),
            Say({"cancelled": True}),
            Hear({"harpcaller": 1, "x": 1} | token),
            Say({}),
        ]
    )
    rpc = face.caller(server, token="t0ken")
    await face.got(rpc.web01.restart())
    job = rpc.job(JOB)
    await face.got(job.host())
    await face.got(job.cancel())
    await face.got(job.result(wait=True))
    assert await face.all(job.follow(since=0)) == []
    assert await face.got(rpc.request({"harpcaller": 1, "x": 1})) == {}
    assert "t0ken" not in repr(rpc)


@scripted
async def test_a_classic_dispatcher(face: Face, classic: ClassicDispatcher) -> None:
    """A dispatcher that knows no ids is asked without, from the second call on at once."""
    rpc = face.caller(classic)
    jobs = [await face.got(rpc.web01.echo(number)) for number in range(3)]
    assert [job.id() for job in jobs] == ["job-0", "job-1", "job-2"]
    assert [await face.got(job.get()) for job in jobs] == [[0], [1], [2]]
    calls = [message for message in classic.messages if "procedure" in message]
    assert ["id" in call for call in calls] == [True, False, False, False]
    assert len(classic.jobs) == 3


@scripted
async def test_a_dispatcher_that_ignores_ids(face: Face, lines: StartLines) -> None:
    """A dispatcher that gives a job another id than the chosen one is not trusted with ids."""
    plain = {name: value for name, value in CALL.items() if name != "id"}
    server = lines(
        [Hear(CALL), Say({"harpcaller": 1, "job_id": "a"})],
        [Hear(plain), Say({"harpcaller": 1, "job_id": "b"})],
    )
    rpc = face.caller(server)
    assert (await face.got(rpc.web01.restart())).id() == "a"
    assert (await face.got(rpc.web01.restart())).id() == "b"


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": True},
        {"timeout": 1.5},
        {"max_exec_time": -1},
        {"max_exec_time": "1"},
        {"concurrency": 0},
        {"queue": "name"},
    ],
)
@scripted
async def test_wrong_options(wrong: dict[str, Any], face: Face, lines: StartLines) -> None:
    """Options that the dispatcher would refuse are refused at once."""
    rpc = face.caller(lines([]))
    with pytest.raises(InvalidCall, match=next(iter(wrong))):
        rpc.web01(**wrong)


@scripted
async def test_wrong_calls(face: Face, lines: StartLines) -> None:
    """What makes no call is refused before anything is sent."""
    server = lines([])
    rpc = face.caller(server)
    with pytest.raises(InvalidCall, match="not both"):
        await face.got(rpc.web01.restart(1, x=2))
    with pytest.raises(InvalidCall, match="JSON can carry"):
        await face.got(rpc.web01.restart(float("nan")))
    with pytest.raises(InvalidCall, match="give queue"):
        await face.got(rpc.web01(concurrency=2).restart())
    with pytest.raises(TypeError, match="color"):
        rpc.web01(color="red")
    with pytest.raises(InvalidCall, match="both"):
        face.caller(server).job(JOB).follow(since=1, recent=1)
    for wrong in (-1, True, 1.0, "1"):
        with pytest.raises(InvalidCall, match="since"):
            rpc.job(JOB).stream(since=wrong)
    with pytest.raises(InvalidCall):
        rpc.host("")
    with pytest.raises(InvalidCall):
        rpc.job(None)
    with pytest.raises(InvalidCall):
        await face.got(rpc.request([1]))
    assert server.connection_count == 0

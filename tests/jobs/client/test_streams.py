"""Streams: read, followed, taken up again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import Event, Policy
from holdfast.jobs import CommunicationError, RemoteError
from holdfast.testing import instant
from tests.jobs.client.conftest import StartLines
from tests.jobs.client.faces import Face, scripted
from tests.jobs.client.scripts import Hear, HearEnd, LineServer, Say
from tests.jobs.client.test_exchanges import JOB, STATUS
from tests.servers import Close, Hold, Reset, Send
from tests.servers.scripted import Script

END = {"result": None}
GO_ON = {"continue": True}
UNKNOWN = {"error": {"type": "invalid_jobid", "message": "no such job"}}


def packets(start: int, end: int) -> list[dict[str, Any]]:
    """Return messages of packets, each with the square of its number."""
    return [{"packet": number, "data": number**2} for number in range(start, end)]


def follow(since: int) -> Hear:
    """Hear that a stream is followed from a packet on."""
    return Hear({"harpcaller": 1, "follow_stream": JOB, "since": since})


def read(**start: int) -> Hear:
    """Hear that a stream is read."""
    return Hear({"harpcaller": 1, "read_stream": JOB, **start})


@pytest.mark.parametrize(
    "end",
    [
        END,
        {"exception": {"type": "E", "message": ""}},
        {"cancelled": True},
        {"error": {"type": "missing_result", "message": "job interrupted abruptly"}},
    ],
)
@scripted
async def test_follow_to_the_end(end: Any, face: Face, lines: StartLines) -> None:
    """A stream is followed to the end of its job, whatever that is."""
    server = lines([follow(0), Say(*packets(0, 3), end), follow(2), Say(*packets(2, 3), end)])
    job = face.caller(server).job(JOB)
    assert await face.all(job.follow(since=0)) == [0, 1, 4]
    assert await face.all(job.follow(since=2, numbered=True)) == [(2, 4)]
    assert server.connection_count == 1


@scripted
async def test_follow_from_now_on(face: Face, lines: StartLines) -> None:
    """Without a start, the stream is that from now on: the number of packets is asked first."""
    server = lines(
        [read(recent=1), Say(*packets(6, 7), GO_ON), follow(7), Say(*packets(7, 9), END)]
    )
    job = face.caller(server).job(JOB)
    assert await face.all(job.follow(numbered=True)) == [(7, 49), (8, 64)]


@pytest.mark.parametrize("recent", [0, None])
@scripted
async def test_follow_from_the_beginning_of_all(
    recent: int | None, face: Face, lines: StartLines
) -> None:
    """A stream that has no packet yet is followed from its first one on."""
    server = lines([read(recent=1), Say(GO_ON), follow(0), Say(*packets(0, 2), END)])
    assert await face.all(face.caller(server).job(JOB).follow(recent=recent)) == [0, 1]


@scripted
async def test_follow_recent_packets(face: Face, lines: StartLines) -> None:
    """Recent packets come first, then those that follow them."""
    server = lines(
        [read(recent=2), Say(*packets(5, 7), GO_ON), follow(7), Say(*packets(7, 8), END)]
    )
    assert await face.all(face.caller(server).job(JOB).follow(recent=2)) == [25, 36, 49]


@pytest.mark.parametrize(("recent", "found"), [(0, []), (2, [25, 36])])
@scripted
async def test_follow_what_has_ended(
    recent: int, found: list[int], face: Face, lines: StartLines
) -> None:
    """A job that has ended has only recent packets."""
    server = lines([read(recent=max(recent, 1)), Say(*packets(7 - max(recent, 1), 7), END)])
    assert await face.all(face.caller(server).job(JOB).follow(recent=recent)) == found


@pytest.mark.parametrize("end", [END, GO_ON])
@scripted
async def test_read(end: Any, face: Face, lines: StartLines) -> None:
    """Reading a stream ends with what there is, whether or not the job has ended."""
    server = lines(
        [
            *(read(since=0), Say(*packets(0, 2), end)),
            *(read(since=1), Say(*packets(1, 2), end)),
            *(read(recent=1), Say(*packets(1, 2), end)),
            *(read(recent=0), Say(end)),
            *(read(since=9), Say(end)),
        ]
    )
    job = face.caller(server).job(JOB)
    assert await face.all(job.stream()) == [0, 1]
    assert await face.all(job.stream(since=1, numbered=True)) == [(1, 1)]
    assert await face.got(job.stream(recent=1).all()) == [1]
    assert await face.all(job.stream(recent=0)) == []
    assert await face.all(job.stream(since=9)) == []
    assert server.connection_count == 1


@scripted
async def test_an_iterator_is_over_once(face: Face, lines: StartLines) -> None:
    """An iterator that has ended stays so, without asking again."""
    server = lines([read(since=0), Say(*packets(0, 1), END)])
    iterator = face.caller(server).job(JOB).stream()
    assert await face.all(iterator) == [0]
    assert await face.all(iterator) == []
    assert len(server.messages) == 1


@pytest.mark.parametrize("last", [Close(), Reset()], ids=str)
@pytest.mark.parametrize("tail", [b"", b'{"packet": 2, "da'], ids=["between", "within"])
@scripted
async def test_a_lost_stream_goes_on(last: Any, tail: bytes, face: Face, lines: StartLines) -> None:
    """A stream whose connection breaks goes on at the next packet, however often."""
    server = lines(
        [follow(0), Say(*packets(0, 2)), Send(tail), Hold(_quick()), last],
        [Close()],
        [follow(2), Hold(_quick()), last],
        [follow(2), Say(*packets(2, 5)), Send(tail), Hold(_quick()), Close()],
        [follow(5), Say(*packets(5, 6), END)],
    )
    iterator = face.caller(server).job(JOB).follow(since=0, numbered=True)
    found = [await face.next(iterator), await face.next(iterator)]
    found += await face.all(iterator)
    assert found[:2] == [(0, 0), (1, 1)]
    # A reset may destroy what has not been read yet, and then it is asked for again.
    assert found == [(number, number**2) for number in range(6)]


def _quick() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@scripted
async def test_a_lost_stream_goes_on_elsewhere(face: Face, lines: StartLines) -> None:
    """A stream goes on at another dispatcher of the list that knows the job."""
    first = lines([follow(0), Say(*packets(0, 2)), Close()], [Close()])
    second = lines([follow(2), Say(*packets(2, 4), END)])
    job = face.caller(first, second).job(JOB)
    assert await face.all(job.follow(since=0)) == [0, 1, 4, 9]


@scripted
async def test_a_lost_stream_comes_back_home(face: Face, lines: StartLines) -> None:
    """Where no other dispatcher knows the job, its own is asked until it is back."""
    first = lines(
        [follow(0), Say(*packets(0, 2)), Close()],
        *[[Close()]] * 4,
        [follow(2), Say(*packets(2, 4), END)],
    )
    second = lines([follow(2), Say(UNKNOWN)])
    job = face.caller(first, second).job(JOB)
    with instant():
        assert await face.all(job.follow(since=0)) == [0, 1, 4, 9]
    assert len(second.messages) == 1


@scripted
async def test_a_stream_from_now_on_is_taken_up(face: Face, lines: StartLines) -> None:
    """A stream from now on that breaks before its first packet loses none that came meanwhile."""
    server = lines(
        [read(recent=1), Close()],
        [read(recent=1), Say(*packets(2, 3)), Close()],
        [read(since=3), Say(*packets(3, 5), GO_ON), follow(5), Close()],
        [follow(5), Say(*packets(5, 6), END)],
    )
    assert await face.all(face.caller(server).job(JOB).follow()) == [9, 16, 25]


@scripted
async def test_a_read_is_taken_up(face: Face, lines: StartLines) -> None:
    """Reading goes on where it broke off, also from recent packets."""
    server = lines(
        [read(recent=3), Close()],
        [read(recent=3), Say(*packets(4, 6)), Close()],
        [read(since=6), Say(*packets(6, 7), GO_ON)],
    )
    assert await face.all(face.caller(server).job(JOB).stream(recent=3)) == [16, 25, 36]


@scripted
async def test_a_silent_stream_is_asked_anew(face: Face, lines: StartLines) -> None:
    """A stream that is silent for long is asked for over another connection."""
    server = lines([follow(0), Say(*packets(0, 1)), Hold()], [follow(1), Say(*packets(1, 2), END)])
    job = face.caller(server, patience=0.05).job(JOB)
    assert await face.all(job.follow(since=0)) == [0, 1]


@scripted
async def test_a_stream_that_is_lost_for_good(face: Face, lines: StartLines) -> None:
    """A stream that cannot be taken up is an error, and not an end."""
    server = lines([follow(0), Say(*packets(0, 1)), Close()], [Close()])
    iterator = face.caller(server, reconnect=0.2).job(JOB).follow(since=0)
    assert await face.next(iterator) == 0
    with pytest.raises(CommunicationError):
        await face.next(iterator)


@scripted
async def test_a_dispatcher_that_is_started_again(face: Face, lines: StartLines) -> None:
    """A stream goes on when its dispatcher is back that was not there at all."""
    server = lines([follow(0), Say(*packets(0, 2)), Hold()], [follow(2), Say(*packets(2, 4), END)])
    failed: list[str] = []

    def listener(event: Event) -> None:
        if event.kind == "call failed":
            failed.append(event.kind)
            if len(failed) == 3:
                server.start()

    job = face.caller(server, listeners=[listener]).job(JOB)
    iterator = job.follow(since=0)
    assert [await face.next(iterator), await face.next(iterator)] == [0, 1]
    server.stop()
    with instant():
        assert await face.all(iterator) == [4, 9]
    assert len(failed) >= 3


@pytest.mark.parametrize("wait", ["follow", "get"])
@scripted
async def test_a_wait_that_begins_while_it_is_down(
    wait: str, face: Face, lines: StartLines
) -> None:
    """Who begins to wait while a dispatcher is down that was there before waits for it, too."""
    rest: Script = [follow(0), Say(*packets(0, 2), END)]
    if wait == "get":
        rest = [RESULT, Say({"result": [0, 1]})]
    server = lines([ASK, Say(STATUS)], rest)
    failed: list[str] = []

    def listener(event: Event) -> None:
        if event.kind == "call failed":
            failed.append(event.kind)
            if len(failed) == 5:
                server.start()

    policy = Policy(timeout=None, limit=None, breaker=None)
    rpc = face.caller(server, listeners=[listener], policy=policy)
    assert await face.got(rpc.job(JOB).host()) == "web01"
    server.stop()
    job = rpc.job(JOB)
    with instant():
        if wait == "get":
            assert await face.got(job.get()) == [0, 1]
        else:
            assert await face.all(job.follow(since=0)) == [0, 1]
    assert len(failed) == 5


@scripted
async def test_a_dispatcher_that_never_was_there(face: Face, refusing: tuple[str, int]) -> None:
    """A dispatcher that was never reached is not waited for: its address may be wrong."""
    failed: list[Event] = []
    job = face.caller(refusing, listeners=[failed.append]).job(JOB)
    with pytest.raises(CommunicationError):
        await face.all(job.follow(since=0))
    assert [event.kind for event in failed].count("call failed") == 1


@scripted
async def test_a_kept_connection_that_breaks(face: Face, lines: StartLines) -> None:
    """A kept connection that breaks at the next request is none that was lost."""
    server = lines([ASK, Say(STATUS), follow(0), Close()], [follow(0), Say(*packets(0, 2), END)])
    rpc = face.caller(server, lines([]), reconnect=0)
    assert await face.got(rpc.job(JOB).host()) == "web01"
    assert await face.all(rpc.job(JOB).follow(since=0)) == [0, 1]


@scripted
async def test_a_dispatcher_that_is_gone(face: Face, lines: StartLines) -> None:
    """A stream whose dispatcher does not come back in time is an error that says so."""
    server = lines([follow(0), Say(*packets(0, 1)), Hold()])
    iterator = face.caller(server, reconnect=0.2).job(JOB).follow(since=0)
    assert await face.next(iterator) == 0
    server.stop()
    with pytest.raises(CommunicationError, match="follow_stream") as caught:
        await face.next(iterator)
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__ is not caught.value


@pytest.mark.parametrize("mode", ["follow", "stream"])
@scripted
async def test_the_stream_of_nobody(mode: str, face: Face, lines: StartLines) -> None:
    """The stream of a job that no dispatcher knows is an error."""
    hear = follow(0) if mode == "follow" else read(since=0)
    servers = [lines([hear, Say(UNKNOWN)]) for _ in range(2)]
    job = face.caller(*servers).job(JOB)
    with pytest.raises(RemoteError, match="no such job"):
        await face.all(getattr(job, mode)(since=0))


REFUSALS = ["access_denied", "auth_error", "invalid_request", "parse_error", "system_error"]

ASK = Hear({"harpcaller": 1, "get_status": JOB})


@pytest.mark.parametrize("type", REFUSALS)
@scripted
async def test_a_stream_that_is_refused(type: str, face: Face, lines: StartLines) -> None:
    """A stream that the dispatcher refuses is an error, and not an empty stream."""
    refused = {"error": {"type": type, "message": "not yours"}}
    server = lines([read(recent=1), Say(refused), ASK, Say(refused)])
    with pytest.raises(RemoteError, match=f"{type}: not yours"):
        await face.all(face.caller(server, lines([])).job(JOB).follow())


@pytest.mark.parametrize("type", [*REFUSALS, "shutdown", "no_such_procedure"])
@pytest.mark.parametrize("mode", ["follow", "stream"])
@scripted
async def test_a_job_that_ended_at_once_as_if_refused(
    mode: str, type: str, face: Face, lines: StartLines
) -> None:
    """What a host refuses is the end of its job, not of the request for its stream."""
    end = {"error": {"type": type, "message": "said the host"}}
    hear = follow(0) if mode == "follow" else read(since=0)
    status: Script = [ASK, Say(ENDED)] if type in REFUSALS else []
    server = lines([hear, Say(end), *status, RESULT, Say(end)])
    job = face.caller(server).job(JOB)
    assert await face.all(getattr(job, mode)(since=0)) == []
    assert (await face.got(job.result(wait=True))).type == type


RESULT = Hear({"harpcaller": 1, "get_result": JOB, "wait": True})

ENDED = {**STATUS, "time": {"submit": 1, "start": 1, "end": 2}}


@scripted
async def test_a_dispatcher_that_fails(face: Face, lines: StartLines) -> None:
    """A dispatcher that cannot tell of a job, which still runs, has not told its end."""
    failed = {"error": {"type": "system_error", "message": "see the log"}}
    server = lines([follow(0), Say(failed), ASK, Say(STATUS)])
    with pytest.raises(RemoteError, match="system_error"):
        await face.all(face.caller(server).job(JOB).follow(since=0))


@scripted
async def test_the_stream_of_another_dispatcher(face: Face, lines: StartLines) -> None:
    """A stream is found at the dispatcher that has the job."""
    first = lines([follow(0), Say(UNKNOWN)])
    second = lines([follow(0), Say(*packets(0, 2), END)])
    assert await face.all(face.caller(first, second).job(JOB).follow(since=0)) == [0, 1]


@scripted
async def test_a_job_that_is_pruned(face: Face, lines: StartLines) -> None:
    """A stream whose job is gone meanwhile is an error, and not an end."""
    server = lines([follow(0), Say(*packets(0, 2), UNKNOWN)])
    iterator = face.caller(server).job(JOB).follow(since=0)
    assert [await face.next(iterator), await face.next(iterator)] == [0, 1]
    with pytest.raises(RemoteError, match="no such job"):
        await face.next(iterator)


@scripted
async def test_a_job_that_ended_as_if_refused(face: Face, lines: StartLines) -> None:
    """An error after packets is the job's end, whatever its type."""
    end = {"error": {"type": "invalid_request", "message": "said the host"}}
    server = lines([follow(0), Say(*packets(0, 2), end)])
    assert await face.all(face.caller(server).job(JOB).follow(since=0)) == [0, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"packet": 3, "data": 0},
        {"packet": 0, "data": 0},
        {"packet": -1, "data": 0},
        {"packet": True, "data": 0},
        {"packet": 2.0, "data": 0},
        {"packet": 2},
        {"packet": 2, "data": 0, "more": 1},
        {"continue": False},
        {"cancelled": False},
        {"result": 1, "cancelled": True},
        {"error": "x"},
        {"error": {"type": 1, "message": "x"}},
        {"exception": {"type": "x"}},
        {"exception": {"type": "x", "message": "y", "more": 1}},
        {},
        [],
        None,
        7,
    ],
    ids=repr,
)
@scripted
async def test_malformed_packets(wrong: Any, face: Face, lines: StartLines) -> None:
    """What is no packet in its place and no end is an error, after the packets before it."""
    server = lines([follow(0), Say(*packets(0, 2), wrong, *packets(3, 4), END)])
    iterator = face.caller(server).job(JOB).follow(since=0)
    assert [await face.next(iterator), await face.next(iterator)] == [0, 1]
    with pytest.raises(CommunicationError, match="malformed"):
        await face.next(iterator)


@scripted
async def test_leaving_a_stream_closes_its_connection(face: Face, lines: StartLines) -> None:
    """Who leaves a stream before its end closes the connection; the job goes on."""
    closed = threading.Event()
    server = lines([follow(0), Say(*packets(0, 2)), HearEnd(closed)])
    job = face.caller(server).job(JOB)
    iterator = job.follow(since=0)
    assert await face.next(iterator) == 0
    await face.close(iterator)
    assert await face.all(iterator) == []
    assert await asyncio.to_thread(closed.wait, 10)
    closed.clear()
    server = lines([follow(0), Say(*packets(0, 2)), HearEnd(closed)])
    iterator = face.caller(server).job(JOB).follow(since=0)
    assert await face.next(iterator) == 0
    del iterator
    assert await asyncio.to_thread(closed.wait, 10)


@scripted
async def test_streams_as_context_managers(face: Face, lines: StartLines) -> None:
    """A stream is asked for when its context is entered, and closed when that is left."""
    closed = threading.Event()
    server = lines([follow(0), Say(*packets(0, 2)), HearEnd(closed)])
    stream = face.caller(server).job(JOB).follow(since=0)
    if face.blocks:
        with stream:
            assert next(stream) == 0
    else:
        async with stream:
            server.wait_for(lambda: len(server.messages) == 1)
            assert await anext(stream) == 0
    assert await asyncio.to_thread(closed.wait, 10)


@scripted
async def test_an_iterator_over_a_connection(face: Face, lines: StartLines) -> None:
    """An iterator takes a connection on which the stream was asked for, and takes it up alone."""
    server = lines([follow(4), Say(*packets(4, 6)), Close()], [follow(6), Say(*packets(6, 7), END)])
    job = face.caller(server).job(JOB)
    connection = await face.got(face.caller(server).connect())
    await face.got(connection.send({"harpcaller": 1, "follow_stream": JOB, "since": 4}))
    assert await face.all(job.StreamIterator(job, connection, numbered=True)) == [
        (4, 16),
        (5, 25),
        (6, 36),
    ]
    with pytest.raises(CommunicationError):
        job.StreamIterator(job, connection)


@scripted
async def test_an_iterator_over_a_lost_connection(face: Face, lines: StartLines) -> None:
    """A stream of which nothing is known yet cannot be taken up, and says so."""
    server = lines([Hear({"harpcaller": 1, "follow_stream": JOB}), Close()])
    job = face.caller(server).job(JOB)
    connection = await face.got(face.caller(server).connect())
    await face.got(connection.send({"harpcaller": 1, "follow_stream": JOB}))
    with pytest.raises(CommunicationError, match="before the first packet"):
        await face.all(job.StreamIterator(job, connection))


@scripted
async def test_many_packets_in_odd_pieces(face: Face, lines: StartLines) -> None:
    """Packets come out one by one, however they were cut on their way."""
    data = "".join(f'{{"packet": {n}, "data": "{"Ω" * (n % 50)}"}}\n' for n in range(3000))
    stream = data.encode() + b'{"result": 0}\n'
    cut: Script = [Send(stream[at : at + 997]) for at in range(0, len(stream), 997)]
    server = lines([follow(0), *cut])
    found = await face.all(face.caller(server).job(JOB).follow(since=0))
    assert found == ["Ω" * (n % 50) for n in range(3000)]


@scripted
async def test_asking_while_following(face: Face, lines: StartLines) -> None:
    """A stream has its connection for itself, so that others may ask beside it."""
    ask = Hear({"harpcaller": 1, "get_status": JOB})
    server = lines([follow(0), Say(*packets(0, 1)), Hold()], [ask, Say(STATUS)])
    job = face.caller(server).job(JOB)
    iterator = job.follow(since=0)
    assert await face.next(iterator) == 0
    assert await face.got(job.host()) == "web01"
    await face.close(iterator)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(breaks=st.lists(st.integers(0, 120), max_size=5))
@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_streams_cut_anywhere(kind: str, breaks: list[int]) -> None:
    """Wherever its connections are cut, no packet of a stream is lost, none comes twice."""
    total = 8

    class Cut(LineServer):
        """A dispatcher that closes each connection after some bytes, but for the last."""

        def serve(self, connection: Any) -> None:
            request: dict[str, Any] = {}
            Hear(_Any(request)).play(connection)
            stream = b"".join(
                b'{"packet":%d,"data":[%d]}\n' % (number, number)
                for number in range(request["since"], total)
            )
            stream += b'{"result":null}\n'
            if connection.number < len(breaks):
                stream = stream[: breaks[connection.number]]
            connection.send(stream)

    @scripted
    async def test(face: Face) -> None:
        with Cut(()) as server:
            found = await face.all(face.caller(server).job(JOB).follow(since=0, numbered=True))
            assert found == [(number, [number]) for number in range(total)]

    with instant():
        test(face=Face(kind))


class _Any:
    """Equals every message, and copies it."""

    def __init__(self, into: dict[str, Any]) -> None:
        self._into = into

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, dict)
        self._into.update(other)
        return True

    __hash__ = None  # type: ignore[assignment]

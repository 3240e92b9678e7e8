"""Connections that break at every stage, dispatchers that fail, and what is asked again."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from holdfast import Policy, deadline
from holdfast.errors import CertificateError, CircuitOpenError, TooLarge
from holdfast.jobs import (
    CommunicationError,
    CommunicationTimeout,
    HarpException,
    RemoteError,
)
from holdfast.policy import Breaker, Retry
from holdfast.testing import instant
from tests.faults import Fault
from tests.jobs.client.conftest import StartLines
from tests.jobs.client.faces import Face, scripted
from tests.jobs.client.scripts import ID, ClassicDispatcher, Hear, Say
from tests.jobs.client.test_exchanges import CALL, JOB, JOB_ID, STATUS
from tests.servers import Close, Hold, Reset, Send
from tests.servers.certificates import Certificates
from tests.servers.fixtures import StartFaultProxy
from tests.servers.scripted import Script

PLAIN = {name: value for name, value in CALL.items() if name != "id"}

ONCE = Policy(timeout=None, limit=None, breaker=None, retry=None)

BROKEN: list[Script] = [
    [Hear(CALL), Close()],
    [Hear(CALL), Reset()],
    [Hear(CALL), Send(b'{"harpcaller": 1, "job_i'), Close()],
    [Hear(CALL), Send(b'{"harpcaller": 1, "job_i'), Reset()],
    [Hear(CALL), Send(b"garbage\n")],
    [Hear(CALL), Send(b"[]\n")],
    [Hear(CALL), Send(b'{"harpcaller": 1, "job_id": 7}\n')],
]


@pytest.mark.parametrize("broken", [[Close()], [Reset()], *BROKEN], ids=str)
@scripted
async def test_a_broken_call_is_asked_again_with_its_id(
    broken: Script, face: Face, lines: StartLines
) -> None:
    """Whatever breaks, the call is repeated under the same id."""
    server = lines(broken, broken, [Hear(CALL), Say(JOB_ID)])
    job = await face.got(face.caller(server).web01.restart())
    assert set(server.ids) == {job.id()}


@pytest.mark.parametrize("broken", BROKEN, ids=str)
@scripted
async def test_a_call_that_was_sent_stays_where_it_is(
    broken: Script, face: Face, lines: StartLines
) -> None:
    """A call that may have been carried out is repeated at the same dispatcher, at no other."""
    server, other = lines(broken, broken, [Hear(CALL), Say(JOB_ID)]), lines([])
    job = await face.got(face.caller(server, other).web01.restart())
    assert set(server.ids) == {job.id()}
    assert other.connection_count == 0


@pytest.mark.parametrize("broken", BROKEN, ids=str)
@scripted
async def test_a_call_that_is_lost(broken: Script, face: Face, lines: StartLines) -> None:
    """A call that may have been carried out says so, and under which id."""
    server, other = lines(broken), lines([])
    with pytest.raises(CommunicationError) as caught:
        await face.got(face.caller(server, other).web01.restart())
    assert caught.value.sent
    assert caught.value.job_id in server.ids
    assert len(set(server.ids)) == 1
    assert len(caught.value.attempts) == 3
    assert "3 attempts" in str(caught.value)
    assert other.connection_count == 0


@scripted
async def test_shared_stores(face: Face, lines: StartLines) -> None:
    """Dispatchers that share a store know each other's ids, so another one may be asked."""
    first, second = lines([Hear(CALL), Close()]), lines([Hear(CALL), Say(JOB_ID)])
    job = await face.got(face.caller(first, second, shared=True).web01.restart())
    assert first.ids == second.ids == [job.id()]


@scripted
async def test_a_classic_call_is_never_repeated(face: Face, lines: StartLines) -> None:
    """A call without an id that may have been carried out is not repeated anywhere."""
    refused = {"error": {"type": "invalid_request", "message": "id?"}}
    first = lines([Hear(CALL), Say(refused)], [Hear(PLAIN), Close()], [])
    second = lines([])
    with pytest.raises(CommunicationError, match="may have been carried out") as caught:
        await face.got(face.caller(first, second).web01.restart())
    assert caught.value.sent
    assert caught.value.job_id is None
    assert first.connection_count == 2
    assert second.connection_count == 0


@scripted
async def test_a_classic_call_is_repeated_where_it_was_refused(
    face: Face, lines: StartLines, refusing: tuple[str, int]
) -> None:
    """A call that certainly was not carried out goes to the next dispatcher, ids or not."""
    with ClassicDispatcher() as classic:
        rpc = face.caller(refusing, classic)
        for _ in range(2):
            await face.got(rpc.web01.restart())
        assert len(classic.jobs) == 2


@pytest.mark.parametrize("type", ["shutdown", "os_error"])
@scripted
async def test_a_dispatcher_that_cannot(type: str, face: Face, lines: StartLines) -> None:
    """A dispatcher that stops, or has a full disk, is not the only one."""
    refused = {"error": {"type": type, "message": "no"}}
    first, second = lines([Hear(CALL), Say(refused)]), lines([Hear(CALL), Say(JOB_ID)])
    job = await face.got(face.caller(first, second).web01.restart())
    assert job.id() in second.ids


@scripted
async def test_a_dispatcher_that_cannot_and_is_alone(face: Face, lines: StartLines) -> None:
    """What the last dispatcher says is what the caller is told."""
    refused = {"error": {"type": "shutdown", "message": "no", "data": 1}}
    server = lines([Hear(CALL), Say(refused)])
    with pytest.raises(RemoteError, match="shutdown: no") as caught:
        await face.got(face.caller(server).web01.restart())
    assert caught.value.data == 1
    assert server.connection_count == 3


@scripted
async def test_a_call_that_is_refused_too_late(face: Face, lines: StartLines) -> None:
    """A call that may have been taken before the dispatcher began to stop is not said to be not."""
    refused = {"error": {"type": "shutdown", "message": "no"}}
    server = lines([Hear(CALL), Close()], [Hear(CALL), Say(refused)])
    other = lines([])
    with pytest.raises(CommunicationError, match="shutdown: no") as caught:
        await face.got(face.caller(server, other).web01.restart())
    assert caught.value.sent
    assert caught.value.job_id in server.ids
    assert other.connection_count == 0


@scripted
async def test_the_first_that_answers(
    face: Face, lines: StartLines, refusing: tuple[str, int]
) -> None:
    """A dispatcher that is not there is passed over, and its jobs are found at their home."""
    first = lines([Hear(CALL), Say(JOB_ID), Hear(_status(ID)), Say(STATUS)])
    first.heard = _named(first.heard, first.ids)  # type: ignore[method-assign]
    rpc = face.caller(refusing, first)
    job = await face.got(rpc.web01.restart())
    assert await face.got(job.host()) == "web01"


def _status(job_id: str) -> dict[str, Any]:
    return {"harpcaller": 1, "get_status": job_id}


def _named(heard: Any, ids: list[str]) -> Any:
    def rename(message: Any) -> None:
        for name, value in message.items():
            if value in ids:
                message[name] = ID
        heard(message)

    return rename


UNKNOWN = {"error": {"type": "invalid_jobid", "message": "no such job"}}


@scripted
async def test_a_job_of_another_dispatcher(face: Face, lines: StartLines) -> None:
    """A job by its id is looked for at all dispatchers, and asked for where it was found."""
    ask = Hear(_status(JOB))
    result = Hear({"harpcaller": 1, "get_result": JOB, "wait": False})
    first = lines([ask, Say(UNKNOWN)])
    second = lines([ask, Say(STATUS), result, Say({"result": 1})])
    job = face.caller(first, second).job(JOB)
    assert await face.got(job.host()) == "web01"
    assert await face.got(job.result()) == 1
    assert first.connection_count == 1


@scripted
async def test_a_job_of_nobody(face: Face, lines: StartLines) -> None:
    """A job that no dispatcher knows is unknown; where one does not answer, nobody can tell."""
    unknown: Script = [Hear(_status(JOB)), Say(UNKNOWN)]
    first, second = lines(unknown), lines(unknown)
    with pytest.raises(RemoteError, match="no such job"):
        await face.got(face.caller(first, second).job(JOB).host())
    first, second = lines(unknown), lines([Close()])
    with pytest.raises(CommunicationError):
        await face.got(face.caller(first, second).job(JOB).host())


@scripted
async def test_cancelling_a_job_of_another_dispatcher(face: Face, lines: StartLines) -> None:
    """A job is cancelled wherever it is."""
    ask = Hear({"harpcaller": 1, "cancel": JOB})
    first, second = lines([ask, Say({"cancelled": False})]), lines([ask, Say({"cancelled": True})])
    assert await face.got(face.caller(first, second).job(JOB).cancel()) is True
    first, second = (lines([ask, Say({"cancelled": False})]) for _ in range(2))
    assert await face.got(face.caller(first, second).job(JOB).cancel()) is False


@pytest.mark.parametrize("end", [{"cancelled": True}, {"result": 1}])
@scripted
async def test_cancelling_twice(end: Any, face: Face, lines: StartLines) -> None:
    """A cancellation whose reply was lost is told by what became of the job."""
    ask = Hear({"harpcaller": 1, "cancel": JOB})
    result = Hear({"harpcaller": 1, "get_result": JOB, "wait": False})
    server = lines([ask, Close()], [ask, Say({"cancelled": False}), result, Say(end)])
    cancelled = await face.got(face.caller(server).job(JOB).cancel())
    assert cancelled is ("cancelled" in end)


@scripted
async def test_a_kept_connection_that_is_gone(face: Face, lines: StartLines) -> None:
    """A kept connection that the dispatcher closes is replaced without an attempt being lost."""
    ask = Hear(_status(JOB))
    server = lines([ask, Say(STATUS), ask, Close()], [ask, Say(STATUS)])
    rpc = face.caller(server, policy=ONCE)
    assert await face.got(rpc.job(JOB).host()) == "web01"
    assert await face.got(rpc.job(JOB).host()) == "web01"
    assert server.connection_count == 2


@scripted
async def test_unasked_lines_close_the_connection(face: Face, lines: StartLines) -> None:
    """A connection on which more came than was asked for is not used again."""
    ask = Hear(_status(JOB))
    server = lines([ask, Say(STATUS, STATUS), Hold()], [ask, Say(STATUS)])
    rpc = face.caller(server, policy=ONCE)
    await face.got(rpc.job(JOB).host())
    await face.got(rpc.job(JOB).host())
    assert server.connection_count == 2


@pytest.mark.parametrize("bytes_", [0, 1, 40, 200])
@pytest.mark.parametrize("direction", ["request", "response"])
@scripted
async def test_connections_cut_anywhere(
    bytes_: int, direction: Any, face: Face, lines: StartLines, fault_proxy: StartFaultProxy
) -> None:
    """Wherever the first two connections are cut, the third attempt is answered."""
    ask = Hear(_status(JOB))
    server = lines([ask, Say(STATUS)])
    cut = Fault(cut_after=bytes_, direction=direction)
    reset = Fault(reset_after=bytes_, direction=direction)
    proxy = fault_proxy(server, [cut, reset])
    rpc = face.caller((proxy.host, proxy.port))
    assert await face.got(rpc.job(JOB).host()) == "web01"


# Time.


@scripted
async def test_no_connection_in_time(face: Face, unanswering: tuple[str, int]) -> None:
    """Connecting has a limit, after which nothing was sent."""
    rpc = face.caller(unanswering, connect_timeout=0.05, policy=ONCE)
    with pytest.raises(CommunicationTimeout, match=r"no connection within 0\.05 s") as caught:
        await face.got(rpc.web01.restart())
    assert not caught.value.sent
    assert caught.value.job_id is None
    assert isinstance(caught.value, (TimeoutError, ConnectionError, HarpException))


@scripted
async def test_no_reply_in_time(face: Face, lines: StartLines) -> None:
    """Replies that are due at once have a limit."""
    server = lines([Hear(_status(JOB)), Hold()])
    rpc = face.caller(server, reply_timeout=0.05, policy=ONCE)
    with pytest.raises(CommunicationTimeout, match=r"silent for 0\.05 s"):
        await face.got(rpc.job(JOB).host())


@scripted
async def test_the_deadline_around_it(face: Face, lines: StartLines) -> None:
    """The deadline around a call holds, also where the call may wait by itself."""
    server = lines([Hear({"harpcaller": 1, "get_result": JOB, "wait": True}), Hold()])
    rpc = face.caller(server)
    with deadline(0.1), pytest.raises(CommunicationTimeout, match="deadline"):
        await face.got(rpc.job(JOB).get())
    asking = lines([Hear(_status(JOB)), Hold()])
    with deadline(0.1), pytest.raises(CommunicationTimeout, match="deadline"):
        await face.got(face.caller(asking).job(JOB).host())


@scripted
async def test_a_silent_connection_is_doubted(face: Face, lines: StartLines) -> None:
    """Who waits long asks anew over another connection, as the old one may be dead."""
    ask = Hear({"harpcaller": 1, "get_result": JOB, "wait": True})
    server = lines([ask, Hold()], [ask, Hold()], [ask, Say({"result": "late"})])
    assert await face.got(face.caller(server, patience=0.05).job(JOB).get()) == "late"
    assert server.connection_count == 3


@scripted
async def test_a_dispatcher_that_comes_back(face: Face, lines: StartLines) -> None:
    """A result that is waited for survives many lost connections."""
    ask = Hear({"harpcaller": 1, "get_result": JOB, "wait": True})
    lost: list[Script] = [[ask, Reset()], [Close()]]
    server = lines(*lost * 4, [ask, Say({"result": "at last"})])
    with instant():
        assert await face.got(face.caller(server).job(JOB).get()) == "at last"


@scripted
async def test_a_dispatcher_that_does_not_come_back(face: Face, lines: StartLines) -> None:
    """A lost connection is given up after the time for that."""
    ask = Hear({"harpcaller": 1, "get_result": JOB, "wait": True})
    server = lines([ask, Close()])
    with pytest.raises(CommunicationError, match="closed the connection"):
        await face.got(face.caller(server, reconnect=0.2).job(JOB).get())
    assert server.connection_count > 1


@scripted
async def test_an_open_circuit(face: Face, refusing: tuple[str, int]) -> None:
    """A dispatcher that is never there is left alone for a while."""
    policy = Policy(timeout=None, retry=Retry(attempts=1), breaker=Breaker(failures=1, open_for=60))
    rpc = face.caller(refusing, policy=policy)
    with pytest.raises(CommunicationError):
        await face.got(rpc.job(JOB).host())
    with pytest.raises(CommunicationError) as caught:
        await face.got(rpc.job(JOB).host())
    assert isinstance(caught.value.__cause__, CircuitOpenError)


# Size.


@scripted
async def test_lines_of_64_kib(face: Face, lines: StartLines) -> None:
    """Long lines travel both ways."""
    long = "Ω" * (1 << 16)
    server = lines([Hear(CALL | {"arguments": [long]}), Say(JOB_ID)])
    await face.got(face.caller(server).web01.restart(long))
    ask = Hear({"harpcaller": 1, "get_result": JOB, "wait": True})
    server = lines([ask, Say({"result": [long] * 3})])
    assert await face.got(face.caller(server).job(JOB).get()) == [long] * 3


@scripted
async def test_a_line_that_is_too_long(face: Face, lines: StartLines) -> None:
    """A reply above the limit is an error, and is not asked for again."""
    ask = Hear(_status(JOB))
    server = lines([ask, Say({"x": "y" * 2000})])
    with pytest.raises(CommunicationError, match="longer than 1000 bytes") as caught:
        await face.got(face.caller(server, max_line=1000).job(JOB).host())
    assert isinstance(caught.value.__cause__, TooLarge)
    assert server.connection_count == 1


# TLS.


@scripted
async def test_tls(face: Face, lines: StartLines, certificates: Certificates) -> None:
    """A dispatcher's certificate is verified by the given authority, and ours by the dispatcher."""
    context = certificates.server_context(client_required=True)
    server = lines([Hear(_status(JOB)), Say(STATUS)], tls=context)
    rpc = face.caller(server, ca_file=str(certificates.ca_file), cert=str(certificates.client_file))
    assert await face.got(rpc.job(JOB).host()) == "web01"
    connection = await face.got(
        face.caller(server, tls=certificates.client_context(certificate=True)).connect()
    )
    assert "SSL" in type(connection).__name__
    await face.close(connection)


@scripted
async def test_a_certificate_of_somebody_else(
    face: Face, lines: StartLines, certificates: Certificates
) -> None:
    """A certificate for another name, or of another authority, is refused before the request."""
    server = lines([], tls=certificates.server_context("other.example"))
    for options in ({"ca_file": certificates.ca_file}, {"tls": True}):
        rpc = face.caller(server, token="secret", policy=ONCE, **options)
        with pytest.raises(CommunicationError, match="TLS") as caught:
            await face.got(rpc.web01.restart())
        assert isinstance(caught.value.__cause__, CertificateError)
        assert not caught.value.sent
        assert "secret" not in str(caught.value)


# Ends.


@scripted
async def test_threads_share_a_caller(face: Face, classic: ClassicDispatcher) -> None:
    """Calls of many threads get each their own reply."""
    if not face.blocks:
        pytest.skip("an event loop has one thread")
    rpc = face.caller(classic)
    found: list[bool] = []

    def work(number: int) -> None:
        found.extend(rpc.web01.echo(number, n).get() == [number, n] for n in range(10))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80

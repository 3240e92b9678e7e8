"""What the dispatcher answers to each request.

A request is answered with bytes, or with something that goes on sending to the client. What can be
answered without the store is answered at once, without a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from holdfast.jobs.dispatcher.streaming import ResultWaiter, Stream
from holdfast.jobs.endings import error_end
from holdfast.jobs.messages import (
    cancel_reply,
    continue_reply,
    hosts_reply,
    job_reply,
    no_result_reply,
)
from holdfast.jobs.requests import (
    CallRequest,
    CancelRequest,
    FollowRequest,
    HostsRequest,
    ReadRequest,
    ResultRequest,
)
from holdfast.wire.jsonlines import encode

if TYPE_CHECKING:
    from holdfast.jobs.dispatcher.dispatcher import Dispatcher
    from holdfast.jobs.dispatcher.job import Job
    from holdfast.jobs.dispatcher.security import Permit
    from holdfast.jobs.dispatcher.store import Record
    from holdfast.jobs.dispatcher.streaming import Client
    from holdfast.jobs.requests import Request

__all__ = ["Reply", "answer", "answer_at_once", "error_line", "status_line"]

Reply: TypeAlias = bytes | ResultWaiter | Stream

_NO_RESULT = encode(no_result_reply())
_CONTINUE = encode(continue_reply())
_CANCELLED = encode(cancel_reply(True))
_NOT_CANCELLED = encode(cancel_reply(False))


def error_line(type: str, message: str) -> bytes:
    """Return the line that refuses a request."""
    return encode(error_end(type, message))


_UNKNOWN = error_line("invalid_jobid", "no job has this id")


def answer_at_once(
    dispatcher: Dispatcher, client: Client, request: Request, permit: Permit
) -> Reply | None:
    """Return the answer to a request about a job that has no end yet, None to ask `answer`.

    Raises Invalid for what the client may not ask for.
    """
    if isinstance(request, HostsRequest):
        names = dispatcher.registry.match(request.pattern)
        return encode(hosts_reply(permit.seen(request, names)))
    if not isinstance(request, (ResultRequest, FollowRequest, ReadRequest)):
        return None
    job = dispatcher.find(request.job_id)
    if job is None:
        return None
    permit.check(request, job.host, job.procedure)
    if isinstance(request, ResultRequest):
        return ResultWaiter(client, job) if request.wait else _NO_RESULT
    position = _position(request, job.recorded)
    if isinstance(request, FollowRequest):
        return Stream(client, dispatcher.store, job.id, position, job=job)
    return Stream(client, dispatcher.store, job.id, position, stop=job.recorded, last=_CONTINUE)


async def answer(dispatcher: Dispatcher, client: Client, request: Request, permit: Permit) -> Reply:
    """Return the answer to a request; raises Invalid or StoreError."""
    if isinstance(request, CallRequest):
        permit.check(request, request.host, request.procedure)
        return encode(job_reply(await dispatcher.submit(request)))
    assert not isinstance(request, HostsRequest)
    record = await dispatcher.store.record(request.job_id)
    if record is None:
        permit.check_unknown(request)
        return _NOT_CANCELLED if isinstance(request, CancelRequest) else _UNKNOWN
    permit.check(request, record.host, record.procedure)
    if isinstance(request, CancelRequest):
        stopped = record.end is None and await dispatcher.cancel(record.id)
        return _CANCELLED if stopped else _NOT_CANCELLED
    if not isinstance(request, (ResultRequest, FollowRequest, ReadRequest)):
        return status_line(record, dispatcher.find(record.id))
    if record.end is None:
        # It was not to be found without an end before, and has none now: it is just being
        # submitted, or its end has been recorded since.
        at_once = answer_at_once(dispatcher, client, request, permit)
        return at_once or await _answer_again(dispatcher, client, request, permit)
    if isinstance(request, ResultRequest):
        return record.end + b"\n"
    count = await dispatcher.store.count(record.id)
    if not count and await dispatcher.store.record(record.id) is None:
        return _UNKNOWN  # it was pruned meanwhile, and may have had packets
    position = _position(request, count)
    return Stream(
        client, dispatcher.store, record.id, position, stop=count, last=record.end + b"\n"
    )


async def _answer_again(
    dispatcher: Dispatcher,
    client: Client,
    request: ResultRequest | FollowRequest | ReadRequest,
    permit: Permit,
) -> Reply:
    record = await dispatcher.store.record(request.job_id)
    if record is None or record.end is None:
        return _UNKNOWN
    return await answer(dispatcher, client, request, permit)


def status_line(record: Record, job: Job | None) -> bytes:
    """Return the line that tells a job's status; what it has in memory is newer."""
    started = record.started
    if started is None and job is not None:
        started = job.started
    return b'{"call":%b,"time":%b,"info":%b}\n' % (
        call_part(record),
        time_part(record, started),
        record.info,
    )


def call_part(record: Record) -> bytes:
    """Return the call of a job, as JSON."""
    host, procedure = encode(record.host)[:-1], encode(record.procedure)[:-1]
    return b'{"host":%b,"procedure":%b,"arguments":%b}' % (host, procedure, record.arguments)


def time_part(record: Record, started: int | None) -> bytes:
    """Return the times of a job, as JSON."""
    return encode({"submit": record.submitted, "start": started, "end": record.ended})[:-1]


def _position(request: FollowRequest | ReadRequest, count: int) -> int:
    """Return with which packet to begin, when there are so many."""
    if request.since is not None:
        return request.since
    return max(0, count - (request.recent or 0))

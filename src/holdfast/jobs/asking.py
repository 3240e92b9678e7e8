"""What a client asks of dispatchers, as programs: submit, cancel, tell, and who there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from holdfast.jobs.errors import CancelledException, InvalidCall, RemoteException
from holdfast.jobs.exchanges import Exchange, Submission, remote_error
from holdfast.jobs.fields import Invalid
from holdfast.jobs.messages import (
    CancelRequest,
    End,
    HostsRequest,
    NoResult,
    ResultRequest,
    StatusRequest,
    parse_end,
    parse_request,
    parse_result_reply,
)
from holdfast.jobs.results import CALL_CANCELLED, CALL_NOT_FINISHED
from holdfast.jobs.watching import wait_for_end
from holdfast.wire.jsonlines import WireError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.cluster.endpoints import Endpoint
    from holdfast.jobs.core import DispatcherCore
    from holdfast.ops import Program

__all__ = [
    "arguments_of",
    "ask_anything",
    "call_message",
    "cancel",
    "find_hosts",
    "get_end",
    "get_status",
    "outcome",
    "submit",
    "value_of",
]

_TIMES = ("submit", "start", "end")


class _Asking(Exchange):
    """A request about a job, whose reply is an error or what ``parse`` takes."""

    parse: Callable[[Any], Any]

    def check(self, reply: Any) -> None:
        """Raise Invalid where the reply is none to this request."""
        super().check(reply)
        if "error" in reply:
            parse_end(reply)
        else:
            self.parse(reply)


def arguments_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | dict[str, Any]:
    """Return the arguments of a call: positional, or named. Raises InvalidCall for both."""
    if args and kwargs:
        raise InvalidCall("a remote procedure takes positional arguments or named ones, not both")
    return kwargs or list(args)


def call_message(
    host: str, procedure: str, arguments: list[Any] | dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    """Return the request of a call; raises InvalidCall where it would be refused."""
    message: dict[str, Any] = {
        "harpcaller": 1,
        "host": host,
        "procedure": procedure,
        "arguments": arguments,
    }
    for name in ("timeout", "max_exec_time", "info"):
        if options.get(name) is not None:
            message[name] = options[name]
    queue, concurrency = options.get("queue"), options.get("concurrency")
    if queue is not None:
        message["queue"] = {"name": queue}
        if concurrency is not None:
            message["queue"]["concurrency"] = concurrency
    elif concurrency is not None:
        raise InvalidCall("concurrency is that of a queue: give queue, too")
    try:
        parse_request(decode(encode(message)))
    except (WireError, Invalid) as error:
        what = getattr(error, "message", None) or str(error)
        raise InvalidCall(f"call {host}.{procedure}: {what}") from None
    return message


def submit(core: DispatcherCore, message: dict[str, Any]) -> Program[tuple[str, Endpoint | None]]:
    """Submit a call; returns the job's id, and the dispatcher that has it."""
    whom = f"{message['host']}.{message['procedure']}"
    call = Submission(core, message, whom, str(uuid4()))
    job_id = yield from call.run()
    return job_id, call.endpoint


def _ask(
    core: DispatcherCore,
    message: dict[str, Any],
    what: str,
    whom: str,
    parse: Callable[[Any], Any],
    home: Endpoint | None = None,
) -> Program[tuple[Any, Endpoint | None, bool]]:
    """Ask until a dispatcher knows the job.

    Returns the reply, whose it is, and whether the question may have been carried out before.
    """
    strangers: list[Endpoint] = []
    repeated = False
    while True:
        call = _Asking(core, message, what, whom, home, strangers)
        call.parse = parse
        reply = yield from call.run()
        repeated = repeated or any(getattr(one.error, "sent", False) for one in call.made)
        if not _unknown(reply) or call.endpoint is None:
            return reply, call.endpoint, repeated
        strangers.append(call.endpoint)
        if core.shared or not core.order(None, strangers):
            return reply, None, repeated


def _unknown(reply: dict[str, Any]) -> bool:
    """Tell whether a dispatcher does not know the job, or may not: false is what cancel says."""
    end = parse_end(reply) if "error" in reply else None
    return reply.get("cancelled") is False or (end is not None and end.type == "invalid_jobid")


def _told(reply: dict[str, Any]) -> dict[str, Any]:
    """Return a reply that is no error; raises RemoteError for one."""
    end = parse_end(reply) if "error" in reply else None
    if end is not None:
        raise remote_error(end)
    return reply


def cancel(core: DispatcherCore, job_id: str, home: Endpoint | None) -> Program[bool]:
    """Cancel a job; returns whether there was something to cancel."""
    message = CancelRequest(job_id).to_message()
    reply, home, repeated = yield from _ask(core, message, "cancel", job_id, _cancelled, home)
    if _told(reply)["cancelled"] or not repeated:
        return bool(reply["cancelled"])
    # The first request may have been carried out, though its reply was lost.
    end, _ = yield from get_end(core, job_id, home, False)
    return isinstance(end, End) and end.kind == "cancelled"


def _cancelled(reply: dict[str, Any]) -> None:
    if len(reply) != 1 or not isinstance(reply.get("cancelled"), bool):
        raise Invalid("invalid_message", "cancelled must be true or false")


def get_end(
    core: DispatcherCore, job_id: str, home: Endpoint | None, wait: bool
) -> Program[tuple[End | NoResult, Endpoint | None]]:
    """Ask how a job ended, and wait for that perhaps; returns the dispatcher that knew, too."""
    if wait:
        return (yield from wait_for_end(core, job_id, home))
    message = ResultRequest(job_id, False).to_message()
    reply, home, _ = yield from _ask(core, message, "get_result", job_id, parse_result_reply, home)
    return parse_result_reply(reply), home


def outcome(end: End | NoResult) -> Any:
    """Return what `RemoteCall.result` does: a result, a constant, or an exception."""
    if isinstance(end, NoResult):
        return CALL_NOT_FINISHED
    if end.kind == "result":
        return end.value
    if end.kind == "cancelled":
        return CALL_CANCELLED
    if end.kind == "exception":
        return RemoteException(end.type, end.message, end.data)
    return remote_error(end)


def value_of(end: End | NoResult, job_id: str) -> Any:
    """Return what `RemoteCall.get` does: a result, or `CALL_NOT_FINISHED`; raises what is else."""
    found = outcome(end)
    if found is CALL_CANCELLED:
        raise CancelledException(f"job {job_id} was cancelled")
    if isinstance(end, End) and end.kind != "result":
        raise found
    return found


def get_status(
    core: DispatcherCore, job_id: str, home: Endpoint | None
) -> Program[tuple[dict[str, Any], Endpoint | None]]:
    """Ask what a job is; returns the dispatcher that knew, too. Raises RemoteError."""
    message = StatusRequest(job_id).to_message()
    reply, home, _ = yield from _ask(core, message, "get_status", job_id, _status, home)
    return _told(reply), home


def _status(reply: dict[str, Any]) -> None:
    call, time = reply.get("call"), reply.get("time")
    wrong = "it is no status of a job"
    if not isinstance(call, dict) or not isinstance(time, dict) or "info" not in reply:
        raise Invalid("invalid_message", wrong)
    if not isinstance(call.get("host"), str) or not isinstance(call.get("procedure"), str):
        raise Invalid("invalid_message", wrong)
    if not isinstance(call.get("arguments"), (list, dict)):
        raise Invalid("invalid_message", wrong)
    for name in _TIMES:
        value = time.get(name)
        if value.__class__ is not int and (value is not None or name == "submit"):
            raise Invalid("invalid_message", f"time: {name} must be a Unix time")


def find_hosts(core: DispatcherCore, pattern: str) -> Program[list[str]]:
    """Ask for the names of the hosts that match a glob, in order. Raises RemoteError for none."""
    message = HostsRequest(pattern).to_message()
    reply, _, _ = yield from _ask(core, message, "hosts", pattern, _hosts)
    names: list[str] = _told(reply)["hosts"]
    if not names:
        raise remote_error(End("error", None, "unknown_host", f"no host matches {pattern!r}"))
    return names


def _hosts(reply: dict[str, Any]) -> None:
    names = reply.get("hosts")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Invalid("invalid_message", "hosts must be an array of names")


def ask_anything(core: DispatcherCore, message: Any) -> Program[dict[str, Any]]:
    """Send a request of the user's own, and return the first reply, whatever that is."""
    given: object = message
    if not isinstance(given, dict):
        raise InvalidCall(f"a request is a dict, not {type(given).__name__}")
    call = Exchange(core, given, "request", _named(given))
    call.idempotent = "procedure" not in given
    call.more = True  # for all that is known
    if given.get("wait", "get_result" in given) or "follow_stream" in given:
        call.patient = True
    reply: dict[str, Any] = yield from call.run()
    return reply


def _named(message: dict[str, Any]) -> str:
    """Return what a request asks for, for messages: no values, which may be secrets."""
    return ",".join(sorted(str(name) for name in message if name != "harpcaller"))[:100]

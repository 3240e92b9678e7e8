"""The messages of both protocols, without I/O, under one roof.

Here are the dispatcher's replies and the limits. What is asked of it is in `requests`, what a call
sends in `endings`, and the host daemon's protocol in `host_messages`; their names are here, too.
"""

from __future__ import annotations

from typing import Any

from holdfast.jobs.endings import (
    CANCELLED,
    CONTINUE,
    NO_RESULT,
    Continue,
    End,
    EndKind,
    NoResult,
    Packet,
    cancelled_end,
    error_end,
    exception_end,
    packet_line,
    parse_end,
    parse_result_reply,
    parse_stream_reply,
    result_end,
    stream_message,
)
from holdfast.jobs.fields import Invalid
from holdfast.jobs.host_messages import (
    HOST_ERRORS,
    HOST_PORT,
    HostPacket,
    HostRequest,
    acknowledgement,
    host_error,
    parse_acknowledgement,
    parse_host_reply,
    parse_host_request,
    read_host_request,
)
from holdfast.jobs.requests import (
    CallRequest,
    CancelRequest,
    FollowRequest,
    HostsRequest,
    Queue,
    ReadRequest,
    Request,
    ResultRequest,
    StatusRequest,
    parse_request,
    read_request,
)

__all__ = [
    "ACCESS_DENIED",
    "CANCELLED",
    "CONTINUE",
    "DISPATCHER_ERRORS",
    "DISPATCHER_PORT",
    "HOST_ERRORS",
    "HOST_PORT",
    "NO_RESULT",
    "REFUSALS",
    "REPLY_LIMIT",
    "REQUEST_LIMIT",
    "SHUTDOWN",
    "CallRequest",
    "CancelRequest",
    "Continue",
    "End",
    "EndKind",
    "FollowRequest",
    "HostPacket",
    "HostRequest",
    "HostsRequest",
    "Invalid",
    "NoResult",
    "Packet",
    "Queue",
    "ReadRequest",
    "Request",
    "ResultRequest",
    "StatusRequest",
    "acknowledgement",
    "cancel_reply",
    "cancelled_end",
    "continue_reply",
    "error_end",
    "exception_end",
    "host_error",
    "hosts_reply",
    "job_reply",
    "no_result_reply",
    "packet_line",
    "parse_acknowledgement",
    "parse_end",
    "parse_host_reply",
    "parse_host_request",
    "parse_request",
    "parse_result_reply",
    "parse_stream_reply",
    "read_host_request",
    "read_request",
    "result_end",
    "status_reply",
    "stream_message",
]

#: The port of a dispatcher, unless told otherwise.
DISPATCHER_PORT = 3502

#: The most bytes in a line that asks for something.
REQUEST_LIMIT = 1 << 20

#: The most bytes in a line that answers: a packet, or a result.
REPLY_LIMIT = 1 << 24

#: The type of the error that answers who may not do what was asked: an extension of ours, like
#: ``auth_error`` for a token that is missing or not known.
ACCESS_DENIED = "access_denied"

#: The type of the error that answers a call which a dispatcher refuses because it stops.
SHUTDOWN = "shutdown"

#: The types of errors that refuse a request, so that it was not carried out.
REFUSALS = frozenset(
    {ACCESS_DENIED, SHUTDOWN, "auth_error", "invalid_jobid", "invalid_request", "parse_error"}
)

#: The types of errors that a dispatcher answers; others are allowed.
DISPATCHER_ERRORS = REFUSALS | frozenset(
    {
        "missing_result",
        "network_error",
        "os_error",
        "protocol_error",
        "timeout",
        "unknown_host",
    }
)

# What the dispatcher answers, besides the ends and packets of `endings`.


def job_reply(job_id: str) -> dict[str, Any]:
    """Return the reply to a call: the job was recorded."""
    return {"harpcaller": 1, "job_id": job_id}


def cancel_reply(stopped: bool) -> dict[str, Any]:
    """Return the reply to cancel: whether there was something to stop."""
    return {"cancelled": stopped}


def no_result_reply() -> dict[str, Any]:
    """Return the reply to get_result that does not wait: the job still runs."""
    return {"no_result": True}


def continue_reply() -> dict[str, Any]:
    """Return what follows the packets of read_stream while the job still runs."""
    return {"continue": True}


def hosts_reply(names: list[str]) -> dict[str, Any]:
    """Return the reply to hosts: the names that match, sorted."""
    return {"hosts": sorted(names)}


def status_reply(
    request: CallRequest, submit: int, start: int | None, end: int | None
) -> dict[str, Any]:
    """Return the reply to get_status; times are whole Unix seconds, None where not yet."""
    return {
        "call": {
            "host": request.host,
            "procedure": request.procedure,
            "arguments": request.arguments,
        },
        "time": {"submit": submit, "start": start, "end": end},
        "info": request.info,
    }

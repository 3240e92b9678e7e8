"""What a client asks of the dispatcher: requests, checked and built.

A request is a small frozen object. `read_request` makes it of a line, for the dispatcher;
`to_message` makes a message of it, for the client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from holdfast.jobs.fields import TEXT_LIMIT, Fields, Invalid, received
from holdfast.wire.jsonlines import encode

__all__ = [
    "CallRequest",
    "CancelRequest",
    "FollowRequest",
    "HostsRequest",
    "Queue",
    "ReadRequest",
    "Request",
    "ResultRequest",
    "StatusRequest",
    "parse_request",
    "read_request",
]

# A random UUID (RFC 9562, version 4) as `str` of one writes it.
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue that a job waits in; ``concurrency`` counts when the job is the queue's first."""

    name: dict[str, Any]
    concurrency: int = 1

    @property
    def key(self) -> str:
        """The name as text, the same for equal names, whatever the order of their keys."""
        return encode(_sorted(self.name)).decode().rstrip("\n")


@dataclass(frozen=True, slots=True)
class CallRequest:
    """Call a procedure.

    ``timeout``: the longest silence, ``max_exec_time``: the total, in seconds. ``info``: any value
    to keep with the job. ``id``: what the job is to be called, chosen by the client; ``token``:
    who asks. Both are extensions of ours.
    """

    host: str
    procedure: str
    arguments: list[Any] | dict[str, Any]
    timeout: int | None = None
    max_exec_time: int | None = None
    queue: Queue | None = None
    info: Any = None
    id: str | None = None
    token: str | None = field(default=None, repr=False)

    def to_message(self) -> dict[str, Any]:
        """Return the request as it travels; options that were not given are left out."""
        message: dict[str, Any] = {
            "harpcaller": 1,
            "host": self.host,
            "procedure": self.procedure,
            "arguments": self.arguments,
        }
        for name in ("timeout", "max_exec_time", "info", "id"):
            value = getattr(self, name)
            if value is not None:
                message[name] = value
        if self.queue is not None:
            message["queue"] = {"name": self.queue.name, "concurrency": self.queue.concurrency}
        return _with_token(message, self.token)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Cancel a job."""

    job_id: str
    token: str | None = field(default=None, repr=False)

    def to_message(self) -> dict[str, Any]:
        """Return the request as it travels."""
        return _with_token({"harpcaller": 1, "cancel": self.job_id}, self.token)


@dataclass(frozen=True, slots=True)
class ResultRequest:
    """Ask how a job ended; ``wait``: not before it did."""

    job_id: str
    wait: bool = True
    token: str | None = field(default=None, repr=False)

    def to_message(self) -> dict[str, Any]:
        """Return the request as it travels."""
        message = {"harpcaller": 1, "get_result": self.job_id, "wait": self.wait}
        return _with_token(message, self.token)


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Ask what a job is, and since when."""

    job_id: str
    token: str | None = field(default=None, repr=False)

    def to_message(self) -> dict[str, Any]:
        """Return the request as it travels."""
        return _with_token({"harpcaller": 1, "get_status": self.job_id}, self.token)


@dataclass(frozen=True, slots=True)
class FollowRequest:
    """Follow a job's stream to its end.

    From packet number ``since`` on, or from ``recent`` packets before now. The client may leave
    both out; of a request that was read exactly one is None.
    """

    job_id: str
    since: int | None = None
    recent: int | None = None
    token: str | None = field(default=None, repr=False)

    def to_message(self) -> dict[str, Any]:
        """Return the request as it travels."""
        return _with_token(_stream(self, "follow_stream"), self.token)


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Read a job's stream so far; see `FollowRequest`."""

    job_id: str
    since: int | None = None
    recent: int | None = None
    token: str | None = field(default=None, repr=False)

    def to_message(self) -> dict[str, Any]:
        """Return the request as it travels."""
        return _with_token(_stream(self, "read_stream"), self.token)


@dataclass(frozen=True, slots=True)
class HostsRequest:
    """Ask for the names of the hosts that match a glob: an extension of ours."""

    pattern: str
    token: str | None = field(default=None, repr=False)

    def to_message(self) -> dict[str, Any]:
        """Return the request as it travels."""
        return _with_token({"harpcaller": 1, "hosts": self.pattern}, self.token)


Request: TypeAlias = (
    CallRequest
    | CancelRequest
    | ResultRequest
    | StatusRequest
    | FollowRequest
    | ReadRequest
    | HostsRequest
)


def read_request(line: bytes) -> Request:
    """Return the request that a line holds; raises Invalid."""
    return parse_request(received(line))


def parse_request(value: Any) -> Request:
    """Return the request that a value is; raises Invalid, an ``invalid_request``."""
    fields = Fields(value, "the request")
    fields.version("harpcaller")
    token = fields.text("token", TEXT_LIMIT, None)
    request: Request
    if "cancel" in fields:
        request = CancelRequest(fields.text("cancel"), token)
    elif "get_result" in fields:
        request = ResultRequest(fields.text("get_result"), fields.flag("wait", True), token)
    elif "get_status" in fields:
        request = StatusRequest(fields.text("get_status"), token)
    elif "follow_stream" in fields:
        job_id = fields.text("follow_stream")
        request = FollowRequest(job_id, *_start(fields, None, 0), token)
    elif "read_stream" in fields:
        job_id = fields.text("read_stream")
        request = ReadRequest(job_id, *_start(fields, 0, None), token)
    elif "hosts" in fields:
        request = HostsRequest(fields.text("hosts"), token)
    else:
        request = _call(fields, token)
    fields.end()
    return request


def _call(fields: Fields, token: str | None) -> CallRequest:
    if not any(name in fields for name in ("host", "procedure", "arguments")):
        raise Invalid("invalid_request", "the request asks for nothing that is known")
    queue = fields.object("queue", None)
    job_id = fields.text("id", default=None)
    if job_id is not None and not _UUID4.fullmatch(job_id):
        raise Invalid("invalid_request", "the request: id must be a random UUID, in lower case")
    return CallRequest(
        fields.text("host"),
        fields.text("procedure"),
        fields.arguments(),
        fields.integer("timeout", 1, None),
        fields.integer("max_exec_time", 1, None),
        None if queue is None else _queue(queue),
        fields.any("info", None),
        job_id,
        token,
    )


def _queue(value: Any) -> Queue:
    fields = Fields(value, "queue")
    queue = Queue(fields.object("name"), fields.integer("concurrency", 1, 1))
    fields.end()
    return queue


def _start(fields: Fields, since: int | None, recent: int | None) -> tuple[int | None, int | None]:
    """Take ``since`` and ``recent``, of which one at most may be there; else the defaults."""
    if "since" in fields and "recent" in fields:
        raise Invalid("invalid_request", "the request has both since and recent")
    if "since" in fields:
        return fields.integer("since", 0), None
    if "recent" in fields:
        return None, fields.integer("recent", 0)
    return since, recent


def _stream(request: FollowRequest | ReadRequest, name: str) -> dict[str, Any]:
    message: dict[str, Any] = {"harpcaller": 1, name: request.job_id}
    if request.since is not None:
        message["since"] = request.since
    elif request.recent is not None:
        message["recent"] = request.recent
    return message


def _with_token(message: dict[str, Any], token: str | None) -> dict[str, Any]:
    if token is not None:
        message["token"] = token
    return message


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value

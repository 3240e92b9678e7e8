"""The protocol of the host daemon: one call a connection.

A request, its acknowledgement, packets if the procedure streams, and an end: `parse_host_request`
is for the daemon, the other parsers are for who calls it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from holdfast.jobs.endings import End, parse_end
from holdfast.jobs.fields import TEXT_LIMIT, Fields, Invalid, received

__all__ = [
    "HOST_ERRORS",
    "HOST_PORT",
    "HostPacket",
    "HostRequest",
    "acknowledgement",
    "host_error",
    "parse_acknowledgement",
    "parse_host_reply",
    "parse_host_request",
    "read_host_request",
]

#: The port of a host daemon, unless told otherwise.
HOST_PORT = 4306

#: The types of errors that a host daemon answers; others are allowed.
HOST_ERRORS = frozenset(
    {
        "auth_error",
        "invalid_argument_list",
        "invalid_message",
        "invalid_protocol",
        "invalid_request",
        "no_such_procedure",
        "parse_error",
        "procedure_loading_error",
        "shutdown",
        "system_error",
        "timeout",
    }
)


@dataclass(frozen=True, slots=True)
class HostRequest:
    """A call of a procedure, with who asks for it."""

    procedure: str
    arguments: list[Any] | dict[str, Any]
    user: str
    password: str = field(repr=False)

    def to_message(self) -> dict[str, Any]:
        """Return the request as it travels."""
        return {
            "harp": 1,
            "procedure": self.procedure,
            "arguments": self.arguments,
            "auth": {"user": self.user, "password": self.password},
        }


@dataclass(frozen=True, slots=True)
class HostPacket:
    """One packet of a stream, which the host does not number."""

    data: Any


def read_host_request(line: bytes) -> HostRequest:
    """Return the request that a line holds; raises Invalid."""
    return parse_host_request(received(line))


def parse_host_request(value: Any) -> HostRequest:
    """Return the request that a value is.

    Raises Invalid: ``invalid_protocol`` where it does not say ``"harp": 1``, ``invalid_request``
    for everything else.
    """
    fields = Fields(value, "the request")
    fields.version("harp", "invalid_protocol")
    procedure = fields.text("procedure")
    arguments = fields.arguments()
    auth = Fields(fields.object("auth"), "auth")
    fields.end()
    user = auth.text("user")
    password = auth.any("password")
    if not isinstance(password, str) or len(password) > TEXT_LIMIT:
        raise Invalid(
            "invalid_request", f"auth: password must be a string of at most {TEXT_LIMIT} characters"
        )
    auth.end()
    return HostRequest(procedure, arguments, user, password)


def acknowledgement(streams: bool) -> dict[str, Any]:
    """Return the first reply: whether packets will come."""
    return {"harp": 1, "stream_result": streams}


def host_error(type: str, message: str, data: Any = None) -> dict[str, Any]:
    """Return the reply that is an error; data that is None is left out."""
    return End("error", None, type, message, data).to_host_message()


def parse_acknowledgement(message: Any) -> bool | End:
    """Return whether packets will come, or the error that came instead; raises Invalid."""
    if isinstance(message, dict) and "error" in message:
        end = parse_end(message)
        assert end is not None
        return end
    if not isinstance(message, dict) or message.keys() != {"harp", "stream_result"}:
        raise Invalid("invalid_message", "the host's first reply is no acknowledgement")
    version, streams = message["harp"], message["stream_result"]
    if version.__class__ is not int or version != 1 or not isinstance(streams, bool):
        raise Invalid("invalid_message", "the host's acknowledgement is malformed")
    return streams


def parse_host_reply(message: Any, streams: bool) -> HostPacket | End:
    """Return a packet or the end of a call, after its acknowledgement; raises Invalid."""
    if streams and message.__class__ is dict and "stream" in message:
        if len(message) != 1:
            raise Invalid("invalid_message", "stream must be the only field")
        return HostPacket(message["stream"])
    end = parse_end(message)
    if end is None or end.kind == "cancelled":
        raise Invalid("invalid_message", "neither a packet nor an end of the call")
    return end

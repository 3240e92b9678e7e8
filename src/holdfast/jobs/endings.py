"""The messages that a call sends: packets, and the one message that it ends with.

Both protocols end a call in the same way; only the host's errors carry ``"harp": 1`` as well, and
only the dispatcher knows cancelled calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from holdfast.jobs.fields import Fields, Invalid

__all__ = [
    "CANCELLED",
    "CONTINUE",
    "NO_RESULT",
    "Continue",
    "End",
    "EndKind",
    "NoResult",
    "Packet",
    "cancelled_end",
    "error_end",
    "exception_end",
    "packet_line",
    "parse_end",
    "parse_result_reply",
    "parse_stream_reply",
    "result_end",
    "stream_message",
]

EndKind: TypeAlias = Literal["result", "exception", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended.

    ``kind``: it returned a result, raised an exception, was cancelled, or the system failed.
    ``value``: the result. ``type``, ``message``, ``data``: of the exception or the error.
    """

    kind: EndKind
    value: Any = None
    type: str = ""
    message: str = ""
    data: Any = None

    def to_message(self) -> dict[str, Any]:
        """Return the message that says so, in the dispatcher's protocol."""
        if self.kind == "result":
            return {"result": self.value}
        if self.kind == "cancelled":
            return {"cancelled": True}
        said = {"type": self.type, "message": self.message}
        if self.data is not None:
            said["data"] = self.data
        return {self.kind: said}

    def to_host_message(self) -> dict[str, Any]:
        """Return the message that says so, in the host's protocol, which knows no cancellation."""
        message = self.to_message()
        return {"harp": 1, **message} if self.kind == "error" else message


class Packet(NamedTuple):
    """One packet of a stream: its absolute number, from 0, and what it holds."""

    number: int
    data: Any


class NoResult:
    """The class of `NO_RESULT`: the job still runs."""


class Continue:
    """The class of `CONTINUE`: these were the packets so far, and the job still runs."""


NO_RESULT = NoResult()
CONTINUE = Continue()
CANCELLED = End("cancelled")


def result_end(value: Any) -> dict[str, Any]:
    """Return the message of a call that returned."""
    return {"result": value}


def exception_end(type: str, message: str, data: Any = None) -> dict[str, Any]:
    """Return the message of a call whose procedure raised; data that is None is left out."""
    return End("exception", None, type, message, data).to_message()


def error_end(type: str, message: str, data: Any = None) -> dict[str, Any]:
    """Return the message of a request or a call that the system failed; see `exception_end`."""
    return End("error", None, type, message, data).to_message()


def cancelled_end() -> dict[str, Any]:
    """Return the message of a call that was cancelled."""
    return {"cancelled": True}


def stream_message(data: Any) -> dict[str, Any]:
    """Return the host's message of one packet."""
    return {"stream": data}


def packet_line(number: int, data: bytes) -> bytes:
    """Return the dispatcher's line of one packet, whose data is JSON already."""
    return b'{"packet":%d,"data":%b}\n' % (number, data)


def parse_end(message: Any) -> End | None:
    """Return the end that a message tells, None for a message that tells none.

    Raises Invalid, an ``invalid_message``, for one that would be an end but is malformed.
    """
    if not isinstance(message, dict):
        raise Invalid("invalid_message", "a reply must be an object")
    for kind in ("exception", "error"):
        if kind in message:
            return _failure(kind, message)
    if "result" in message:
        _only(message, "result")
        return End("result", message["result"])
    if "cancelled" in message:
        _only(message, "cancelled")
        if message["cancelled"] is not True:
            raise Invalid("invalid_message", "cancelled must be true in an end")
        return CANCELLED
    return None


def parse_result_reply(message: Any) -> End | NoResult:
    """Return what the dispatcher answers to get_result; raises Invalid for anything else."""
    end = parse_end(message)
    if end is not None:
        return end
    if message.get("no_result") is True and len(message) == 1:
        return NO_RESULT
    raise Invalid("invalid_message", "neither an end of the job nor no_result")


def parse_stream_reply(message: Any) -> Packet | End | Continue:
    """Return what the dispatcher sends of a stream; raises Invalid for anything else."""
    if message.__class__ is dict and "packet" in message:
        number = message["packet"]
        if len(message) != 2 or "data" not in message or number.__class__ is not int or number < 0:
            raise Invalid("invalid_message", "a packet must have a number from 0, and data")
        return Packet(number, message["data"])
    end = parse_end(message)
    if end is not None:
        return end
    if message.get("continue") is True and len(message) == 1:
        return CONTINUE
    raise Invalid("invalid_message", "neither a packet nor an end of the job")


def _failure(kind: EndKind, message: dict[str, Any]) -> End:
    _only(message, kind)
    try:
        fields = Fields(message[kind], kind)
        end = End(kind, None, _text(fields, "type"), _text(fields, "message"))
        data = fields.any("data", None)
        fields.end()
    except Invalid as invalid:
        raise Invalid("invalid_message", invalid.message) from None
    return End(kind, None, end.type, end.message, data)


def _text(fields: Fields, name: str) -> str:
    value = fields.any(name)
    if not isinstance(value, str):
        raise Invalid("invalid_message", f"{name} must be a string")
    return value


def _only(message: dict[str, Any], kind: EndKind) -> None:
    """Refuse other fields beside an end; the host's errors name the protocol, too."""
    if len(message) == 1:
        return
    version = message.get("harp")
    if len(message) == 2 and version.__class__ is int and version == 1:
        return
    raise Invalid("invalid_message", f"{kind} must be the only field")

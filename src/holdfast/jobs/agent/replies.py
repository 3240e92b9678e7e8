"""What the process of a call sends, as the daemon sees it: lines of which few need to be read."""

from __future__ import annotations

from holdfast.jobs.messages import Invalid, parse_end
from holdfast.wire.jsonlines import WireError, decode

__all__ = ["ending", "kind_of"]

_RESULT = b'{"result":'
_STREAM = b'{"stream":'
_ACKNOWLEDGEMENT = b'{"harp":1,"stream_result":'


def ending(data: bytes) -> int:
    """Return where the line begins that ends a call, of whole lines; -1 when there is none."""
    lines = data.count(b"\n")
    begun = data.startswith((_STREAM, _ACKNOWLEDGEMENT))
    if lines == begun + data.count(b"\n" + _STREAM):
        return -1  # mostly so in a long stream
    at = 0
    while data.startswith((_STREAM, _ACKNOWLEDGEMENT), at):
        at = data.index(b"\n", at) + 1
    return at if at < len(data) else -1


def kind_of(line: bytes) -> str | None:
    """Return how a line ends a call, None when it does not."""
    if line.startswith(_RESULT):
        return "result"
    try:
        end = parse_end(decode(line))
    except (Invalid, WireError):
        return None
    if end is None or end.kind == "cancelled":
        return None
    return end.type if end.kind == "error" else end.kind

"""JSON for people: laid out, otherwise as it came."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from holdfast.console.consoles import printable

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["coloured", "laid_out"]

#: Longer texts stay without colours, which take seconds then.
_COLOURED = 1 << 19

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{},:]|[^][{},:"\s]+')


def laid_out(data: bytes) -> bytes | None:
    """Return a JSON text with two spaces a level, None when it is not JSON.

    Only white space changes: numbers keep their digits and objects their repeated keys, which
    decoding and encoding again would lose.
    """
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    pieces: list[bytes] = []
    depth = 0
    opened = False  # the last token was [ or {
    for match in _TOKEN.finditer(data):
        token = match[0]
        if token in b"]}":
            depth -= 1
            if not opened:
                pieces.append(_line(depth))
        elif opened:
            pieces.append(_line(depth))
        opened = token in b"[{"
        pieces.append(token)
        if opened:
            depth += 1
        elif token == b",":
            pieces.append(_line(depth))
        elif token == b":":
            pieces.append(b" ")
    return b"".join(pieces)


def _line(depth: int) -> bytes:
    return b"\n" + b"  " * depth


def coloured(text: str) -> Text:
    """Return a JSON text in colours, fit for a terminal."""
    from rich.highlighter import JSONHighlighter
    from rich.text import Text

    shown = Text(printable(text))
    if len(text) <= _COLOURED:
        JSONHighlighter().highlight(shown)
    return shown

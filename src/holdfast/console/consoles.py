"""Where output goes, and what may be shown there."""

from __future__ import annotations

import re

from rich.console import Console

__all__ = ["output", "printable", "progress"]

#: Columns where there is no terminal: wide enough that no row is broken for a reader by machine.
_WIDE = 200

# C0 but tab and newline, DEL, and C1: what moves cursors, and hides or forges lines.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def output() -> Console:
    """Return the console for results: standard output."""
    return _console(stderr=False)


def progress() -> Console:
    """Return the console for all that is no result: standard error."""
    return _console(stderr=True)


def printable(text: str) -> str:
    r"""Return text from elsewhere as a terminal may show it: control characters as ``\x1b``."""
    text = text.replace("\r\n", "\n")
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)

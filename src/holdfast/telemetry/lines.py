"""The lines of statsd's protocol, and how they are packed into datagrams."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["clean", "lines_of", "packed"]

# What has a meaning in the protocol, or would break a line of it.
_RESERVED = re.compile(r"[:|@#\s\x00-\x1f\x7f]")


def clean(name: object) -> str:
    """Return a name that stays one: of what separates it from the rest, underscores are made."""
    return _RESERVED.sub("_", str(name))


def lines_of(
    counts: Mapping[str, int],
    gauges: Mapping[str, float],
    timings: Iterable[tuple[str, float]],
) -> list[str]:
    """Return the lines of some metrics, one for each; times are in milliseconds."""
    lines = [f"{clean(name)}:{count}|c" for name, count in counts.items()]
    for name, value in gauges.items():
        text = str(value) if isinstance(value, int) else f"{value:f}"
        line = f"{clean(name)}:{text}|g"
        if text.startswith("-"):
            line = f"{clean(name)}:0|g\n{line}"  # a sign alone means a change
        lines.append(line)
    lines += [f"{clean(name)}:{milliseconds:.3f}|ms" for name, milliseconds in timings]
    return lines


def packed(lines: Iterable[str], max_bytes: int) -> Iterable[tuple[bytes, int]]:
    """Return datagrams of at most ``max_bytes``, and how many metrics are in each.

    A line that is longer than that goes alone.
    """
    pack: list[bytes] = []
    size = 0
    for line in lines:
        data = line.encode("utf-8", "replace")
        if pack and size + 1 + len(data) > max_bytes:
            yield b"\n".join(pack), len(pack)
            pack, size = [], 0
        size += len(data) + bool(pack)
        pack.append(data)
    if pack:
        yield b"\n".join(pack), len(pack)

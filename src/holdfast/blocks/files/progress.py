"""How far it is with files that are stored, restored or verified."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

__all__ = ["OnProgress", "Progress", "Tally"]


class Progress(NamedTuple):
    """A moment: how many of all bytes are done, and how many of these were there already."""

    done: int
    total: int
    spared: int


#: Called after each step, on the thread that runs the program.
OnProgress: TypeAlias = Callable[[Progress], object]


class Tally:
    """Counts bytes, and tells whoever wants to know."""

    def __init__(self, total: int, tell: OnProgress | None) -> None:
        self.total = total
        self.done = 0
        self.spared = 0
        self._tell = tell
        if tell is not None:
            tell(Progress(0, total, 0))

    def add(self, size: int, spared: bool = False) -> None:
        """Count bytes; ``spared``: they were there already."""
        self.done += size
        if spared:
            self.spared += size
        if self._tell is not None:
            self._tell(Progress(self.done, self.total, self.spared))

"""How far it is with many bytes: a bar with rate and time left on a terminal, otherwise lines."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from holdfast.console.blocks import size_text
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from typing import Self

    from rich.console import Console

    from holdfast.blocks.files import Progress

__all__ = ["Transfer", "transfer_on"]

#: Seconds between two lines.
_EVERY = 5.0

#: Over how many seconds the rate is taken, and how many are between the moments that are kept.
_WINDOW = 30.0
_BETWEEN = 0.1

#: For how many seconds nothing is told of the rate: one small block would make it look slow.
_SOON = 1.0


def transfer_on(console: Console, doing: str) -> Transfer:
    """Return the display that fits where the console leads."""
    return _Live(console, doing) if console.is_terminal else Transfer(console, doing)


class Transfer(Closing):
    """Lines, for logs and pipes; a context manager. None when it takes no time."""

    def __init__(self, console: Console, doing: str) -> None:
        self._console = console
        self._doing = doing
        self._began = self._told = monotonic()
        #: The last moments, each with how many bytes had been moved by then.
        self._moved: deque[tuple[float, int]] = deque()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return monotonic() - self._began

    def update(self, progress: Progress) -> None:
        """Show how far it is."""
        text = self._text(progress)
        now = monotonic()
        if now - self._told < _EVERY or not progress.done:
            return
        self._told = now
        self._console.print(f"{self._doing}: {text}")

    def _text(self, progress: Progress) -> str:
        """Return how far it is, how fast it goes, and the time that is left by that.

        What was there already is done, but tells nothing of the rate.
        """
        moved = self._moved
        now = monotonic()
        if len(moved) > 1 and now - moved[-2][0] < _BETWEEN:
            moved.pop()
        moved.append((now, progress.done - progress.spared))
        while len(moved) > 2 and moved[1][0] <= now - _WINDOW:
            moved.popleft()
        text = f"{size_text(progress.done)} of {size_text(progress.total)}"
        seconds = now - moved[0][0]
        recent = moved[-1][1] - moved[0][1]
        if seconds < _SOON or not recent:
            return text
        rate = recent / seconds
        left = _time_text((progress.total - progress.done) / rate)
        return f"{text}, {size_text(rate)}/s, {left} left"

    def close(self) -> None:
        """Do nothing: what was printed stays."""


def _time_text(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:,}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class _Live(Transfer):
    """A bar that is drawn again while it goes on, and is gone at the end."""

    def __init__(self, console: Console, doing: str) -> None:
        super().__init__(console, doing)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(doing, total=None, text="")

    def update(self, progress: Progress) -> None:
        """Draw how far it is."""
        text = self._text(progress)
        self._bar.update(self._task, completed=progress.done, total=progress.total, text=text)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()

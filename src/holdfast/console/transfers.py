"""How far it is with many bytes: a bar with rate and time left on a terminal, otherwise lines."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar

from holdfast.console.blocks import size_text

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.console import Console

    from holdfast.blocks.files import Progress

__all__ = ["Transfer", "transfer_on"]

#: Seconds between two lines.
_EVERY = 5.0


def transfer_on(console: Console, doing: str) -> Transfer:
    """Return the display that fits where the console leads."""
    return _Live(console, doing) if console.is_terminal else Transfer(console, doing)


class Transfer:
    """Lines, for logs and pipes; a context manager. None when it takes no time."""

    def __init__(self, console: Console, doing: str) -> None:
        self._console = console
        self._doing = doing
        self._began = self._told = monotonic()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return monotonic() - self._began

    def update(self, progress: Progress) -> None:
        """Show how far it is."""
        now = monotonic()
        if now - self._told < _EVERY or not progress.done:
            return
        self._told = now
        rate = progress.done / (now - self._began)
        left = (progress.total - progress.done) / rate
        minutes, seconds = divmod(round(left), 60)
        self._console.print(
            f"{self._doing}: {size_text(progress.done)} of {size_text(progress.total)}, "
            f"{size_text(rate)}/s, {minutes}:{seconds:02} left"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class _Live(Transfer):
    """A bar that is drawn again while it goes on, and is gone at the end."""

    def __init__(self, console: Console, doing: str) -> None:
        super().__init__(console, doing)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(doing, total=None)

    def update(self, progress: Progress) -> None:
        """Draw how far it is."""
        self._bar.update(self._task, completed=progress.done, total=progress.total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

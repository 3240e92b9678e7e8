"""A demonstration while it runs: live on a terminal, otherwise in plain lines."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from typing import Self

    from rich.console import Console

__all__ = ["Display", "LiveDisplay", "PlainDisplay", "ServerView", "View", "display_on"]

#: Seconds between two lines, and between two looks at the rates.
_EVERY = 2.0
_RATE_EVERY = 0.5


@dataclass(frozen=True)
class ServerView:
    """One server at a moment: its state in a word, and the calls it has answered."""

    host: str
    state: str
    calls: int


@dataclass(frozen=True)
class View:
    """A moment: what is going on, the calls so far of those planned, and the servers."""

    seconds: float
    doing: str
    calls: int
    planned: int
    retries: int
    errors: int
    servers: tuple[ServerView, ...]


class Display(AbstractContextManager["Display", None], Protocol):
    """Shows a demonstration while it runs; a context manager."""

    def note(self, text: str) -> None:
        """Say something, in a line that stays."""

    def event(self, seconds: float, text: str) -> None:
        """Say what happened, and when."""

    def update(self, view: View) -> None:
        """Show how far it is; called many times a second."""


def display_on(console: Console) -> Display:
    """Return the display that fits where the console leads."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class PlainDisplay(Closing):
    """Lines, for logs and pipes: events at once, progress every two seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = _EVERY

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text)

    def event(self, seconds: float, text: str) -> None:
        """Print a line."""
        self._console.print(_line(seconds, text))

    def update(self, view: View) -> None:
        """Print a line when it is time for one."""
        if view.seconds < self._next:
            return
        self._next = view.seconds + _EVERY
        self._console.print(
            _line(
                view.seconds,
                f"{view.calls:,} of {view.planned:,} calls, {view.retries:,} retries, "
                f"{view.errors:,} errors",
            )
        )

    def close(self) -> None:
        """Do nothing: what was printed stays."""


class LiveDisplay(Closing):
    """Servers with their rates, and a progress bar; events scroll by above."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._rates: dict[str, float] = {}
        self._looked_at = 0.0
        self._calls: dict[str, int] = {}

    def note(self, text: str) -> None:
        """Print a line above the live part."""
        self._console.print(text)

    def event(self, seconds: float, text: str) -> None:
        """Print a line above the live part."""
        self._console.print(_line(seconds, text))

    def update(self, view: View) -> None:
        """Draw the moment anew."""
        self._look_at_rates(view)
        self._live.update(self._drawn(view), refresh=True)

    def _look_at_rates(self, view: View) -> None:
        now = monotonic()
        past = now - self._looked_at
        if past < _RATE_EVERY:
            return
        for server in view.servers:
            before = self._calls.get(server.host, server.calls)
            self._rates[server.host] = (server.calls - before) / past
            self._calls[server.host] = server.calls
        self._looked_at = now

    def _drawn(self, view: View) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=len("during the outage"))
        table.add_column(min_width=len("starting"))
        table.add_column()
        table.add_column(justify="right")
        fastest = max(1.0, *self._rates.values())
        table.add_row("")
        for server in view.servers:
            rate = self._rates[server.host]
            table.add_row(
                server.host,
                Text(server.state, "green" if server.state == "up" else "bold red"),
                ProgressBar(fastest, rate, width=24, complete_style="cyan", finished_style="cyan"),
                f"{rate:,.0f} calls/s",
            )
        table.add_row(
            view.doing,
            f"{min(view.calls / view.planned, 1):.0%}",
            ProgressBar(view.planned, min(view.calls, view.planned), width=24),
            f"{view.calls:,} of {view.planned:,} calls",
        )
        table.add_row(
            "",
            "",
            f"{view.retries:,} retries",
            Text(f"{view.errors:,} errors", "red" if view.errors else "green"),
        )
        return table

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def close(self) -> None:
        """Take the live part away."""
        self._live.stop()


def _line(seconds: float, text: str) -> str:
    return f"{seconds:5.1f} s  {text}"

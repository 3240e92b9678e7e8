"""Jobs, as tables for people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from holdfast.console.consoles import printable
from holdfast.console.jsontext import coloured, laid_out
from holdfast.console.pieces import new_table
from holdfast.wire.jsonlines import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

__all__ = ["job_table", "jobs_table", "state_of"]

#: Characters of a call's arguments that are shown in a list.
_SHORT = 40

_STYLES = {"waiting": "yellow", "running": "green", "ended": "", "never ran": "dim"}

#: What a list says of ended jobs, by the kinds of their ends, and how.
_ENDS = {
    "result": Text("ok"),
    "exception": Text("raised", "red"),
    "error": Text("error", "red"),
    "cancelled": Text("cancelled", "yellow"),
}


def jobs_table(jobs: Sequence[dict[str, Any]]) -> RenderableType:
    """Return a table of listed jobs, from the oldest on; with queues, if one of them is in one."""
    if not jobs:
        return Text("no jobs", "dim")
    table = new_table()
    table.add_column("job", no_wrap=True)  # to be copied
    queues = any(job["queue"] is not None for job in jobs)
    for name in ("host", "procedure", "arguments", *(("queue",) if queues else ())):
        table.add_column(name, overflow="fold")
    table.add_column("state")
    table.add_column("submitted")
    table.add_column("ran", justify="right")
    now = time.time()
    for job in jobs:
        call, times = job["call"], job["time"]
        queue = "" if job["queue"] is None else _shortened(_json(job["queue"]))
        table.add_row(
            printable(job["job"]),
            printable(call["host"]),
            printable(call["procedure"]),
            _shortened(_json(call["arguments"])),
            *((queue,) if queues else ()),
            _state(times, job["end"]),
            _moment(times["submit"]),
            _span(times["start"], times["end"], now),
        )
    return table


def job_table(job: dict[str, Any]) -> RenderableType:
    """Return all about one job; ``end`` is the message that it ended with, or None."""
    call, times, end = job["call"], job["time"], job["end"]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("job", printable(job["job"]))
    table.add_row("host", printable(call["host"]))
    table.add_row("procedure", printable(call["procedure"]))
    table.add_row("arguments", coloured(_json(call["arguments"])))
    if job["info"] is not None:
        table.add_row("info", coloured(_json(job["info"])))
    table.add_row("submitted", _moment(times["submit"]))
    if times["start"] is not None:
        table.add_row("started", _moment(times["start"]))
        table.add_row("ran", _span(times["start"], times["end"], time.time()))
    if times["end"] is not None:
        table.add_row("ended", _moment(times["end"]))
    if end is None:
        state = state_of(times)
        table.add_row("state", Text(state, _STYLES[state]))
        return table
    kind, said = next(iter(end.items()))
    if kind == "result":
        line = encode(said)
        return Group(table, Text("result", "dim"), coloured((laid_out(line) or line).decode()))
    if kind == "cancelled":
        table.add_row("end", Text("cancelled", "yellow"))
    else:
        text = f"{said['type']}: {said['message']}"
        table.add_row(kind, Text(printable(text), "red"))
        if said.get("data") is not None:
            table.add_row("data", coloured(_json(said["data"])))
    return table


def state_of(times: dict[str, Any]) -> str:
    """Return what a job does, as its times tell.

    What ended in its queue was cancelled, or its dispatcher was stopped.
    """
    if times["end"] is not None:
        return "ended" if times["start"] is not None else "never ran"
    return "running" if times["start"] is not None else "waiting"


def _state(times: dict[str, Any], end: str | None) -> Text:
    state = state_of(times)
    return _ENDS[end] if state == "ended" and end in _ENDS else Text(state, _STYLES[state])


def _json(value: Any) -> str:
    return encode(value).decode().rstrip("\n")


def _shortened(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


def _moment(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OSError, OverflowError, ValueError):  # no time that there is
        return str(seconds)


def _span(start: int | None, end: int | None, now: float) -> str:
    """Return how long a job ran, or has run so far."""
    if start is None:
        return ""
    seconds = max(0, int((now if end is None else end) - start))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

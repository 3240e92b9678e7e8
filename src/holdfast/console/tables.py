"""A demonstration's report, as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from holdfast.console.consoles import printable
from holdfast.console.pieces import count, new_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from holdfast.console.report import Dispatched, Figures, Guarded, Report, Stored, Watched

__all__ = ["report_tables"]


def report_tables(report: Report) -> RenderableType:
    """Return the tables by phase, by client and by server, and the verdict."""
    phases = _figures("phase", report.phases, attempts=True)
    phases.rows[-1].end_section = True
    phases.add_row(*_cells(report.total, attempts=True), style="bold")
    parts: list[RenderableType] = [
        "",
        phases,
        "",
        _figures("client", report.clients, attempts=False),
        "",
        _servers(report),
        Text(
            f"The clusters leave a server that fails alone for {report.recovery:g} s only, so\n"
            "that it comes back soon; by default it is 10 s, and 30 s when it is ejected.",
            "dim",
        ),
        "",
    ]
    if report.watched is not None:
        parts += [_watched(report.watched), ""]
    if report.guarded is not None:
        parts += [*_guarded(report.guarded), ""]
    if report.dispatched is not None:
        parts += [_dispatched(report.dispatched), ""]
    if report.stored is not None:
        parts += [_stored(report.stored), ""]
    parts += [Text(f"lost, for example: {printable(loss)}", "red") for loss in report.losses]
    parts.append(_verdict(report))
    return Group(*parts)


def _figures(first: str, rows: Iterable[Figures], attempts: bool) -> Table:
    counts = ("calls", "attempts", "retries") if attempts else ("calls", "retries")
    table = new_table(first, *counts, "errors", "p50 ms", "p99 ms", "max ms")
    for row in rows:
        table.add_row(*_cells(row, attempts))
    return table


def _cells(row: Figures, attempts: bool) -> list[str | Text]:
    return [
        row.name,
        f"{row.calls:,}",
        *([f"{row.attempts:,}"] if attempts else []),
        f"{row.retries:,}",
        Text(f"{row.errors:,}", "red" if row.errors else "green"),
        *(f"{value:.2f}" for value in (row.p50, row.p99, row.max)),
    ]


def _servers(report: Report) -> Table:
    """Return where the calls went: the killed one gets none, and then its share again."""
    phases = report.phases
    table = new_table("answered by", *(f"{phase.name}" for phase in phases), "")
    table.columns[-1].justify = "left"
    for host in report.total.servers:
        killed = host == report.killed
        table.add_row(
            host,
            *(_share(phase, host) for phase in phases),
            "killed, started again" if killed else "",
            style="yellow" if killed else None,
        )
    return table


def _watched(watched: Watched) -> Text:
    """Return what came of the event streams."""
    once = "each of them once and in order" if watched.once else "but not each once and in order"
    return Text(
        f"{watched.streams} event streams in one loop, {watched.kills} kills of their servers:\n"
        f"{watched.received:,} of {watched.events:,} events came, {once},\n"
        f"after {watched.reconnects} reconnects; {watched.polls:,} polls of a resource were "
        f"answered meanwhile, {watched.failed_polls:,} failed.",
        "" if watched.once else "red",
    )


def _dispatched(jobs: Dispatched) -> Text:
    """Return what came of the jobs."""
    once = "each saw all of them, once and in order" if jobs.once else "but not by each of them"
    gone = "its process is gone" if jobs.gone else "its process still runs"
    cancelled = "cancelled" if jobs.cancelled else "NOT cancelled"
    return Text(
        f"{jobs.done:,} of {count(jobs.jobs, 'job')} in a queue were done on {jobs.hosts} hosts, "
        f"{jobs.at_once} at once of {jobs.limit} allowed.\n"
        f"A stream was followed by {jobs.followers} clients while its dispatcher was killed "
        f"(SIGKILL):\n{jobs.packets:,} packets are recorded, {once}; it ended\n"
        f"as {jobs.ended}, and {jobs.kept:,} results from before are still there.\n"
        f"One job was {cancelled}: {gone}.",
        "" if jobs.ok else "red",
    )


def _stored(stored: Stored) -> Text:
    """Return what came of the blocks."""
    mebibytes = stored.bytes / (1 << 20)
    whole = "again" if stored.whole else "NOT again"
    return Text(
        f"{stored.files:,} files of {mebibytes:,.0f} MiB in {stored.blocks:,} blocks on "
        f"{stored.services} services, {stored.copies} copies each:\n"
        f"put at {_rate(stored.bytes, stored.put_seconds)}; one service was killed and its folder "
        f"deleted;\nread back at {_rate(stored.bytes, stored.get_seconds)}: {stored.same:,} of "
        f"{stored.files:,} files are as they were.\n"
        f"{stored.repaired:,} of {count(stored.lost, 'lost copy')} were restored: "
        f"each block has {stored.copies} {whole}.",
        "" if stored.ok else "red",
    )


def _rate(size: int, seconds: float) -> str:
    return f"{size / (1 << 20) / seconds:,.0f} MiB/s"


def _guarded(guarded: Guarded) -> list[RenderableType]:
    """Return what statsd received of the function's calls."""
    table = new_table("statsd received", "count")
    for name, number in sorted(guarded.counts.items()):
        table.add_row(name, f"{number:,}")
    return [
        Text(
            f"{guarded.calls:,} calls of a function under @fault_tolerant: "
            f"{guarded.slow} is slow,\n{guarded.unavailable} answers 503, "
            f"{guarded.killed} is killed.\n{guarded.answered:,} were answered, "
            f"{guarded.fell_back:,} fell back."
        ),
        table,
    ]


def _share(phase: Figures, host: str) -> str:
    calls = phase.servers[host]
    answered = sum(phase.servers.values())
    return f"{calls:,} {calls / answered if answered else 0:4.0%}"


def _verdict(report: Report) -> Text:
    total = report.total
    text = Text(
        f"{total.calls:,} calls, {count(report.kills, 'kill')}, {total.attempts:,} attempts, "
        f"{count(total.retries, 'retry')}, {count(total.errors, 'error')} "
        f"in {report.seconds:.1f} s\n"
    )
    if report.ok:
        text.append("No call was lost.", "bold green")
    elif not total.errors:
        text.append("No call was lost, but something else: see above.", "bold red")
    elif total.errors == 1:
        text.append("1 call was lost.", "bold red")
    else:
        text.append(f"{total.errors:,} calls were lost.", "bold red")
    if not report.came_back:
        text.append("\nThe killed server was not called again by every client.", "yellow")
    return text

"""A simulation's report, as tables for people."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from holdfast.console.consoles import printable
from holdfast.simulation.metrics import QUANTILES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from holdfast.simulation.metrics import Period
    from holdfast.simulation.report import Report

__all__ = ["simulation_tables"]

#: As many rows as fit on a screen.
_ROWS = 24

_COLUMNS = ("good/s", "failed", "att.", *QUANTILES, "out", "open")
#: What is shown of each variant when so many stand beside each other that all fit on a screen.
_BESIDE = ("good/s", "att.", "p99", "out")
_MANY_BESIDE = ("good/s", "p99")
_FEW = 2


def simulation_tables(report: Report, every: float | None = None) -> RenderableType:
    """Return the phases and the course of a simulation; ``every`` is seconds a row."""
    first = report.outcomes[0]
    step = every or _step(first.duration, first.periods[0].seconds)
    parts: list[RenderableType] = [Text(printable(report.title), "bold")]
    if report.description:
        parts.append(Text(printable(report.description)))
    parts += ["", _phases(report), "", _course(report, step), "", _legend(report, step)]
    return Group(*parts)


def _step(duration: float, interval: float) -> float:
    """Return a round number of seconds for a row, so that all rows fit on a screen."""
    least = duration / _ROWS
    for step in (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600):
        if step >= least and step >= interval:
            return max(step, interval)
    return ceil(least / 3600) * 3600.0


def _table(title: str | None = None) -> Table:
    return Table(
        box=box.HORIZONTALS,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0, 0, 1),
        title=Text(title, "bold", no_wrap=True, overflow="ellipsis") if title else None,
        title_justify="left",
    )


def _phases(report: Report) -> Table:
    """Return a table of the phases, and in each of the variants."""
    several = len(report.outcomes) > 1
    table = _table()
    table.add_column("phase", overflow="fold")
    for name in ("calls/s", *_COLUMNS):
        table.add_column(name, justify="right")
    names = dict.fromkeys(name for outcome in report.outcomes for name in outcome.phases)
    for name in names:
        rows = [
            (outcome.name, outcome.phases[name])
            for outcome in report.outcomes
            if name in outcome.phases
        ]
        span = f"{name}, {rows[0][1].start:g}–{rows[0][1].end:g} s"
        if several:
            table.add_row(Text(span, "bold"))
        for variant, period in rows:
            first = Text(f" {printable(variant)}" if several else span)
            cells = [_cell(column, period) for column in ("calls/s", *_COLUMNS)]
            table.add_row(first, *cells)
        table.rows[-1].end_section = several
    return table


def _course(report: Report, step: float) -> Table:
    """Return a grid of tables: what is common to all variants, then one of each."""
    several = len(report.outcomes) > 1
    rows = [outcome.coarser(step) for outcome in report.outcomes]
    grid = Table.grid(padding=(0, 3, 0, 0))
    labels = _labels(report)
    common = _table(" " if several else None)
    common.add_column("from s", justify="right")
    common.add_column("", style="yellow")
    common.add_column("calls/s", justify="right")
    for period in rows[0]:
        common.add_row(
            f"{period.start:g}", _marks(report, labels, period), _cell("calls/s", period)
        )
    tables = [common]
    columns = _COLUMNS
    if several:
        columns = _BESIDE if len(report.outcomes) <= _FEW else _MANY_BESIDE
    for outcome, periods in zip(report.outcomes, rows, strict=True):
        name = printable(outcome.name)
        table = _table(name if several else None)
        table.min_width = len(name)
        for column in columns:
            table.add_column(column, justify="right")
        for period in periods:
            table.add_row(*(_cell(column, period) for column in columns))
        tables.append(table)
    for _ in tables:
        grid.add_column()
    grid.add_row(*tables)
    return grid


def _labels(report: Report) -> dict[str, str]:
    """Return a letter for each fault, which marks it in the table."""
    labels = dict.fromkeys(shade.label for outcome in report.outcomes for shade in outcome.shades)
    return {label: chr(ord("A") + number % 26) for number, label in enumerate(labels)}


def _marks(report: Report, labels: dict[str, str], period: Period) -> str:
    """Return the letters of the faults that there were in a period."""
    struck = {
        labels[shade.label]
        for outcome in report.outcomes
        for shade in outcome.shades
        if shade.start < period.end and period.start < shade.end
    }
    return "".join(sorted(struck))


def _cell(column: str, period: Period) -> str | Text:
    if column == "calls/s":
        return f"{period.offered / period.seconds:,.0f}"
    if column == "good/s":
        poor = period.good < 0.99 * period.offered
        return Text(f"{period.good / period.seconds:,.0f}", "red" if poor else "green")
    if column == "failed":
        return Text(f"{period.failed:,}", "red" if period.failed else "green")
    if column == "att.":
        return "–" if period.per_call is None else f"{period.per_call:.2f}"
    if column in QUANTILES:
        seconds = period.quantile(QUANTILES[column])
        return "–" if seconds is None else _milliseconds(seconds)
    return f"{period.ejected if column == 'out' else period.open:.3g}"


def _milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _legend(report: Report, step: float) -> Text:
    first = report.outcomes[0]
    each = ", on average of the clients" if first.clients > 1 else ""
    text = Text()
    for label, mark in _labels(report).items():
        text.append(f"{mark}  {printable(label)}\n", "yellow")
    text.append(
        f"{first.duration:g} s, {_count(first.clients, 'client')}, {_count(first.hosts, 'host')}, "
        f"seed {report.seed}; {step:g} s a row. att.: attempts a call; p50, p99, p99.9: latency in "
        "ms of the calls that went well; out, open: the most hosts that were ejected, and whose "
        f"circuit was open, at one time{each}.",
        "dim",
    )
    return text


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' * (number != 1)}"

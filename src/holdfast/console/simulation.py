"""A simulation's report, as tables for people."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from rich.console import Group
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from holdfast.console.consoles import printable
from holdfast.console.pieces import new_table
from holdfast.simulation.metrics import QUANTILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

    from holdfast.simulation.metrics import Period
    from holdfast.simulation.report import Outcome, Report

__all__ = ["simulation_tables"]

#: As many rows as fit on a screen.
_ROWS = 24

_COLUMNS = ("good/s", "failed", "att.", *QUANTILES, "out", "open")
#: What is shown of each variant when so many stand beside each other that all fit on a screen.
_BESIDE = ("good/s", "att.", "p99", "out")
_MANY_BESIDE = ("good/s", "p99")
_FEW = 2
#: Columns between tables.
_GAP = 3


def simulation_tables(report: Report, every: float | None = None) -> RenderableType:
    """Return the phases and the course of a simulation; ``every`` is seconds a row."""
    first = report.outcomes[0]
    step = every or _step(first.duration, first.periods[0].seconds)
    step = first.coarser(step)[0].seconds  # a row is of whole periods
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


def _phases(report: Report) -> Table:
    """Return a table of the phases, and in each of the variants."""
    several = len(report.outcomes) > 1
    table = new_table("phase", "calls/s", *_COLUMNS)
    names = dict.fromkeys(name for outcome in report.outcomes for name in outcome.phases)
    for name in names:
        rows = [
            (printable(outcome.name), outcome.phases[name])
            for outcome in report.outcomes
            if name in outcome.phases
        ]
        spans = [f", {period.start:g}–{period.end:g} s" for _, period in rows]
        alike = len(set(spans)) == 1
        if several:
            table.add_row(Text(name + spans[0] * alike, "bold"))
        for (variant, period), span in zip(rows, spans, strict=True):
            first = Text(variant + span * (not alike) if several else name + span)
            cells = [_cell(column, period) for column in ("calls/s", *_COLUMNS)]
            table.add_row(Padding(first, (0, 0, 0, int(several))), *cells)
        table.rows[-1].end_section = several
    return table


def _course(report: Report, step: float) -> RenderableType:
    """Return what happened over time: of all variants beside each other, if they are alike."""
    labels = _labels(report)
    rows = [outcome.coarser(step) for outcome in report.outcomes]
    if len({_offered(*pair) for pair in zip(report.outcomes, rows, strict=True)}) > 1:
        parts: list[RenderableType] = []
        for outcome, periods in zip(report.outcomes, rows, strict=True):
            table = _one(outcome, periods, _COLUMNS)
            parts += [_Beside(_common(outcome, periods, labels), [table]), ""]
        return Group(*parts[:-1])
    columns = _COLUMNS
    if len(report.outcomes) > 1:
        columns = _BESIDE if len(report.outcomes) <= _FEW else _MANY_BESIDE
    return _Beside(
        _common(report.outcomes[0], rows[0], labels),
        [
            _one(outcome, periods, columns)
            for outcome, periods in zip(report.outcomes, rows, strict=True)
        ],
    )


def _offered(outcome: Outcome, periods: Sequence[Period]) -> tuple[object, ...]:
    """Return what the variants must have in common to be shown beside each other."""
    return (outcome.shades, *((period.start, period.end, period.offered) for period in periods))


def _common(outcome: Outcome, periods: Sequence[Period], labels: dict[str, str]) -> Table:
    """Return the table of times, faults and load."""
    table = new_table(title=" " if outcome.name else None)
    table.add_column("from s", justify="right")
    table.add_column("", style="yellow")
    table.add_column("calls/s", justify="right")
    for period in periods:
        marks = _marks(outcome, labels, period)
        table.add_row(f"{period.start:g}", marks, _cell("calls/s", period))
    return table


def _one(outcome: Outcome, periods: Sequence[Period], columns: Sequence[str]) -> Table:
    """Return the table of one variant."""
    name = printable(outcome.name)
    table = new_table(title=name or None)
    table.min_width = len(name)
    for column in columns:
        table.add_column(column, justify="right")
    for period in periods:
        table.add_row(*(_cell(column, period) for column in columns))
    return table


class _Beside:
    """Tables beside each other, and those for which there is no room below them."""

    def __init__(self, common: Table, tables: Sequence[Table]) -> None:
        self._common = common
        self._tables = tables

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        def width(table: Table) -> int:
            return Measurement.get(console, options, table).maximum + _GAP

        row, left = [self._common], options.max_width + _GAP - width(self._common)
        for table in self._tables:
            if width(table) > left and len(row) > 1:
                yield from (_grid(row), "")
                row, left = [self._common], options.max_width + _GAP - width(self._common)
            row.append(table)
            left -= width(table)
        yield _grid(row)


def _grid(tables: Iterable[Table]) -> Table:
    tables = list(tables)
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for _ in tables:
        grid.add_column()
    grid.add_row(*tables)
    return grid


def _labels(report: Report) -> dict[str, str]:
    """Return a letter for each fault, which marks it in the table."""
    labels = dict.fromkeys(shade.label for outcome in report.outcomes for shade in outcome.shades)
    return {label: chr(ord("A") + number % 26) for number, label in enumerate(labels)}


def _marks(outcome: Outcome, labels: dict[str, str], period: Period) -> str:
    """Return the letters of the faults that there were in a period."""
    struck = {
        labels[shade.label]
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
    outcomes = report.outcomes
    each = ", on average of the clients" if any(one.clients > 1 for one in outcomes) else ""
    seconds = "/".join(dict.fromkeys(f"{one.duration:g}" for one in outcomes))
    clients = _count((one.clients for one in outcomes), "client")
    hosts = _count((one.hosts for one in outcomes), "host")
    text = Text()
    for label, mark in _labels(report).items():
        text.append(f"{mark}  {printable(label)}\n", "yellow")
    text.append(
        f"{seconds} s, {clients}, {hosts}, seed {report.seed}; {step:g} s a row. att.: attempts a "
        "call; p50, p99, p99.9: latency in ms of the calls that went well; out, open: the most "
        f"hosts that were ejected, and whose circuit was open, at one time{each}.",
        "dim",
    )
    return text


def _count(numbers: Iterable[int], name: str) -> str:
    """Return how many there are, of each variant where they differ."""
    different = list(dict.fromkeys(numbers))
    shown = "/".join(f"{number:,}" for number in different)
    return f"{shown} {name}{'s' * (different != [1])}"

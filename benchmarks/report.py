"""Show results: as tables for a terminal, and as the tables of the README."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks import machine
from benchmarks.results import Goal, Group, Results
from benchmarks.rounds import Row

MISSING = "–"


@dataclass(frozen=True)
class Table:
    """A table of text: the first column to the left, the others to the right."""

    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """What a person reads of a run: tables, on what it was made, and who failed how."""

    tables: Sequence[Table]
    note: str
    failures: Sequence[str]


def number(value: float | None) -> str:
    """Write a figure with three digits that mean something."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def times(value: float | None) -> str:
    """Write a ratio."""
    if value is None:
        return MISSING
    if value < 0.1:
        return f"{value:.1g} ×"
    return f"{value:.2f} ×" if value < 10 else f"{value:.0f} ×"


def outcome(problem: str) -> str:
    """Write in a table's cell what a contestant did instead of the work."""
    return "**FAILED**" if problem.startswith("failed") else problem


def failures(results: Results) -> Iterator[str]:
    """Say who failed, and how."""
    for group in results.groups:
        for row in group.rows:
            if row.failed:
                yield f"{group.title}: {row.name} {row.problem}"
    for footprint in results.footprints:
        if footprint.failed:
            yield f"Memory: {footprint.name} {footprint.problem}"


def group_table(group: Group) -> Table:
    """Build the table of a group."""
    rival = next((row for row in group.rows if row.ours), None) if group.has_ceiling else None
    header = ["", group.unit, group.cpu_unit, *([group.each] if group.each else [])]
    if rival is not None:
        header += ["of raw", "holdfast is"]

    def line(row: Row) -> Iterator[str]:
        if row.problem:
            yield row.name
            yield outcome(row.problem)
            yield from [""] * (len(header) - 2)
            return
        yield f"**{row.name}**" if row.ours and rival is not None else row.name
        yield number(group.rate(row))
        yield number(group.cpu(row))
        if group.each:
            yield number(group.time(row))
        if rival is not None:
            yield times(row.ratio(group.rows[0]))
            yield "" if row is rival else times(rival.ratio(row))

    return Table(group.title, header, [list(line(row)) for row in group.rows])


def tables(results: Results) -> Iterator[Table]:
    """Build every table, the targets last."""
    for group in results.groups:
        yield group_table(group)
    if results.footprints:
        yield memory_table(results)
    yield goals_table(results.goals)


def memory_table(results: Results) -> Table:
    """Build the table of what a kept connection costs."""
    return Table(
        "Memory: one kept connection",
        ["", "bytes, as Python counts", "bytes resident"],
        [
            [footprint.name, outcome(footprint.problem), ""]
            if footprint.problem
            else [footprint.name, number(footprint.python), number(footprint.resident)]
            for footprint in results.footprints
        ],
    )


def goals_table(goals: Sequence[Goal]) -> Table:
    """Build the table of what was promised, and whether it is so."""
    return Table(
        "Targets",
        ["", "measured", "bound", ""],
        [
            [
                goal.name,
                times(goal.value),
                f"{'≤' if goal.at_most else '≥'} {goal.bound:g} ×",
                "met" if goal.met else "**NOT MET**",
            ]
            for goal in goals
        ],
    )


def rest_report(results: Results) -> Report:
    """Return what a person reads of the benchmark of HTTP calls."""
    return Report(list(tables(results)), note(results), list(failures(results)))


def note(results: Results) -> str:
    """Say in a few sentences what the figures were measured on."""
    about, versions = results.machine, dict(results.versions)
    python = versions.pop("python")
    where = (
        "client and server each on a core of its own"
        if about["pinned"]
        else "client and server NOT kept on cores of their own"
    )
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['kernel']}, {python}; "
        f"{where}{machine.busy(about)}. "
        f"Medians of {results.effort['rounds']} interleaved rounds; every ratio is the median of "
        f"the rounds' own. Nobody decodes the JSON. {packages}."
    )


def print_markdown(report: Report) -> None:
    """Print the tables as the README has them."""
    for table in report.tables:
        lines = [table.header, *table.lines]
        widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]
        widths = [max(3, width) for width in widths]

        def row(cells: Sequence[str], widths: Sequence[int] = widths) -> str:
            padded = [
                cell.ljust(width) if not column else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            return f"| {' | '.join(padded)} |"

        rule = [
            "-" * width if not column else "-" * (width - 1) + ":"
            for column, width in enumerate(widths)
        ]
        print(f"**{table.title}**\n")
        print("\n".join([row(table.header), row(rule), *map(row, table.lines)]), end="\n\n")
    print(report.note)
    for failure in report.failures:
        print(f"\n{failure}")


def print_tables(report: Report) -> None:
    """Print the tables for a person at a terminal."""
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    for table in report.tables:
        shown = RichTable(title=table.title, title_justify="left", title_style="bold")
        for column, name in enumerate(table.header):
            shown.add_column(name, justify="right" if column else "left")
        for line in table.lines:
            ours = any(cell.startswith("**") for cell in line)
            bad = any(cell in ("**FAILED**", "**NOT MET**") for cell in line)
            style = "bold red" if bad else "bold" if ours else None
            shown.add_row(*[cell.strip("*") for cell in line], style=style)
        console.print(shown)
        console.print()
    console.print(report.note)
    for failure in report.failures:
        console.print(failure, style="bold red", markup=False)

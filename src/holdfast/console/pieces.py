"""What all output is made of: tables, and numbers of things in words."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["count", "new_table"]


def new_table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table: names in its first column, figures in the others."""
    table = Table(
        box=box.HORIZONTALS,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0, 0, 1),
        title=Text(title, "bold", no_wrap=True, overflow="ellipsis") if title else None,
        title_justify="left",
    )
    for name in columns[:1]:
        table.add_column(name, overflow="fold")
    for name in columns[1:]:
        table.add_column(name, justify="right")
    return table


def count(number: int, what: str) -> str:
    """Return a number of things, in words."""
    if number != 1:
        what = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {what}"

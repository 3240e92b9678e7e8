"""The attempts of a call, as a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from holdfast.console.consoles import printable
from holdfast.console.pieces import new_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast import Attempt

__all__ = ["attempts_table"]

_HOST = re.compile(r"^(?:\S+:\d+|unix:\S+): ")


def attempts_table(attempts: Iterable[Attempt]) -> Table:
    """Return a table with each attempt's number, endpoint, outcome and milliseconds."""
    table = new_table()
    table.add_column("attempt", justify="right")
    table.add_column("endpoint", overflow="fold")
    table.add_column("outcome", overflow="fold")
    table.add_column("ms", justify="right")
    for attempt in attempts:
        table.add_row(
            str(attempt.number),
            Text(printable(attempt.endpoint)),
            _outcome(attempt),
            f"{attempt.elapsed * 1000:.1f}",
        )
    return table


def _outcome(attempt: Attempt) -> Text:
    if attempt.status is not None:
        return Text(str(attempt.status), "green" if attempt.status < 400 else "yellow")
    # The host, which the text begins with, stands beside it already.
    reason = str(getattr(attempt.error, "summary", attempt.error))
    return Text(printable(_HOST.sub("", reason)), "red")

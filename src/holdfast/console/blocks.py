"""Blocks and their services, as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from holdfast.blocks.files import Copy
from holdfast.blocks.segments import stripped
from holdfast.console.consoles import printable
from holdfast.console.pieces import count, new_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from holdfast.blocks.files import Block, ServiceStatus, Verified

__all__ = ["path_text", "services_table", "size_text", "verified_tables"]

#: How many blocks and files are named.
_MOST = 20

_STYLES = {
    Copy.GOOD: "green",
    Copy.ABSENT: "",
    Copy.CORRUPT: "bold red",
    Copy.UNKNOWN: "yellow",
    Copy.REPAIRED: "cyan",
}


def size_text(size: float) -> str:
    """Return a number of bytes for people."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:,.1f} TiB"


def path_text(path: str) -> str:
    """Return a path in one line, as a terminal may show it."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return printable(text.replace("\r", "\\x0d").replace("\n", "\\x0a"))


def services_table(services: Iterable[ServiceStatus]) -> RenderableType:
    """Return a table of services and what they tell of themselves."""
    table = new_table("service", "state", "access", "free", "blocks", "mounts")
    for one in services:
        if one.error is not None:
            table.add_row(printable(one.url), Text("down", "bold red"))
            table.add_row(Text(f"  {printable(one.error)}", "red"))
            continue
        table.add_row(
            printable(one.url),
            Text("up", "green"),
            "?" if one.read_only is None else "read only" if one.read_only else "read, write",
            "?" if one.free is None else size_text(one.free),
            "?" if one.blocks is None else f"{one.blocks:,}",
            "?" if one.mounts is None else f"{len(one.mounts):,}",
        )
    return table


def verified_tables(verified: Verified) -> RenderableType:
    """Return the copies by service, what is wrong, and the verdict."""
    kinds = list(Copy)
    table = new_table("service", *(kind.value for kind in kinds))
    for root, counts in verified.services.items():
        cells = [
            Text(f"{counts[kind]:,}", _STYLES[kind] if counts[kind] else "dim") for kind in kinds
        ]
        table.add_row(printable(root), *cells)
    parts: list[RenderableType] = [table, ""]
    for block in verified.bad[:_MOST]:
        parts += _block(block, verified.wanted)
    if len(verified.bad) > _MOST:
        parts.append(f"and {count(len(verified.bad) - _MOST, 'block')} more")
    for path in verified.lost[:_MOST]:
        parts.append(Text(f"no good copy of a part of {path_text(path)}", "bold red"))
    if len(verified.lost) > _MOST:
        parts.append(f"and of {count(len(verified.lost) - _MOST, 'file')} more")
    parts.append(_verdict(verified))
    return Group(*parts)


def _block(block: Block, wanted: int) -> list[RenderableType]:
    name = stripped(block.locator)
    text = f"{name}: {block.good} good of {count(wanted, 'copy')}"
    lines: list[RenderableType] = [Text(text, "yellow" if block.good else "bold red")]
    for root, found in block.copies.items():
        if found in (Copy.CORRUPT, Copy.UNKNOWN) or root in block.errors:
            why = f": {block.errors[root]}" if root in block.errors else ""
            lines.append(Text(f"  {found.value} on {printable(root + why)}"))
    return lines


def _verdict(verified: Verified) -> Text:
    repaired = verified.repaired
    text = Text(
        f"{count(verified.blocks, 'block')} of {count(verified.files, 'file')}, "
        f"{size_text(verified.size)}"
    )
    if repaired:
        text.append(f"; {count(repaired, 'copy')} restored")
    text.append("\n")
    if verified.ok:
        text.append(f"Of each block there are {count(verified.wanted, 'good copy')}.", "bold green")
        return text
    if verified.missing:
        few = count(verified.missing, "copy")
        text.append(f"{few} of {count(len(verified.bad), 'block')} missing.", "bold red")
    else:
        text.append("Of each block there are enough copies, but some are corrupt.", "bold red")
    return text

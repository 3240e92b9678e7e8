"""`holdfast blockd`: a block service."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["blockd"]


# Its own parser reads the arguments, and gives the help.
@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
    short_help="Store blocks, and serve them by the Keep protocol.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def blockd(arguments: Sequence[str]) -> None:
    """Store blocks, and serve them by the Keep protocol."""
    from holdfast.blocks.server.command import main

    sys.exit(main(list(arguments), "holdfast blockd"))

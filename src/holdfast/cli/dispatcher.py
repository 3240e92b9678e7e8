"""`holdfast dispatcher`: start and administer one; also installed as ``harpcallerd``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["dispatcher"]


# Its own parser reads the arguments, and gives the help.
@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
    short_help="Start and administer the dispatcher of procedures.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def dispatcher(arguments: Sequence[str]) -> None:
    """Start and administer the dispatcher of procedures."""
    from holdfast.jobs.dispatcher.command import main

    sys.exit(main(list(arguments), "holdfast dispatcher"))

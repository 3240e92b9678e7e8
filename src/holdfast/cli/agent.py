"""`holdfast agent`: the host daemon, which is also installed as ``harpd``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["agent"]


# Its own parser reads the arguments, and gives the help.
@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
    short_help="Run procedures of this host for those who may call them.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def agent(arguments: Sequence[str]) -> None:
    """Run procedures of this host for those who may call them."""
    from holdfast.jobs.agent.command import main

    sys.exit(main(list(arguments), "holdfast agent"))

"""The group of commands; each one is imported when it is used."""

from __future__ import annotations

import importlib
from typing import Any

import click

from holdfast import __version__

__all__ = ["INTERRUPTED", "holdfast"]

#: The exit status after Ctrl-C: 128 and the signal's number, as shells have it.
INTERRUPTED = 130

_COMMANDS = {
    "agent": "holdfast.cli.agent",
    "blockd": "holdfast.cli.blockd",
    "blocks": "holdfast.cli.blocks",
    "call": "holdfast.cli.call",
    "demo": "holdfast.cli.demo.command",
    "dispatcher": "holdfast.cli.dispatcher",
    "get": "holdfast.cli.get",
    "jobs": "holdfast.cli.jobs",
    "ls": "holdfast.cli.ls",
    "put": "holdfast.cli.put",
    "request": "holdfast.cli.request",
    "simulate": "holdfast.cli.simulate",
    "verify": "holdfast.cli.verify",
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant; a name that there is not is told with the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(
                error.command_name, possibilities=_COMMANDS, ctx=ctx
            ) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="holdfast %(version)s")
def holdfast() -> None:
    """Call a cluster as if it were one host."""

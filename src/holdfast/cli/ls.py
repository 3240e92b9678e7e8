"""`holdfast ls`."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli.keepservices import AS_JSON, SERVICES, client_of, ending, service_options
from holdfast.wire.jsonlines import encode

__all__ = ["ls"]

EPILOG = f"""{SERVICES}
\b
Exit status:
  0    done
  1    the manifest cannot be read, or it is none
  2    the command line is wrong
  130  it was interrupted (Ctrl-C)
"""


@click.command(epilog=EPILOG, short_help="List the files of a manifest.")
@click.argument("locator")
@AS_JSON
@service_options
def ls(locator: str, as_json: bool, **where: Any) -> None:
    """List the files of a manifest: their sizes in bytes, and their paths.

    An empty folder has a slash at its end. With --json there is an object a line.
    """
    from holdfast.blocks.files import Files
    from holdfast.console.blocks import path_text

    with ending("nothing was changed"):
        with client_of(**where) as client:
            entries = Files(client).ls(locator)
        if as_json:
            for entry in entries:
                click.echo(encode(entry._asdict()), nl=False)
            return
        # Plain lines: a path is never broken, however long it is.
        width = max((len(f"{entry.size:,}") for entry in entries), default=0)
        for entry in entries:
            click.echo(f"{entry.size:>{width},}  {path_text(entry.path)}")

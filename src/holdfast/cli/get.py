"""`holdfast get`."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli.keepservices import (
    AS_JSON,
    PARALLEL,
    SERVICES,
    client_of,
    ending,
    service_options,
    transfer,
)
from holdfast.wire.jsonlines import encode

__all__ = ["get"]

EPILOG = f"""{SERVICES}
\b
Exit status:
  0    all files are there, and right
  1    they are not: no service has a block, or something is in the way
  2    the command line is wrong
  130  it was interrupted (Ctrl-C)
"""


@click.command(epilog=EPILOG, short_help="Restore files from blocks.")
@click.argument("locator")
@click.argument("folder", metavar="[DEST]", default=".", type=click.Path(file_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace other files that are in the way.")
@click.option("--fsync", is_flag=True, help="End when all of it has reached the disk.")
@PARALLEL
@AS_JSON
@service_options
def get(
    locator: str,
    folder: str,
    overwrite: bool,
    fsync: bool,
    parallel: int,
    as_json: bool,
    **where: Any,
) -> None:
    """Restore the files of a manifest into the folder DEST, by default the present one.

    Every block is checked. A file appears by its name when it is complete. What is there already,
    complete or in part, is checked and not fetched again: after an interruption give the same
    command again.
    """
    from holdfast.blocks.files import Files
    from holdfast.console.blocks import size_text
    from holdfast.console.pieces import count

    remedy = "" if overwrite else "--overwrite replaces other files that are in the way"
    resume = "what is there is not fetched again when the same command is given"
    with ending(resume, remedy):
        with client_of(**where) as client, transfer("get") as shown:
            done = Files(client).get(
                locator,
                folder,
                overwrite=overwrite,
                fsync=fsync,
                parallel=parallel,
                progress=shown.update,
            )
        if as_json:
            click.echo(encode(done._asdict()), nl=False)
            return
        click.echo(
            f"{count(done.files, 'file')}, {size_text(done.size)}; "
            f"fetched {count(done.fetched_blocks, 'block')} ({size_text(done.fetched)}) "
            f"in {shown.seconds:.1f} s",
            err=True,
        )

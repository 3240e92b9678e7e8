"""`holdfast verify`."""

from __future__ import annotations

import sys
from typing import Any

import click

from holdfast.cli.keepservices import (
    AS_JSON,
    COPIES,
    PARALLEL,
    SERVICES,
    client_of,
    ending,
    service_options,
    transfer,
)
from holdfast.wire.jsonlines import encode

__all__ = ["verify"]

EPILOG = f"""{SERVICES}
\b
Exit status:
  0    of each block there are enough good copies, and no corrupt ones
  1    there are not, or not even the manifest can be read
  2    the command line is wrong
  130  it was interrupted (Ctrl-C)
"""


@click.command(epilog=EPILOG, short_help="Check every copy of every block of a manifest.")
@click.argument("locator")
@COPIES
@click.option("--repair", is_flag=True, help="Replace corrupt copies, and restore missing ones.")
@PARALLEL
@AS_JSON
@service_options
def verify(
    locator: str, copies: int, repair: bool, parallel: int, as_json: bool, **where: Any
) -> None:
    """Read every copy of every block of a manifest, on every service, and check it.

    A service counts as one copy, also when it keeps several.
    """
    from holdfast.blocks.files import Files
    from holdfast.blocks.segments import stripped

    with ending("what was repaired stays so"):
        with client_of(**where) as client, transfer("verify") as shown:
            done = Files(client).verify(
                locator, copies, repair=repair, parallel=parallel, progress=shown.update
            )
        if as_json:
            message = {
                "ok": done.ok,
                "wanted": done.wanted,
                "files": done.files,
                "blocks": done.blocks,
                "size": done.size,
                "missing": done.missing,
                "repaired": done.repaired,
                "services": {
                    root: {kind.value: number for kind, number in counts.items()}
                    for root, counts in done.services.items()
                },
                "bad": [
                    {
                        "locator": stripped(block.locator),
                        "good": block.good,
                        "copies": {root: kind.value for root, kind in block.copies.items()},
                        "errors": block.errors,
                    }
                    for block in done.bad
                ],
                "lost": done.lost,
            }
            click.echo(encode(message), nl=False)
        else:
            from holdfast.console.blocks import verified_tables
            from holdfast.console.consoles import output

            output().print(verified_tables(done))
    sys.exit(0 if done.ok else 1)

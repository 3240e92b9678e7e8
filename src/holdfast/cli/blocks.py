"""`holdfast blocks`."""

from __future__ import annotations

import sys
from typing import Any

import click

from holdfast.cli.keepservices import AS_JSON, SERVICES, client_of, ending, service_options
from holdfast.wire.jsonlines import encode

__all__ = ["blocks"]

EPILOG = f"""{SERVICES}
\b
Exit status:
  0    all services answer
  1    some do not
  2    the command line is wrong
  130  it was interrupted (Ctrl-C)
"""


@click.group(epilog=EPILOG, short_help="Tell how the services of blocks are.")
def blocks() -> None:
    """Tell how the services of blocks are; see also put, get, ls, verify, and blockd."""


@blocks.command(epilog=EPILOG, short_help="Tell how each service is.")
@AS_JSON
@service_options
def status(as_json: bool, **where: Any) -> None:
    """Tell of each service whether it answers, what may be done there, and how much is free.

    How many blocks there are services tell only those with the system token.
    """
    from holdfast.blocks.files import Files

    with ending("nothing was changed"):
        with client_of(**where) as client:
            services = Files(client).status()
        if as_json:
            for one in services:
                mounts = None if one.mounts is None else [mount._asdict() for mount in one.mounts]
                click.echo(encode({**one._asdict(), "mounts": mounts}), nl=False)
        else:
            from holdfast.console.blocks import services_table
            from holdfast.console.consoles import output

            output().print(services_table(services))
    sys.exit(0 if all(one.error is None for one in services) else 1)

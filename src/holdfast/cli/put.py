"""`holdfast put`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["put"]

EPILOG = f"""{SERVICES}
\b
Exit status:
  0    all is stored, but for what --skip left out
  1    it is not: a file or a service failed, and nothing was printed
  2    the command line is wrong
  130  it was interrupted (Ctrl-C)

\b
Examples:
  holdfast put photos --copies 3
  holdfast put report.pdf data/ --service http://a:25107 --service http://b:25107
"""


def _there(_: click.Context, __: click.Parameter, paths: Sequence[str]) -> Sequence[str]:
    """Refuse paths at which there is nothing; what else cannot be stored, --skip may leave out."""
    for path in paths:
        if not os.path.lexists(path):
            raise click.BadParameter(f"Path {click.format_filename(path)!r} does not exist.")
    return paths


@click.command(epilog=EPILOG, short_help="Store files and folders as blocks.")
@click.argument(
    "paths",
    metavar="PATH…",
    nargs=-1,
    required=True,
    type=click.Path(readable=False),
    callback=_there,
)
@COPIES
@click.option(
    "--follow-links/--no-follow-links",
    default=True,
    show_default=True,
    help="Store what symbolic links lead to, or leave the links out.",
)
@click.option(
    "--skip",
    is_flag=True,
    help="Leave out what cannot be stored, and what changes meanwhile, instead of failing.",
)
@PARALLEL
@AS_JSON
@service_options
def put(
    paths: Sequence[str],
    copies: int,
    follow_links: bool,
    skip: bool,
    parallel: int,
    as_json: bool,
    **where: Any,
) -> None:
    """Store files and folders as blocks, and print the locator of their manifest.

    The locator is all that `holdfast get` needs. A PATH is stored by its name; of one that ends
    with a slash, or is ., what is in it. Names and contents are stored; modes, owners and times
    are not.

    What is there already is not sent again: after an interruption give the same command again.
    Where services sign locators, what they have signed is kept until then in the folder
    ~/.cache/holdfast/put, and the locator is good for as long as they say, usually two weeks.

    Sockets, pipes, devices, links that lead nowhere or in a circle, what cannot be read, and files
    that change while they are read, cannot be stored: they make the command fail, or --skip leaves
    them out, and names them.
    """
    from holdfast.blocks.files import Files
    from holdfast.blocks.files.journal import journal_path
    from holdfast.cli.following import complain
    from holdfast.console.blocks import size_text
    from holdfast.console.pieces import count

    resume = "what is stored is not sent again when the same command is given"
    with ending(resume, "" if skip else "--skip leaves out what cannot be stored"):
        with client_of(**where) as client:
            services = " ".join(one.root for one in client.build_services_list())
            journal = journal_path(client.core.token, services, paths)
            with transfer("put") as shown:
                done = Files(client).put(
                    paths,
                    copies,
                    follow_links=follow_links,
                    skip=skip,
                    parallel=parallel,
                    journal=journal,
                    progress=shown.update,
                )
        for problem in done.skipped:
            complain(f"left out: {problem}")
        if as_json:
            skipped = [one._asdict() for one in done.skipped]
            click.echo(encode({**done._asdict(), "skipped": skipped}), nl=False)
            return
        click.echo(
            f"{count(done.files, 'file')}, {size_text(done.size)}, "
            f"in {count(done.blocks, 'block')}; "
            f"sent {count(done.sent_blocks, 'block')} ({size_text(done.sent)}) "
            f"in {shown.seconds:.1f} s",
            err=True,
        )
        click.echo(done.locator)

"""Which services a command is for, and how it ends when it fails or is interrupted."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from holdfast.cli.commands import INTERRUPTED
from holdfast.cli.options import together

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.blocks import KeepClient
    from holdfast.console.transfers import Transfer

__all__ = ["AS_JSON", "COPIES", "PARALLEL", "client_of", "ending", "service_options", "transfer"]

#: The end of the help of each command.
SERVICES = """\b
Services, and the token that they want:
  ARVADOS_KEEP_SERVICES  URLs, with spaces between; --service stands for it
  ARVADOS_API_TOKEN      the token, which is no option: others see a command line
  KEEP_LOCAL_STORE       a folder for the blocks, instead of services
"""

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

COPIES = click.option(
    "--copies",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="On how many services each block is to be.",
)

PARALLEL = click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    metavar="N",
    help="How many blocks are under way at a time; each takes up to 64 MiB of memory.",
)

#: The options, which a command takes as keywords, for `client_of`.
service_options = together(
    click.option(
        "--service",
        "services",
        multiple=True,
        metavar="URL",
        help="A service; also several times.  [env var: ARVADOS_KEEP_SERVICES]",
    ),
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        metavar="N",
        help="How often services that failed are asked again for a block.",
    ),
)


@contextmanager
def client_of(services: Sequence[str], retries: int) -> Iterator[KeepClient]:
    """Have the client that the options ask for; raises UsageError."""
    from holdfast.blocks import ArgumentError, KeepBlockCache, KeepClient

    try:
        client = KeepClient(
            proxy=" ".join(services) if services else None,
            local_store="" if services else None,
            num_retries=retries,
            # Every block is used once.
            block_cache=KeepBlockCache(cache_max=1),
        )
    except ArgumentError as error:
        if "the API token" in str(error):
            raise click.UsageError(f"ARVADOS_API_TOKEN: {error}.") from None
        if services:
            raise click.UsageError(f"{error}.") from None
        if "no Keep service is known" not in str(error):
            raise click.UsageError(f"ARVADOS_KEEP_SERVICES: {error}.") from None
        raise click.UsageError(
            "Which services? Name one, or several, with --service URL or ARVADOS_KEEP_SERVICES."
        ) from None
    with client:
        yield client


@contextmanager
def ending(resume: str, remedy: str = "") -> Iterator[None]:
    """End the command when it fails, or is interrupted: then say how to go on.

    ``remedy``: what helps against files that cannot be stored, or restored.
    """
    from holdfast.blocks import ArgumentError
    from holdfast.cli.following import FAILED, complain
    from holdfast.errors import HoldfastError

    try:
        yield
    except ArgumentError as error:
        raise click.UsageError(f"{error}.") from None
    except (HoldfastError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise  # whoever read the output has enough; click ends the command
        complain(str(error))
        if hint := _hint(error, remedy):
            complain(hint)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        complain(f"interrupted; {resume}")
        sys.exit(INTERRUPTED)


def _hint(error: Exception, remedy: str) -> str:
    """Return what may help, if something does."""
    from holdfast.blocks.errors import HttpError, KeepRequestError
    from holdfast.blocks.files import FilesError

    if isinstance(error, FilesError) and ", since " in error.message:  # others no option mends
        return remedy
    if isinstance(error, KeepRequestError) and not os.environ.get("ARVADOS_API_TOKEN"):
        answers = error.request_errors().values()
        if any(isinstance(one, HttpError) and one.status_code == 401 for one in answers):
            return "the token is taken from ARVADOS_API_TOKEN, which is not set"
    return ""


def transfer(doing: str) -> Transfer:
    """Return what shows how far it is, on the standard error."""
    from holdfast.console.consoles import progress
    from holdfast.console.transfers import transfer_on

    return transfer_on(progress(), doing)

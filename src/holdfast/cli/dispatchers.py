"""Which dispatcher a command is for: the options that say so, and the client that they make.

No message repeats a token.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.options import together

if TYPE_CHECKING:
    from holdfast.jobs import HarpCaller

__all__ = ["CONTROL", "caller_of", "control_of", "dispatcher_options"]

#: The options, which a command takes as keywords, for `caller_of`.
dispatcher_options = together(
    click.option(
        "--dispatcher",
        "dispatchers",
        default="127.0.0.1:3502",
        show_default=True,
        envvar="HOLDFAST_DISPATCHER",
        show_envvar=True,
        metavar="HOST[:PORT],…",
        help="Where the dispatcher is; of several, the first that can be reached.",
    ),
    click.option(
        "--token",
        envvar="HOLDFAST_TOKEN",
        show_envvar=True,
        help="Who asks, for a dispatcher that is secured; others see what is on a command line.",
    ),
    click.option("--tls", is_flag=True, help="Encrypt; --ca and --cert do so, too."),
    click.option(
        "--ca",
        type=click.Path(exists=True),
        envvar="HOLDFAST_CA",
        show_envvar=True,
        metavar="FILE",
        help="Authorities to trust instead of the system's: a PEM file or a folder.",
    ),
    click.option(
        "--cert",
        type=click.Path(exists=True, dir_okay=False),
        envvar="HOLDFAST_CERT",
        show_envvar=True,
        metavar="FILE",
        help="The client's certificate and its key: a PEM file.",
    ),
)

#: The option of the commands that only an administrator may give.
CONTROL = click.option(
    "--control",
    type=click.Path(path_type=Path),
    envvar="HOLDFAST_CONTROL",
    show_envvar=True,
    metavar="PATH",
    help="The dispatcher's control socket.  [default: /var/run/harpcallerd/control]",
)


def caller_of(
    dispatchers: str, token: str | None, tls: bool, ca: str | None, cert: str | None
) -> HarpCaller:
    """Return the client that the options ask for; raises UsageError."""
    from holdfast.errors import InvalidRequest
    from holdfast.jobs import HarpCaller

    names = [name.strip() for name in dispatchers.split(",") if name.strip()]
    if not names:
        raise click.BadParameter("there is none.", param_hint="--dispatcher")
    try:
        return HarpCaller(names, tls=tls, ca_file=ca, cert=cert, token=token or None)
    except InvalidRequest as error:
        raise click.UsageError(f"{error}.") from None
    except OSError as error:
        raise click.BadParameter(
            f"{error.strerror or error}.", param_hint="--ca or --cert"
        ) from None


def control_of(path: Path | None) -> Path:
    """Return the control socket: the one that was named, or where it usually is."""
    from holdfast.jobs.dispatcher.control import SOCKET

    if path is not None:
        return path
    if SOCKET.exists():
        return SOCKET
    raise click.UsageError(
        "This is for the dispatcher's administrator, on its own machine, and not for clients: name "
        "the dispatcher's control socket with --control PATH or HOLDFAST_CONTROL (there is none at "
        f"{SOCKET})."
    )

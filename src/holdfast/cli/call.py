"""`holdfast call`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.commands import INTERRUPTED
from holdfast.cli.dispatchers import caller_of, dispatcher_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cli.following import JobPrinter
    from holdfast.jobs import HarpCaller, RemoteCall

__all__ = ["call"]

EPILOG = """\b
Exit status:
  0    there is a result; with --detach: the job was submitted
  1    the dispatcher cannot be reached, or refuses
  2    the command line is wrong; nothing was sent
  3    the procedure raised an exception
  4    the system failed: the host is unknown or unreachable, a time limit is over, …
  5    the job was cancelled
  130  it was interrupted (Ctrl-C); a message tells whether the job goes on

\b
Examples:
  holdfast call web1 uptime
  holdfast call web1 resize file=img.png width=800 --queue '{"disk": "sda"}'
  holdfast call web1 deploy version='"2.0"' --follow
  holdfast call web1 shift -- -5
"""


@click.command(epilog=EPILOG, short_help="Call a procedure on a host, through a dispatcher.")
@click.argument("host")
@click.argument("procedure")
@click.argument("arguments", nargs=-1, metavar="[ARG…] [KEY=JSON…]")
@click.option("--follow", is_flag=True, help="Print what it streams, as it comes.")
@click.option(
    "--queue", metavar="JSON", help="Wait in the queue of this name, which is a JSON object."
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many jobs of the queue run at once, if this one is its first.  [default: 1]",
)
@click.option(
    "--timeout", type=click.IntRange(min=1), metavar="SECONDS", help="The longest silence."
)
@click.option(
    "--max-exec-time",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    help="The longest that it may take, without the time in a queue.",
)
@click.option("--info", metavar="JSON", help="Anything that is to be known of the job.")
@click.option("--detach", is_flag=True, help="Only submit the job, and print its id.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@dispatcher_options
def call(
    host: str,
    procedure: str,
    arguments: Sequence[str],
    follow: bool,
    queue: str | None,
    concurrency: int | None,
    timeout: int | None,
    max_exec_time: int | None,
    info: str | None,
    detach: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Call a procedure on a host, through a dispatcher, and print its result.

    Arguments that parse as JSON are JSON (5, true, '{"a": 1}'), all others are strings; a string
    that would parse, or has a name and = in front, is to be quoted as JSON: '"5"', '"a=b"'.
    KEY=VALUE gives an argument by name. A procedure takes positional arguments or named ones, not
    both. After -- nothing is an option.

    Ctrl-C asks whether to cancel the job, on a terminal; elsewhere the job goes on.
    """
    if detach and follow:
        raise click.UsageError("Give --detach or --follow, not both.")
    positional, named = arguments_of(arguments)
    options = {
        "queue": _queue(queue),
        "concurrency": concurrency,
        "timeout": timeout,
        "max_exec_time": max_exec_time,
        "info": _json(info, "--info"),
    }
    with caller_of(**where) as caller:
        secure = any(where[name] for name in ("tls", "ca", "cert"))
        job = _submitted(caller, host, procedure, positional, named, options, secure)
        if detach:
            click.echo(json.dumps({"job": job.id()}) if as_json else job.id())
            return

        from holdfast.cli.following import JobPrinter

        printer = JobPrinter(as_json)
        try:
            printer.job(job)
            status = printer.follow(job, 0) if follow else printer.end(job)
        except KeyboardInterrupt:
            _interrupted(job, printer)
            status = INTERRUPTED
    sys.exit(status)


def arguments_of(arguments: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and named arguments; raises UsageError where there are both."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name.isidentifier():
            if name in named:
                raise click.UsageError(f"The argument {name} is given twice.")
            named[name] = _value(value)
        else:
            positional.append(_value(argument))
    if positional and named:
        raise click.UsageError(
            "A procedure takes positional arguments or named ones, not both; a string with = is "
            "to be quoted as JSON: '\"a=b\"'."
        )
    return positional, named


def _value(text: str) -> Any:
    """Return what a text is as JSON, else the text itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _json(text: str | None, option: str) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}.", param_hint=option) from None


def _queue(text: str | None) -> dict[str, Any] | None:
    name = _json(text, "--queue")
    if text is not None and not isinstance(name, dict):
        message = """it must be a JSON object, such as '{"disk": "sda"}'."""
        raise click.BadParameter(message, param_hint="--queue")
    return name  # type: ignore[no-any-return]


def _submitted(
    caller: HarpCaller,
    host: str,
    procedure: str,
    positional: list[Any],
    named: dict[str, Any],
    options: dict[str, Any],
    secure: bool,
) -> RemoteCall:
    """Submit the job, or exit."""
    from holdfast.cli.following import FAILED, complain
    from holdfast.jobs import CommunicationError, HarpException, InvalidCall, RemoteProcedure

    try:
        server = caller.host(host, **options)
        return RemoteProcedure(caller, server, procedure)(*positional, **named)
    except InvalidCall as error:
        raise click.UsageError(f"{error}.") from None
    except HarpException as error:
        complain(str(error))
        if isinstance(error, CommunicationError) and error.sent and error.job_id is not None:
            complain(f"it may have been submitted all the same, as job {error.job_id}")
            if not secure and not isinstance(error, TimeoutError):
                complain("if the dispatcher wants TLS: give --tls, or --ca FILE")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        complain("interrupted; it is not known whether the job was submitted")
        sys.exit(INTERRUPTED)


def _interrupted(job: RemoteCall, printer: JobPrinter) -> None:
    """Offer to cancel the job; say how to go on with one that is not."""
    from holdfast.cli.following import complain
    from holdfast.jobs import HarpException

    try:
        if sys.stdin.isatty() and sys.stderr.isatty():
            click.echo(err=True)
            if click.confirm(f"Cancel job {job.id()}?", default=False, err=True):
                was = job.cancel()
                complain(f"job {job.id()} {'was cancelled' if was else 'had ended already'}")
                return
    except HarpException as error:
        complain(str(error))
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
    printer.go_on(job)

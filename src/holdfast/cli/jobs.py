"""`holdfast jobs`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from holdfast.cli.commands import INTERRUPTED
from holdfast.cli.dispatchers import CONTROL, caller_of, control_of, dispatcher_options
from holdfast.wire.jsonlines import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["jobs"]

EPILOG = """\b
Exit status:
  0    done
  1    the dispatcher cannot be reached, or refuses{cancel}
  2    the command line is wrong
{follow}  130  it was interrupted (Ctrl-C); jobs go on
"""

_CANCEL = ", or one of the jobs neither waited nor ran"
_FOLLOW = "  3-5  as the job ended, see `holdfast call --help`\n"


def _epilog(cancel: str = "", follow: str = "") -> str:
    return EPILOG.format(cancel=cancel, follow=follow)


AS_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: one object a line, for programs."
)


def _refused(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            f"`holdfast jobs {ctx.info_name}` is for the dispatcher's administrator, on its own "
            "machine: it takes --control, the path of the dispatcher's control socket."
        )


#: What people try first, so that they learn why it is not there.
NOT_FOR_CLIENTS = click.option("--dispatcher", hidden=True, expose_value=False, callback=_refused)


@click.group(
    epilog=_epilog(_CANCEL, _FOLLOW.replace("as the", "follow: as the")),
    short_help="List, show, follow, cancel and prune jobs.",
)
def jobs() -> None:
    """List, show, follow, cancel and prune the jobs of a dispatcher.

    `show`, `follow` and `cancel` are for its clients, from anywhere (--dispatcher). `list` and
    `prune` are for its administrator, on its own machine: they need its control socket (--control).
    """


@jobs.command(name="list", epilog=_epilog(), short_help="List jobs.")
@click.option("-a", "--all", "everything", is_flag=True, help="Those that have ended, too.")
@AS_JSON
@CONTROL
@NOT_FOR_CLIENTS
def list_jobs(everything: bool, as_json: bool, control: Path | None) -> None:
    """List the jobs that wait or run, from the oldest on, with their queues.

    For the dispatcher's administrator, on its own machine: clients know the jobs that they have
    submitted, by their ids.
    """
    found = _asked(control, "list", {"all": everything, "queue": True, "end": True})
    if as_json:
        for job in found:
            click.echo(encode(job), nl=False)
        return
    from holdfast.console.consoles import output
    from holdfast.console.jobs import jobs_table

    output().print(jobs_table(list(found)))


@jobs.command(epilog=_epilog(), short_help="Tell all about a job.")
@click.argument("job_id", metavar="JOB")
@AS_JSON
@dispatcher_options
def show(job_id: str, as_json: bool, **where: Any) -> None:
    """Tell what a job is, when it ran, and how it ended."""
    from holdfast.cli.following import end_of
    from holdfast.jobs import HarpException

    with caller_of(**where) as caller:
        try:
            job = caller.job(job_id)
            end = end_of(job.result())
            if end is None and job.end_time() is not None:  # it has ended since
                end = end_of(job.result())
            about = {
                "job": job_id,
                "call": {
                    "host": job.host(),
                    "procedure": job.procedure(),
                    "arguments": job.args(),
                },
                "time": {
                    "submit": job.submit_time(),
                    "start": job.start_time(),
                    "end": job.end_time(),
                },
                "info": job.info(),
                "end": end,
            }
        except HarpException as error:
            _fail(str(error))
    if as_json:
        click.echo(encode(about), nl=False)
        return
    from holdfast.console.consoles import output
    from holdfast.console.jobs import job_table

    output().print(job_table(about))


@jobs.command(
    epilog=_epilog(follow=_FOLLOW), short_help="Print what a job streams, and its result."
)
@click.argument("job_id", metavar="JOB")
@click.option(
    "--since",
    type=click.IntRange(min=0),
    metavar="N",
    help="From packet number N on.  [default: 0]",
)
@click.option(
    "--recent", type=click.IntRange(min=0), metavar="N", help="From N packets before now on."
)
@AS_JSON
@dispatcher_options
def follow(job_id: str, since: int | None, recent: int | None, as_json: bool, **where: Any) -> None:
    """Print a job's packets as they come, and its result; also of a job that has ended."""
    if since is not None and recent is not None:
        raise click.UsageError("Give --since or --recent, not both.")
    from holdfast.cli.following import JobPrinter

    printer = JobPrinter(as_json)
    with caller_of(**where) as caller:
        try:
            first = 0 if recent is None and since is None else since
            status = printer.follow(caller.job(job_id), first, recent)
        except KeyboardInterrupt:
            status = INTERRUPTED
    sys.exit(status)


@jobs.command(epilog=_epilog(_CANCEL), short_help="Cancel jobs.")
@click.argument("job_ids", metavar="JOB…", nargs=-1, required=True)
@AS_JSON
@dispatcher_options
def cancel(job_ids: Sequence[str], as_json: bool, **where: Any) -> None:
    """Cancel jobs that wait or run; exits with 1 if one of them does neither."""
    from holdfast.cli.following import complain
    from holdfast.jobs import HarpException, RemoteError

    every = True
    with caller_of(**where) as caller:
        for job_id in job_ids:
            try:
                was = caller.job(job_id).cancel()
            except RemoteError as error:  # the others may be had all the same
                complain(f"{job_id}: {error}")
                every = False
                continue
            except HarpException as error:
                _fail(str(error))
            every = every and was
            if as_json:
                click.echo(encode({"job": job_id, "cancelled": was}), nl=False)
            else:
                click.echo(f"{job_id} {'was cancelled' if was else 'neither waits nor runs'}")
    sys.exit(0 if every else 1)


@jobs.command(epilog=_epilog(), short_help="Forget jobs that ended long ago.")
@click.option(
    "--age",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    metavar="DAYS",
    help="How long ago.",
)
@AS_JSON
@CONTROL
@NOT_FOR_CLIENTS
def prune(age: float, as_json: bool, control: Path | None) -> None:
    """Forget jobs that ended long ago, with all that they streamed.

    For the dispatcher's administrator, on its own machine.
    """
    for answer in _asked(control, "prune-jobs", {"age": age}):
        if as_json:
            click.echo(encode(answer), nl=False)
        else:
            from holdfast.console.pieces import count

            click.echo(f"{count(answer['pruned'], 'job')} forgotten")


def _asked(control: Path | None, command: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give an administrative command; exits where it cannot be carried out."""
    from holdfast.jobs.dispatcher.administration import CommandFailed, NotRunning, ask

    try:
        yield from ask(control_of(control), command, options)
    except (CommandFailed, NotRunning, OSError) as error:
        _fail(str(error))


def _fail(sentence: str) -> NoReturn:
    from holdfast.cli.following import FAILED, complain

    complain(sentence)
    sys.exit(FAILED)

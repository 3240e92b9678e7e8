"""`holdfast demo`."""

from __future__ import annotations

import importlib.util
import sys

import click

__all__ = ["demo"]

EPILOG = """\b
Exit status:
  0    no call was lost
  1    a call, a job or a file was lost, or a server did not start
  2    the command line is wrong
  130  it was interrupted (Ctrl-C)
"""


@click.command(epilog=EPILOG, short_help="See calls survive a server that is killed.")
@click.option(
    "--calls",
    type=click.IntRange(min=30),
    default=20_000,
    show_default=True,
    metavar="N",
    help="How many calls to make in all, at least.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=1_600,
    show_default=True,
    metavar="N",
    help="Calls a second, at most; 0 for as fast as they go.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    metavar="N",
    help="Threads that call through Cluster, and as many through Replicas.",
)
@click.option(
    "--mib",
    type=click.IntRange(1, 1 << 20),
    default=1024,
    show_default=True,
    metavar="N",
    help="MiB of files to store as blocks: four times as much is on the disk for a while.",
)
@click.option(
    "--retry/--no-retry",
    default=True,
    help="Without retries the clusters lose calls: see what they are for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def demo(calls: int, rate: float, threads: int, mib: int, retry: bool, as_json: bool) -> None:
    """See thousands of calls survive a server that is killed and comes back.

    Starts three HTTP servers as processes on loopback and calls them through Cluster and Replicas
    from threads, and through AsyncCluster and AsyncReplicas from asyncio. After a third of the
    calls one server is killed (SIGKILL), after half of them it is started again. Each answer is
    checked against its question. Then event streams are watched while their servers are killed,
    jobs run on three hosts through a dispatcher that is killed, too, and files are stored as blocks
    on five services, of which one is lost with its disk. Ends with tables of what the callers saw.
    """
    for package in ("cryptography", "passlib", "rich", "starlette", "uvicorn", "yaml"):
        if importlib.util.find_spec(package) is None:  # the servers would fail one by one
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    from holdfast.cli.demo.course import Plan, run
    from holdfast.cli.demo.servers import ServerFailed
    from holdfast.console import consoles
    from holdfast.console.display import display_on

    plan = Plan(calls=calls, rate=rate, threads=threads, retry=retry, mebibytes=mib)
    try:
        with display_on(consoles.progress()) as display:
            report = run(plan, display)
    except ServerFailed as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        import orjson

        click.echo(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2))
    else:
        from holdfast.console.tables import report_tables

        consoles.output().print(report_tables(report))
    sys.exit(0 if report.ok else 1)

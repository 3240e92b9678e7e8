"""`holdfast simulate`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.simulation.report import Report
    from holdfast.simulation.scenario import Scenario

__all__ = ["simulate"]

EPILOG = """\b
Exit status:
  0    the scenario ran to its end
  1    the picture could not be written
  2    the command line or the scenario is wrong
  130  it was interrupted (Ctrl-C)

\b
Examples:
  holdfast simulate examples/simulate/retry-storm.toml
  holdfast simulate examples/simulate/retry-storm.toml --plot retry-storm.png
  holdfast simulate examples/simulate/slow-host.toml --seed 7 --json
"""


@click.command(epilog=EPILOG, short_help="See how a policy does in a simulated outage.")
@click.argument("scenario", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    help="Run this variant only. Once for each.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), metavar="N", help="Another seed than the scenario's."
)
@click.option(
    "--every",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How much time a row of the table stands for; by default the table fits on a screen.",
)
@click.option(
    "--plot",
    "picture",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Draw the report into a file: .png, .svg or .pdf.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def simulate(
    scenario: str,
    variants: Sequence[str],
    seed: int | None,
    every: float | None,
    picture: str | None,
    as_json: bool,
) -> None:
    """See how a policy does in a simulated outage, in virtual time.

    SCENARIO is a TOML file that tells the clients with their policy, the load, the hosts and the
    faults. Clients and policies are those of production; time, network and hosts are simulated.
    The same scenario and seed give the same output. Shows offered load, goodput, attempts a call,
    latencies and ejections over time, of all variants in the file beside each other.
    """
    for package in ("rich", "matplotlib") if picture else ("rich",):
        if importlib.util.find_spec(package) is None:  # said before minutes of work, not after
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    from holdfast.console import consoles

    plan = _read(scenario, variants, seed)
    if picture is not None:
        _check(picture)
    report = _run(plan)
    if as_json:
        import orjson

        click.echo(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2))
    else:
        from holdfast.console.simulation import simulation_tables

        consoles.output().print(simulation_tables(report, every))
    if picture is not None:
        sys.exit(_draw(report, picture))


def _read(path: str, variants: Sequence[str], seed: int | None) -> Scenario:
    from holdfast.simulation.scenario import Scenario

    try:
        scenario = Scenario.from_toml(path)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror or error}.") from None
    except ValueError as error:
        raise click.UsageError(f"{path}: {_sentence(error)}") from None
    try:
        return scenario.chosen(variants, seed)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--variant") from None


def _sentence(error: ValueError) -> str:
    text = str(error)
    return text if text.endswith(("?", ".")) else f"{text}."


def _check(picture: str) -> None:
    from holdfast.simulation.plot import TYPES

    if not picture.lower().endswith(TYPES):
        known = ", ".join(TYPES)
        raise click.BadParameter(f"{picture} does not end in {known}.", param_hint="--plot")
    folder = Path(picture).parent
    if not folder.is_dir():
        raise click.BadParameter(f"there is no folder {folder}.", param_hint="--plot")


def _run(scenario: Scenario) -> Report:
    """Run a scenario, with a bar on a terminal."""
    from rich.progress import Progress

    from holdfast.console import consoles
    from holdfast.simulation.run import run

    console = consoles.progress()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(
            "simulating", total=sum(variant.duration for variant in scenario.variants.values())
        )

        def advanced(seconds: float) -> None:
            progress.advance(task, seconds)

        return run(scenario, advanced)


def _draw(report: Report, picture: str) -> int:
    from holdfast.cli.answers import complain
    from holdfast.simulation.plot import plot

    try:
        plot(report, picture)
    except OSError as error:
        complain(f"{picture} cannot be written: {error.strerror or error}")
        return 1
    return 0

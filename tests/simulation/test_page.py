"""The documentation's page on simulations says what is true."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from holdfast.simulation.faults import Fault
from holdfast.simulation.load import Load
from holdfast.simulation.run import run
from holdfast.simulation.scenario import Between, Clients, Hosts, Scenario, Variant

PAGE = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """Return the code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("kind", [Load, Clients, Hosts, Between, Fault, Variant])
def test_every_key_is_named(kind: type) -> None:
    """There is no key of a scenario that the page does not know."""
    for field in fields(kind):
        assert re.search(rf"`{field.name}`|\[{field.name}\]", PAGE), field.name


@pytest.mark.slow
def test_the_scenario_runs() -> None:
    """The scenario of the page is one, and shows what it is meant to show."""
    (text,) = blocks("toml")
    report = run(Scenario.from_dict(tomllib.loads(text)))
    turns, ewma = (one.phases["during"].quantile(0.99) for one in report.outcomes)
    assert turns is not None
    assert ewma is not None
    assert turns > 2 * ewma


def test_the_programs_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The programs of the page run as they are, tests included."""
    for code in blocks("python"):
        names: dict[str, object] = {}
        exec(code, names)
        for name, value in names.items():
            if name.startswith("test_") and callable(value):
                value()
    assert capsys.readouterr().out.startswith("<Host 10.0.0.1:80 up: ")

import json
import re
import tomllib
from pathlib import Path

import pytest

from holdfast import __version__
from tests.cli.conftest import Execute, Invoke

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def test_version(execute: Execute) -> None:
    """The version is printed."""
    done = execute("--version")
    assert (done.returncode, done.stdout) == (0, f"holdfast {__version__}\n".encode())


@pytest.mark.parametrize(
    "command",
    [
        (),
        *(("blocks",), ("blocks", "status")),
        ("call",),
        ("demo",),
        *((name,) for name in ("get", "ls", "put", "verify")),
        ("jobs",),
        *(("jobs", name) for name in ("cancel", "follow", "list", "prune", "show")),
        ("request",),
        ("simulate",),
    ],
)
def test_help(invoke: Invoke, command: tuple[str, ...]) -> None:
    """Each command has a help, and those that do something tell their exit statuses."""
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout
    assert bool(command) == bool(re.search(r"^  Exit status:\n    0 ", result.stdout, re.M))


def test_commands_are_listed(invoke: Invoke) -> None:
    """The help names the commands, each with a whole sentence."""
    listed = invoke("--help").stdout.partition("Commands:")[2]
    names = ["agent", "blockd", "blocks", "call", "demo", "dispatcher", "get", "jobs", "ls"]
    names += ["put", "request", "simulate", "verify"]
    assert re.findall(r"^  (\w+)  +\S.*\.$", listed, re.M) == names
    assert "..." not in listed


@pytest.mark.parametrize("arguments", [("nonsense",), ("--nonsense",), ("demo", "--calls", "few")])
def test_usage_errors(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    """A wrong command line ends with status 2 and says so on the standard error."""
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


def test_a_command_that_is_misspelt(invoke: Invoke) -> None:
    """The nearest command is named, where there is one."""
    said = invoke("reqest", "GET", "/").stderr
    assert "No such command 'reqest'. Did you mean 'request'?" in said
    assert "Did you mean" not in invoke("xyz").stderr


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("click", "cli", ("--version",)),
        ("rich", "cli", ("request", "GET", "/", "--host", "127.0.0.1:1")),
        ("starlette", "demo", ("demo",)),
        ("uvicorn", "demo", ("demo",)),
        ("yaml", "jobs", ("agent", "--test")),
        ("uvicorn", "blocks", ("blockd", "--data", ".", "--port", "0")),
        ("matplotlib", "plot", ("simulate", __file__, "--plot", "x.png")),
    ],
)
def test_missing_extra(
    execute: Execute, package: str, extra: str, arguments: tuple[str, ...]
) -> None:
    """Without the packages of an extra, one sentence tells how to install it."""
    done = execute(*arguments, prelude=WITHOUT.format(package=package))
    assert (done.returncode, done.stdout) == (1, b"")
    said = done.stderr.decode()
    assert said.count("\n") == 1
    assert package in said
    assert f"pip install 'holdfast[{extra}]'" in said


def test_demo_extra() -> None:
    """The extra of the demo brings what all that it starts needs: jobs, blocks, their servers."""
    extras = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["optional-dependencies"]

    def packages(extra: str) -> set[str]:
        found: set[str] = set()
        for requirement in extras[extra]:
            if inner := re.match(r"holdfast\[(.+)\]", requirement):
                found.update(*(packages(name) for name in inner[1].split(",")))
            else:
                found.add(re.split(r"[\[<>=]", requirement)[0])
        return found

    assert packages("demo") >= packages("cli") | packages("jobs") | packages("blocks")


def test_other_missing_packages_are_told_as_they_are(execute: Execute) -> None:
    """A package that no extra brings is no reason to speak of extras."""
    done = execute(
        "--version",
        prelude=WITHOUT.format(package="importlib_resources")
        + """
import holdfast.cli
holdfast.cli._EXTRAS.clear()
sys.modules["click"] = None
""",
    )
    assert done.returncode == 1
    assert b"ModuleNotFoundError" in done.stderr


def test_start_imports_little(execute: Execute) -> None:
    """Neither the version nor a help loads what only the commands need."""
    prelude = """
import atexit, json, sys
heavy = ("matplotlib", "rich", "starlette", "uvicorn", "uvloop", "holdfast.jobs", "holdfast.rest")
atexit.register(lambda: print(json.dumps([name for name in heavy if name in sys.modules])))
"""
    for arguments in (("--version",), ("--help",), ("request", "--help"), ("call", "--help")):
        done = execute(*arguments, prelude=prelude)
        assert json.loads(done.stdout.splitlines()[-1]) == []

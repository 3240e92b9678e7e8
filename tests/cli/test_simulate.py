import json
from pathlib import Path

import pytest

from tests.cli.conftest import Execute, Invoke, OnTerminal

SMALL = """
title = "A small scenario"
description = "Two hosts, one of which is lost for a while."
seed = 3
duration = 6.0
load = { rate = 40.0 }
hosts = { count = 2, service = 0.01 }

[[fault]]
kind = "crash"
hosts = 1
at = 2.0
until = 4.0
"""

VARIANTS = """
[variant."with retries"]
[variant."without".policy]
retry = false
breaker = false
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    """Return the path of a small scenario."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL, "utf-8")
    return str(path)


@pytest.fixture
def two(tmp_path: Path) -> str:
    """Return the path of a scenario with two variants."""
    path = tmp_path / "two.toml"
    path.write_text(SMALL + VARIANTS, "utf-8")
    return str(path)


def test_tables(invoke: Invoke, small: str) -> None:
    """A scenario ends in a table of its phases and one of its course, which marks the faults."""
    result = invoke("simulate", small, "--every", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "A small scenario"
    assert "phase calls/s good/s failed att. p50 p99 p99.9 out open" in lines
    assert [line.partition(",")[0] for line in lines if " s 4" in line or " s 3" in line] == [
        "before",
        "during",
        "after",
    ]
    rows = [line.split()[:2] for line in lines if line[:2] in ("0 ", "2 ", "4 ")]
    assert [row[0] for row in rows] == ["0", "2", "4"]
    assert [row[1] == "A" for row in rows] == [False, True, False]
    assert "A 1 host down" in lines


def test_variants_stand_beside_each_other(invoke: Invoke, two: str) -> None:
    """Each phase has a row for each variant, and each variant columns in the course."""
    text = invoke("simulate", two).stdout
    assert text.count("with retries") == text.count("without") == 3 + 1
    heading = next(
        line for line in text.splitlines() if "with retries" in line and "without" in line
    )
    assert heading.index("with retries") < heading.index("without")


def test_chosen_variant(invoke: Invoke, two: str) -> None:
    """A variant can be run alone."""
    result = invoke("simulate", two, "--variant", "without", "--json")
    assert [one["name"] for one in json.loads(result.stdout)["variants"]] == ["without"]


def test_json(invoke: Invoke, two: str) -> None:
    """The whole report is one JSON object, the same for the same seed."""
    first, again = (invoke("simulate", two, "--json").stdout for _ in range(2))
    other = invoke("simulate", two, "--json", "--seed", "4").stdout
    assert first == again != other
    report = json.loads(first)
    assert (report["title"], report["seed"]) == ("A small scenario", 3)
    with_retries, without = report["variants"]
    assert len(without["periods"]) == 6
    assert without["phases"]["during"]["failed"] > with_retries["phases"]["during"]["failed"] == 0
    assert without["faults"] == [{"label": "1 host down", "start": 2.0, "end": 4.0}]


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1"])
def test_processes_agree(execute: Execute, small: str, seed: str) -> None:
    """Another process, which hashes texts in another way, comes to the same report."""
    prelude = f"import os, sys\nif os.environ.get('PYTHONHASHSEED') != '{seed}':\n"
    prelude += f"    os.environ['PYTHONHASHSEED'] = '{seed}'\n"
    prelude += "    os.execv(sys.executable, sys.orig_argv)\n"
    done = execute("simulate", small, "--json", prelude=prelude)
    plain = execute("simulate", small, "--json")
    assert done.returncode == 0
    assert done.stdout == plain.stdout


def test_plot(invoke: Invoke, small: str, tmp_path: Path) -> None:
    """A picture is drawn beside the table."""
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out.png"
    result = invoke("simulate", small, "--plot", str(picture))
    assert result.exit_code == 0
    assert "A small scenario" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_plot_that_cannot_be_written(invoke: Invoke, small: str, tmp_path: Path) -> None:
    """A picture that cannot be written ends with status 1, after the table."""
    pytest.importorskip("matplotlib")
    result = invoke("simulate", small, "--plot", str(tmp_path / ("x" * 300 + ".png")))
    assert result.exit_code == 1
    assert "A small scenario" in result.stdout
    assert "x.png cannot be written: File name too long" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--variant", "other"), "there is no variant 'other'"),
        (("--plot", "out.txt"), "out.txt does not end in .png, .svg, .pdf."),
        (("--plot", "missing/out.png"), "there is no folder missing."),
        (("--every", "0"), "0"),
        (("--seed", "-1"), "-1"),
        (("--seed", "x"), "x"),
    ],
)
def test_wrong_options(invoke: Invoke, small: str, arguments: tuple[str, ...], said: str) -> None:
    """A wrong option ends with status 2 before anything is simulated."""
    pytest.importorskip("matplotlib")
    result = invoke("simulate", small, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("duration = -1", "Scenario: duration must be above 0 and finite, not -1."),
        ("[policy.retry]\nattempts = 0", "policy.retry.attempts"),
        ("duration =", "not valid TOML"),
        ("durration = 1.0", "did you mean duration?\n"),
    ],
)
def test_wrong_scenarios(invoke: Invoke, tmp_path: Path, text: str, said: str) -> None:
    """A wrong scenario ends with status 2, and names the file, the key and the value."""
    path = tmp_path / "wrong.toml"
    path.write_text(text, "utf-8")
    result = invoke("simulate", str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(path) in result.stderr
    assert said in result.stderr


def test_missing_scenario(invoke: Invoke, tmp_path: Path) -> None:
    """A file that is not there ends with status 2."""
    result = invoke("simulate", str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert "none.toml" in result.stderr


def test_what_a_file_says_cannot_take_over_the_terminal(invoke: Invoke, tmp_path: Path) -> None:
    """Control characters in titles and names are shown, not obeyed."""
    path = tmp_path / "evil.toml"
    path.write_text('title = "a\\u001b[2Jb"\nduration = 1.0\n[variant."\\u001b[31mx"]\n', "utf-8")
    result = invoke("simulate", str(path))
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "a\\x1b[2Jb" in result.stdout


def test_on_a_terminal(on_terminal: OnTerminal, two: str) -> None:
    """On a terminal of 80 columns the tables fit, and nothing is cut off."""
    status, screen = on_terminal("simulate", two)
    assert status == 0
    assert "with retries" in screen
    assert "…" not in screen


def test_rows_are_of_whole_periods(invoke: Invoke, small: str) -> None:
    """The legend says how long a row is, not how long it was wished to be."""
    assert "; 1 s a row" in invoke("simulate", small, "--every", "0.3").stdout
    assert "; 2 s a row" in invoke("simulate", small, "--every", "2.2").stdout


@pytest.mark.slow
def test_many_variants_on_a_terminal(on_terminal: OnTerminal, tmp_path: Path) -> None:
    """Variants that do not fit beside each other are shown below each other."""
    path = tmp_path / "many.toml"
    path.write_text(SMALL + "".join(f"[variant.number-{n}]\n" for n in range(7)), "utf-8")
    status, screen = on_terminal("simulate", str(path))
    assert status == 0
    assert "…" not in screen
    assert screen.count("number-6") == screen.count("number-0")


def test_variants_with_a_load_of_their_own(invoke: Invoke, tmp_path: Path) -> None:
    """Each has its own load, hosts and time in its table; the legend names all of them."""
    path = tmp_path / "different.toml"
    more = """
[variant.little.load]
rate = 10.0
[variant.much]
duration = 9.0
hosts = { count = 4 }
"""
    path.write_text(SMALL + more, "utf-8")
    result = invoke("simulate", str(path))
    assert "6/9 s, 1 client, 2/4 hosts, seed 3" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    heads = [line for line in lines if line[:3] == ["from", "s", "calls/s"]]
    assert [head[-1] for head in heads] == ["open", "open"]
    assert [line[0] for line in lines if line[:1] == ["8"]] == ["8"]
    assert "much, 4–9 s" in result.stdout

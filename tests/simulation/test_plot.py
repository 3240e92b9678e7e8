from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.simulation.metrics import Meter
from holdfast.simulation.report import Outcome, Report, Shade

pytest.importorskip("matplotlib")
from holdfast.simulation.plot import plot


def made(name: str = "", ejected: float = 0.0) -> Outcome:
    """Return an outcome as a simulation may have, with a gap where every call failed."""
    periods = Meter(10.0, 1.0).periods
    for number, period in enumerate(periods):
        period.offered = period.attempts = 10
        period.ejected = ejected
        for _ in range(10):
            if number == 5:
                period.fail("ReadTimeout")
            else:
                period.succeed(0.01 * (number + 1))
    return Outcome(name, periods, (Shade("1 host down", 5.0, 6.0),), 0.0, 10.0, 1, 2, 100, 0)


def report(*outcomes: Outcome) -> Report:
    """Return a report of outcomes."""
    return Report("A storm", "", 1, outcomes or (made(),))


def drawn(path: Path, *outcomes: Outcome) -> str:
    """Draw a report and return the comments of the SVG, which hold its texts."""
    plot(report(*outcomes), path)
    return path.read_text("utf-8")


def test_png(tmp_path: Path) -> None:
    """A picture is written as a PNG, and is the same for the same report."""
    for name in ("a.png", "b.png"):
        plot(report(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_other_types(tmp_path: Path, kind: str) -> None:
    """The name's ending tells the type, and nothing in a file tells when it was made."""
    for name in ("a", "b"):
        plot(report(), tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.slow
def test_texts(tmp_path: Path) -> None:
    """A picture names the scenario, its variants, its faults, and what each row shows."""
    text = drawn(tmp_path / "a.svg", made("one", ejected=1.0), made("other"))
    for said in ("A storm", "one", "other", "1 host down", "calls/s", "attempts a call"):
        assert f"<!-- {said} -->" in text
    for said in ("latency, ms", "hosts out", "offered", "goodput", "failed", "p99.9", "ejected"):
        assert f"<!-- {said} -->" in text


def test_no_ejections_are_no_row(tmp_path: Path) -> None:
    """A row in which there would be nothing to be seen is left out."""
    assert "<!-- hosts out -->" not in drawn(tmp_path / "a.svg")


def test_faults_without_an_end(tmp_path: Path) -> None:
    """A fault that never ends is drawn to the end of the run."""
    lasting = replace(made(), shades=(Shade("down", 5.0, float("inf")),))
    assert "<!-- down -->" in drawn(tmp_path / "a.svg", lasting)


def test_nothing_to_draw(tmp_path: Path) -> None:
    """A run without a single call has a picture, too."""
    empty = replace(made(), periods=Meter(10.0, 1.0).periods)
    assert "<!-- calls/s -->" in drawn(tmp_path / "a.svg", empty)


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    """A picture that cannot be written is an OSError."""
    with pytest.raises(OSError, match="No such file"):
        plot(report(), tmp_path / "missing" / "a.png")


def test_what_looks_like_a_formula(tmp_path: Path) -> None:
    """Titles and names are drawn as they are written."""
    odd = Report("a $5_$ storm", "", 0, (replace(made(), name="$_$"),))
    plot(odd, tmp_path / "a.svg")
    assert "<!-- a $5_$ storm -->" in (tmp_path / "a.svg").read_text("utf-8")


def test_the_longest_variant_is_drawn_whole(tmp_path: Path) -> None:
    """All variants share the time of the longest, in whichever order they come."""
    short = replace(made("short"), duration=2.0)
    text = drawn(tmp_path / "a.svg", made("long"), short)
    assert "<!-- 10 -->" in text

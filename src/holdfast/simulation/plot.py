"""A simulation's report as a picture, by matplotlib (the extra ``plot``).

Variants stand beside each other, one column each. The rows share the time axis and, among the
variants, the scale of what they show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from holdfast.simulation.metrics import QUANTILES

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes

    from holdfast.simulation.report import Outcome, Report

__all__ = ["TYPES", "plot"]

#: What the names of pictures may end in.
TYPES = (".png", ".svg", ".pdf")

# Colours that those who see few of them can tell apart (M. Okabe and K. Ito, 2008).
_GREY, _GREEN, _RED, _ORANGE = "#999999", "#009e73", "#d55e00", "#e69f00"
_BLUES = {"p50": "#56b4e9", "p99": "#0072b2", "p99.9": "#003a5c"}

_ROWS = {"calls/s": 3.0, "attempts a call": 1.6, "latency, ms": 2.6, "hosts out": 1.4}
_DPI = 110

#: By type of picture, what is left out: versions and dates, which would change the file.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def plot(report: Report, path: str | PathLike[str]) -> None:
    """Draw a report into a file, of the type that its name ends in (see ``TYPES``).

    The same report is the same file. Raises OSError when it cannot be written, ValueError when
    the type is not known.
    """
    rows = dict(_ROWS)
    if not any(period.ejected or period.open for one in report.outcomes for period in one.periods):
        del rows["hosts out"]  # there is nothing to be seen
    size = (max(7.0, 1.9 + 3.5 * len(report.outcomes)), 0.8 + 0.75 * sum(rows.values()))
    # What would be drawn at random, or tell the time, is fixed or left out.
    with rc_context({"svg.hashsalt": "holdfast", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(
            len(rows),
            len(report.outcomes),
            squeeze=False,
            sharex=True,
            sharey="row",
            height_ratios=list(rows.values()),
        )
        figure.suptitle(report.title, fontsize=12, fontweight="bold", parse_math=False)
        for number, outcome in enumerate(report.outcomes):
            _column([row[number] for row in grid], outcome)
        grid[0][0].set_xlim(0, max(outcome.duration for outcome in report.outcomes))
        for row, label in zip(grid, rows, strict=True):
            row[0].set_ylabel(label, fontsize=9)
            if label != "latency, ms":
                row[0].set_ylim(*_scale(label, report))
            if label != "attempts a call":  # a single line, whose name is there already
                row[-1].legend(
                    fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False
                )
        kind = str(path).lower().rpartition(".")[2]
        figure.savefig(path, metadata=_METADATA.get(kind))


def _column(axes: list[Axes], outcome: Outcome) -> None:
    """Draw a variant from the top to the bottom."""
    for axis, draw in zip(axes, (_rates, _attempts, _latencies, _out), strict=False):
        draw(axis, outcome)
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        for shade in outcome.shades:
            end = min(shade.end, outcome.duration)
            axis.axvspan(shade.start, end, color=_RED, alpha=0.12, linewidth=0)
    axes[0].set_title(outcome.name, fontsize=10, parse_math=False)
    axes[-1].set_xlabel("seconds", fontsize=9)
    for number, shade in enumerate(outcome.shades):
        # Above all lines, because the axis leaves room for it; several below each other.
        axes[0].annotate(
            shade.label,
            (shade.start, 1.0 - 0.08 * number),
            (3, -3),
            xycoords=axes[0].get_xaxis_transform(),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color=_RED,
        )


def _scale(label: str, report: Report) -> tuple[float, float]:
    """Return the lowest and the highest value of a row's axis, which all variants share."""
    periods = [period for outcome in report.outcomes for period in outcome.periods]
    if label == "calls/s":  # with room above for the names of faults
        return 0.0, 1.25 * max([1.0, *(period.offered / period.seconds for period in periods)])
    if label == "hosts out":
        return 0.0, 1.1 * max([1.0, *(max(period.ejected, period.open) for period in periods)])
    known = [period.per_call for period in periods if period.per_call is not None]
    return min([0.95, *known]), 1.04 * max([1.2, *known])


def _times(outcome: Outcome) -> list[float]:
    return [(period.start + period.end) / 2 for period in outcome.periods]


def _rates(axis: Axes, outcome: Outcome) -> None:
    times, periods = _times(outcome), outcome.periods
    offered = [period.offered / period.seconds for period in periods]
    good = [period.good / period.seconds for period in periods]
    failed = [period.failed / period.seconds for period in periods]
    axis.fill_between(times, offered, color=_GREY, alpha=0.25, linewidth=0)
    axis.plot(times, offered, color=_GREY, linewidth=1.2, label="offered")
    axis.plot(times, failed, color=_RED, linewidth=1.2, label="failed")
    axis.plot(times, good, color=_GREEN, linewidth=1.8, label="goodput")


def _attempts(axis: Axes, outcome: Outcome) -> None:
    values = [_or_gap(period.per_call) for period in outcome.periods]
    axis.plot(_times(outcome), values, color=_ORANGE, linewidth=1.6, label="attempts")


def _latencies(axis: Axes, outcome: Outcome) -> None:
    axis.set_yscale("log")
    for name, share in QUANTILES.items():
        values = [_or_gap(period.quantile(share), 1000) for period in outcome.periods]
        axis.plot(_times(outcome), values, color=_BLUES[name], linewidth=1.2, label=name)
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def _out(axis: Axes, outcome: Outcome) -> None:
    times, periods = _times(outcome), outcome.periods
    ejected = [period.ejected for period in periods]
    axis.plot(times, ejected, color=_RED, linewidth=1.6, label="ejected")
    axis.plot(
        times,
        [period.open for period in periods],
        color=_GREY,
        linewidth=1.2,
        linestyle="--",
        label="circuit open",
    )
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _or_gap(value: float | None, factor: float = 1.0) -> float:
    return float("nan") if value is None else value * factor

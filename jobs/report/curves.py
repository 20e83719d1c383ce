"""Curves on axes, with what stands beside them: marks, bands, scales and legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobs.report.findings import Named
from jobs.report.plot import SHORT_NAME, short, step_text
from jobs.report.run_data import Measured, Series
from jobs.report.theme import HEIGHT, LEGEND_ROW, Look
from jobs.verdict import GAP_BANDS, WORST_BAND

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSS = "loss (nats per token)"
LOG_LOSS = "loss (nats per token, log scale)"
# A highest loss so many times the lowest asks for a logarithmic scale.
WIDE = 4
STEPS, EPOCHS = "step (micro-batches)", "epochs (passes over the training data)"
# Markers stand closer than this only where there are few points.
MOST_MARKERS = 20
NO_LINE: dict[str, Any] = {"linestyle": "none"}


def columns_for(runs: Sequence[Named]) -> int:
    """Return the columns of the legend of several runs: as many as their names leave room for."""
    return 2 if max(len(named.name) for named in runs) < SHORT_NAME else 1


def height_for(runs: Sequence[Named]) -> float:
    """Return the inches of a plot: what a legend of many runs takes comes on top."""
    rows = len(runs) // columns_for(runs)
    return HEIGHT + LEGEND_ROW / 72 * max(0, rows - 2)


def lines(axes: Axes, runs: Sequence[Named], key: str, look: Look) -> list[Any]:
    """Draw a measure of several runs; return what a legend shows."""
    handles: list[Any] = []
    odd: list[Any] = []
    for number, (named, scale) in enumerate(zip(runs, scales_of(runs), strict=True)):
        found = line(axes, named.run.series(key), short(named.name, 44), look.line(number), scale)
        handles += found[:1]
        odd = odd or found[1:]
    return handles + odd


def line(
    axes: Axes, series: Series, name: str, style: dict[str, Any], scale: float = 1
) -> list[Any]:
    """Draw a series; return what a legend shows: the line, and the mark of what is not finite."""
    if not series:
        return []
    steps = [step / scale for step in series.steps]
    every = max(1, len(steps) // MOST_MARKERS)
    (line,) = axes.plot(steps, series.values, label=name, markevery=every, **style)
    if not series.odd:
        return [line]
    marks = axes.plot(
        [step / scale for step in series.odd],
        [0.97] * len(series.odd),
        transform=axes.get_xaxis_transform(),
        **{**style, "marker": "x", "markersize": 7, **NO_LINE},
        label="NaN or infinite",
    )
    return [line, *marks]


def mark_best(
    axes: Axes,
    run: Measured,
    look: Look,
    scale: float = 1,
    *,
    of_gap: bool = False,
    edge: str | None = None,
) -> list[Any]:
    """Mark the best validation; return what a legend shows."""
    best = run.best
    if best is None:
        return []
    value = best.gap if of_gap else best.loss
    if value is None:
        return []
    return axes.plot(
        [best.step / scale],
        [value],
        marker="*",
        markersize=15,
        markerfacecolor=look.ground,
        markeredgecolor=edge or look.ink,
        markeredgewidth=1.4,
        label=f"best, step {step_text(best.step)}",
        zorder=5,
        **NO_LINE,
    )


def mark_stop(axes: Axes, run: Measured, look: Look) -> list[Any]:
    """Mark where the run was ended before its last step; return what a legend shows."""
    how = run.broken_off
    if how is None:
        return []
    label = f"{how}, step {step_text(run.last_step)}"
    return [axes.axvline(run.last_step, color=look.ink, linestyle=(0, (2, 2)), label=label)]


def called(handle: Any, label: str) -> Any:
    """Return a handle of a legend with another text."""
    handle.set_label(label)
    return handle


def shade_bands(axes: Axes, look: Look) -> None:
    """Shade the four bands of the gap, and name each at the right of the plot."""
    low, high = axes.get_ylim()
    low, high = min(low, -0.02), max(high, 0.36)
    axes.set_ylim(low, high)
    bounds = [low, *(bound for bound, _ in GAP_BANDS), high]
    words = [*(f"{word} < {bound:.2f}" for bound, word in GAP_BANDS)]
    words.append(f"{WORST_BAND} ≥ {GAP_BANDS[-1][0]:.2f}")
    middles = []
    for lower, upper, colour in zip(bounds, bounds[1:], look.bands, strict=False):
        axes.axhspan(lower, upper, color=colour, zorder=0, linewidth=0)
        if lower != low:
            axes.axhline(lower, color=look.faint, linewidth=0.8, zorder=1)
        middles.append(((lower + upper) / 2 - low) / (high - low))
    for place, word in zip(apart(middles), words, strict=True):
        axes.text(1.01, place, word, transform=axes.transAxes, va="center", fontsize=9.5)


def apart(places: Sequence[float], least: float = 0.085) -> list[float]:
    """Return rising places between 0 and 1, moved up where they stand closer than ``least``."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least) if moved else max(place, 0.03))
    return moved


def scales_of(runs: Sequence[Named]) -> list[float]:
    """Return what to divide the steps of each run by: those of an epoch, where all are known."""
    found = [named.run.steps_per_epoch for named in runs]
    if len(runs) > 1 and all(found):
        return [float(steps or 1) for steps in found]
    return [1.0] * len(runs)


def unit_of_steps(runs: Sequence[Named]) -> str:
    """Return what stands below the axis of the steps."""
    return STEPS if set(scales_of(runs)) == {1.0} else EPOCHS


def label(axes: Axes, y: str, x: str) -> None:
    """Say what the axes are, and let that of the steps begin at 0."""
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415 - only where plots are drawn

    axes.set_xlabel(x)
    axes.set_ylabel(y)
    left, right = axes.get_xlim()
    axes.set_xlim(min(left, 0), max(right, 1) if x == STEPS else right)
    # Else the factor of very large or small numbers would stand where the legend is.
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))


def _tick(value: float, place: int | None = None) -> str:
    return f"{value:,.8g}"


def scale_losses(axes: Axes, series: Sequence[Series]) -> str:
    """Let equal factors be equal distances where losses span much; return the axis' label.

    The baseline is often ten times the best loss: what happens near that would not be seen.
    """
    values = [value for one in series for value in one.values]
    if not values or min(values) <= 0 or max(values) / min(values) < WIDE:
        return LOSS
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415 - as above

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return LOG_LOSS

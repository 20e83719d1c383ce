"""The plots of a sweep: all learning curves, parallel coordinates, what mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.report.curves import EPOCHS, NO_LINE, STEPS, label, scale_losses
from jobs.report.plot import Plot, short
from jobs.report.run_data import Series
from jobs.report.sweep_axes import BEYOND, Axis, axes_of
from jobs.report.sweep_data import Kind, Swept, series_of
from jobs.report.sweep_tables import counts, objective, value_text
from jobs.report.theme import HEIGHT, LEGEND_ROW, Look, drawing, legend_above, png, titled
from jobs.storage.values import finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = ("learning_curves", "parallel_coordinates", "importances")
# Inches: of an axis of parallel coordinates, of a bar, and of what is around them.
AXIS_HEIGHT, BAR_HEIGHT, AROUND = 0.72, 0.36, 1.1
# So many curves can still be told apart by the numbers at their ends.
MOST_NUMBERED = 12
# More lines than this are drawn the paler, the worse the trial.
FEW, PALEST = 8, 0.35
# The order in which they are drawn: what matters lies above.
KINDS = (Kind.WITHOUT, Kind.UNDER_WAY, Kind.PRUNED, Kind.COMPLETE, Kind.BEST)
SEEDS = "Validation losses of all trainings"


@dataclass(frozen=True)
class Drawn:
    """A curve of a trial, its steps counted in the unit of the axis."""

    number: int
    kind: Kind
    series: Series


def plots_of_sweep(swept: Swept) -> list[Plot]:
    """Return the plots of a sweep for which there is something to draw."""
    plots = []
    curves, unit = curves_of(swept)
    if curves:
        draw = partial(_curves, swept, curves, unit)
        plots.append(Plot("learning_curves", curves_finding(swept, curves), draw))
    if swept.trials:
        draw = partial(_parallel, swept, axes_of(swept))
        plots.append(Plot("parallel_coordinates", parallel_finding(swept), draw))
    shares = importances_of(swept)
    if shares:
        plots.append(Plot("importances", importances_finding(shares), partial(_bars, shares)))
    return plots


def curves_of(swept: Swept) -> tuple[list[Drawn], str]:
    """Return the curves of all trials, one for each seed, and what their steps are counted in.

    Those are epochs where their length is known of all: a step of a trial with another batch size
    is another number of examples.
    """
    trials = [trial for trial in swept.trials if any(trial.curves)]
    known = {trial.number: swept.steps_per_epoch(trial) for trial in trials}
    in_epochs = all(known.values())
    found = []
    for trial in trials:
        scale = (known[trial.number] or 1) if in_epochs else 1
        for one in map(series_of, trial.curves):
            scaled = Series(
                [s / scale for s in one.steps], one.values, [s / scale for s in one.odd]
            )
            if scaled:
                found.append(Drawn(trial.number, swept.kind(trial), scaled))
    return found, EPOCHS if in_epochs else STEPS


def curves_finding(swept: Swept, curves: Sequence[Drawn]) -> str:
    """Say how many curves there are, of which kinds, and which goes lowest."""
    lows = [(min(one.series.values), one.number) for one in curves if one.series.values]
    lowest = f" The lowest, {min(lows)[0]:.4f}, is of trial {min(lows)[1]}." if lows else ""
    odd = sum(len(one.series.odd) for one in curves)
    strange = f" NaN or infinite losses: {odd}." if odd else ""
    trials = "1 trial" if len(swept.trials) == 1 else f"{len(swept.trials)} trials"
    return f"Validation losses of {trials}: {counts(swept)}.{lowest}{strange}"


def parallel_finding(swept: Swept) -> str:
    """Say which settings led to the best value, and how far the others are from it."""
    best = swept.best
    if best is None:
        return "What each trial tried: a line each. None has a result yet."
    tried = ", ".join(f"{name} {_brief(value)}" for name, value in best.params.items())
    worst = swept.ranked[-1]
    others = "" if worst is best else f" The others go to {value_text(swept, worst.value)}"
    if others:
        others += "; the worse, the paler." if len(swept.ranked) > FEW else "."
    return (
        f"What each trial tried, and the {objective(swept)} it came to: a line each. Trial "
        f"{best.number} is best with {value_text(swept, best.value)}: {tried}.{others}"
    )


def importances_of(swept: Swept) -> dict[str, float]:
    """Return which share of the differences each setting explains, the largest first."""
    found = {name: finite(share) for name, share in swept.state.importances.items()}
    known = {name: max(0.0, share) for name, share in found.items() if share is not None}
    return dict(sorted(known.items(), key=lambda pair: -pair[1]))


def importances_finding(shares: Mapping[str, float]) -> str:
    """Say how much of the differences between trials each setting explains."""
    told = "; ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return f"Share of the differences between trials that each setting explains: {told}."


def _brief(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _style(kind: Kind, look: Look) -> dict[str, Any]:
    """Return how a trial of a kind is drawn: its colour, its dashes and its end all differ."""
    styles: dict[Kind, tuple[str, Any, float, str]] = {
        Kind.BEST: (look.ink, "-", 2.4, "*"),
        Kind.COMPLETE: (look.data[0], "-", 1.3, "o"),
        Kind.PRUNED: (look.data[1], (0, (4, 2)), 1.2, "X"),
        Kind.WITHOUT: (look.data[3], ":", 1.3, "s"),
        Kind.UNDER_WAY: (look.data[2], "-.", 1.3, ">"),
    }
    colour, dashes, width, marker = styles[kind]
    return {
        "color": colour,
        "linestyle": dashes,
        "linewidth": width,
        "marker": marker,
        "markersize": {"*": 14, "X": 7.5}.get(marker, 5),
        "markerfacecolor": look.ground if kind is Kind.BEST else colour,
        "zorder": 2 + KINDS.index(kind) / 10,
    }


def _legend(swept: Swept, kinds: Sequence[Kind], look: Look) -> list[Any]:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - only where plots are drawn

    handles = []
    for kind in reversed(KINDS):
        if kind not in kinds:
            continue
        count = sum(swept.kind(trial) is kind for trial in swept.trials)
        name = f"{kind} ({count})" if count == swept.count(kind) else f"other {kind} ({count})"
        if kind is Kind.BEST and swept.best is not None:
            ended = ", pruned" if swept.best.pruned else ""
            name = f"best: trial {swept.best.number}{ended}"
        style = {key: value for key, value in _style(kind, look).items() if key != "zorder"}
        handles.append(Line2D([], [], label=name, **style))
    return handles


def _curves(swept: Swept, curves: Sequence[Drawn], unit: str, look: Look) -> bytes:
    kinds = [kind for kind in KINDS if any(one.kind is kind for one in curves)]
    with drawing(look, height=HEIGHT + 0.5 + LEGEND_ROW / 72) as picture:
        axes = picture.add_subplot()
        for one in sorted(curves, key=lambda curve: KINDS.index(curve.kind)):
            _curve(axes, one, _style(one.kind, look))
        handles = [*_legend(swept, kinds, look), *_mark_odd(axes, curves, look)]
        if len(curves) <= MOST_NUMBERED:
            _number(axes, curves, look)
        legend_above(axes, handles, SEEDS)
        axes.margins(x=0.07)
        label(axes, scale_losses(axes, [one.series for one in curves]), unit)
        return png(picture)


def _curve(axes: Axes, one: Drawn, style: dict[str, Any]) -> None:
    """Draw a curve; its marker stands at its end, that of the best at its lowest point."""
    values = one.series.values
    if not values:
        return
    marked = len(values) - 1
    if one.kind is Kind.BEST:
        marked = values.index(min(values))
    axes.plot(one.series.steps, values, markevery=[marked], **style)


def _mark_odd(axes: Axes, curves: Sequence[Drawn], look: Look) -> list[Any]:
    """Mark at the top where losses were not finite; return what a legend shows."""
    steps = [step for one in curves for step in one.series.odd]
    if not steps:
        return []
    return axes.plot(
        steps,
        [0.97] * len(steps),
        transform=axes.get_xaxis_transform(),
        marker="^",
        markersize=8,
        markerfacecolor=look.ground,
        markeredgecolor=look.data[3],
        label="NaN or infinite",
        **NO_LINE,
    )


def _number(axes: Axes, curves: Sequence[Drawn], look: Look) -> None:
    """Write the number of its trial at the end of each curve."""
    for one in curves:
        if one.series.values:
            end = (one.series.steps[-1], one.series.values[-1])
            axes.annotate(
                str(one.number), end, (7, 0), textcoords="offset points", va="center", fontsize=9,
                color=_style(one.kind, look)["color"], annotation_clip=False,
            )  # fmt: skip


def _parallel(swept: Swept, found: Sequence[Axis], look: Look) -> bytes:
    """Draw the axes below one another: also on a phone there is room for their numbers."""
    kinds = [kind for kind in KINDS if any(swept.kind(t) is kind for t in swept.trials)]
    rows = -(-len(kinds) // 2)
    with drawing(look, height=0.6 + LEGEND_ROW / 72 * rows + AXIS_HEIGHT * len(found)) as picture:
        axes = picture.add_subplot()
        axes.set_axis_off()
        strength = _strengths(swept)
        for row, axis in enumerate(found):
            _axis(axes, axis, row, look)
        for place, trial in enumerate(swept.trials):
            style = {**_style(swept.kind(trial), look), "alpha": strength[trial.number]}
            at = [(x, y) for y, axis in enumerate(found) if (x := axis.places[place]) is not None]
            every = None if swept.kind(trial) is Kind.BEST else [len(at) - 1]
            if at:
                axes.plot([x for x, _ in at], [y for _, y in at], markevery=every, **style)
        axes.set_xlim(-0.04, BEYOND + 0.04)
        axes.set_ylim(len(found) - 0.55, -0.45)
        legend_above(axes, _legend(swept, kinds, look), "Parallel coordinates")
        return png(picture)


def _strengths(swept: Swept) -> dict[int, float]:
    """Return how strongly each trial is drawn among many: the better, the stronger."""
    strengths = dict.fromkeys((trial.number for trial in swept.trials), 1.0)
    count = len(swept.ranked)
    if count > FEW:
        for rank, trial in enumerate(swept.ranked):
            strengths[trial.number] = 1 - (1 - PALEST) * rank / (count - 1)
    return strengths


def _axis(axes: Axes, axis: Axis, row: int, look: Look) -> None:
    behind = {"facecolor": look.ground, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    axes.plot([0, 1], [row, row], color=look.faint, linewidth=1.1, zorder=1.5)
    axes.text(-0.03, row - 0.2, short(axis.title, 60), fontweight="bold", fontsize=9.5,
              va="bottom", bbox=behind, zorder=4)  # fmt: skip
    for place, text in axis.ticks:
        axes.plot([place, place], [row - 0.06, row + 0.06], color=look.faint, linewidth=1.1,
                  zorder=1.5)  # fmt: skip
        axes.text(place, row + 0.11, text, fontsize=9, ha="center", va="top", bbox=behind,
                  zorder=4)  # fmt: skip


def _bars(shares: Mapping[str, float], look: Look) -> bytes:
    with drawing(look, height=AROUND + BAR_HEIGHT * len(shares)) as picture:
        axes = picture.add_subplot()
        rows = range(len(shares))
        axes.barh(rows, list(shares.values()), height=0.6, color=look.data[0])
        for row, share in zip(rows, shares.values(), strict=True):
            axes.text(share + 0.012, row, f"{share:.0%}", va="center", fontsize=10)
        axes.set_yticks(rows, [short(name, 24) for name in shares])
        axes.set_ylim(len(shares) - 0.4, -0.6)
        axes.set_xlim(0, max(1.0, *shares.values()) * 1.1)
        axes.set_xlabel("share of the differences that it explains")
        axes.grid(visible=False, axis="y")
        titled(axes, "What mattered")
        return png(picture)

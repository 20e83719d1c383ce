"""The plots of evaluations: scores with their intervals, of all answers and of each category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.evaluation.answers import ADAPTER, BASE
from jobs.evaluation.scores import METRICS, TITLES
from jobs.past_run import Row
from jobs.report.plot import SHORT_NAME, Plot, short
from jobs.report.theme import HEIGHT, LEGEND_ROW, Look, drawing, legend_above, png
from jobs.storage.formatting import figure
from jobs.storage.values import finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BY = {ADAPTER: "adapter", BASE: "base model"}
NAMES = ("scores", "categories")
AXIS = "score (0 to 1; bar: 95% interval)"
# Of a row of dots: the height in inches, and of what is around the rows.
ROW, AROUND = 0.3, 1.2
MOST_CATEGORIES = 20


@dataclass(frozen=True)
class Interval:
    """A mean score with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Dots:
    """A score for each of some rows, by one model: what shares a colour and a marker."""

    name: str
    intervals: Mapping[str, Interval]


def interval(scores: Any, metric: str) -> Interval | None:
    """Return a score out of a report; None where it is not there, or no number."""
    found = scores.get(metric) if isinstance(scores, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    mean, low, high = (finite(found.get(part)) for part in ("mean", "low", "high"))
    if mean is None:
        return None
    return Interval(mean, mean if low is None else low, mean if high is None else high)


def scores_of(report: Row, by: str) -> Any:
    """Return the scores of the adapter or of the base model, over all answers."""
    part = report.get(by)
    return part.get("scores") if isinstance(part, Mapping) else None


def categories_of(report: Row) -> dict[str, Mapping[str, Any]]:
    """Return what the report says of each category."""
    found = report.get("categories")
    if not isinstance(found, Mapping):
        return {}
    return {str(name): part for name, part in found.items() if isinstance(part, Mapping)}


def plots_of_report(report: Row) -> list[Plot]:
    """Return the plots of an evaluation for which there is something to draw."""
    overall = [_dots(name, scores_of(report, by)) for by, name in BY.items()]
    groups = categories_of(report)
    by_category = [
        Dots(name, _known({category: interval(part.get(by), "token_f1")
                           for category, part in _largest(groups)}))
        for by, name in BY.items()
    ]  # fmt: skip
    return [
        *_plot("scores", "Scores", overall),
        *_plot("categories", "Token F1 by category", by_category),
    ]


def plots_of_reports(reports: Mapping[str, Row]) -> list[Plot]:
    """Return the plots of several evaluations, by what their runs are called."""
    return _plot(
        "scores", "Scores", [_dots(name, scores_of(r, ADAPTER)) for name, r in reports.items()]
    )


def _dots(name: str, scores: Any) -> Dots:
    return Dots(name, _known({TITLES[metric]: interval(scores, metric) for metric in METRICS}))


def _known(found: Mapping[str, Interval | None]) -> dict[str, Interval]:
    return {row: value for row, value in found.items() if value is not None}


def _largest(groups: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    by_size = sorted(groups.items(), key=lambda item: -(finite(item[1].get("questions")) or 0))
    return sorted(by_size[:MOST_CATEGORIES])


def _plot(name: str, title: str, dots: Sequence[Dots]) -> list[Plot]:
    rows = list(dict.fromkeys(row for one in dots for row in one.intervals))
    if not rows:
        return []
    return [Plot(name, _finding(title, rows, dots), partial(_draw, title, rows, dots))]


def _finding(title: str, rows: Sequence[str], dots: Sequence[Dots]) -> str:
    parts = []
    for row in rows:
        told = [f"{d.name} {figure(d.intervals[row].mean, 3)}" for d in dots if row in d.intervals]
        parts.append(f"{row}: {', '.join(told)}")
    return f"{title}. {'; '.join(parts)}."


def _draw(title: str, rows: Sequence[str], dots: Sequence[Dots], look: Look) -> bytes:
    """Draw a row for each score or category: a dot for each model, its interval as a bar."""
    columns = 2 if len(dots) == 2 and max(len(one.name) for one in dots) < SHORT_NAME else 1
    legend = LEGEND_ROW / 72 * len(dots) / columns
    height = AROUND + ROW * len(rows) * max(1.5, len(dots)) + legend
    with drawing(look, height=max(HEIGHT, height)) as picture:
        axes = picture.add_subplot()
        handles = [
            _draw_dots(axes, rows, one, 0.6 * ((place + 0.5) / len(dots) - 0.5), look.line(place))
            for place, one in enumerate(dots)
        ]
        axes.set_yticks(range(len(rows)), [short(row, 24) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel(AXIS)
        legend_above(axes, handles, title, columns)
        return png(picture)


def _draw_dots(
    axes: Axes, rows: Sequence[str], dots: Dots, shift: float, style: Mapping[str, Any]
) -> Any:
    """Draw the dots of one model, moved down a little in their rows; return what a legend shows."""
    found = [
        (n + shift, dots.intervals[row]) for n, row in enumerate(rows) if row in dots.intervals
    ]
    below = [max(0.0, value.mean - value.low) for _, value in found]
    above = [max(0.0, value.high - value.mean) for _, value in found]
    return axes.errorbar(
        [value.mean for _, value in found],
        [place for place, _ in found],
        xerr=[below, above],
        color=style["color"],
        marker=style["marker"],
        markersize=7,
        linestyle="none",
        capsize=3,
        label=short(dots.name, 44),
    )

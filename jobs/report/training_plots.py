"""The plots of training, of one run or of several laid over one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from jobs.report.curves import (
    LOSS,
    STEPS,
    called,
    columns_for,
    height_for,
    label,
    line,
    lines,
    mark_best,
    mark_stop,
    scale_losses,
    scales_of,
    shade_bands,
    unit_of_steps,
)
from jobs.report.findings import Named, gap_finding, losses_finding, measure_finding, valid_finding
from jobs.report.plot import Plot
from jobs.report.run_data import Measured
from jobs.report.theme import Look, drawing, legend_above, png, titled

GAP = "gap (nats per token)"


@dataclass(frozen=True)
class Measure:
    """A column of the metrics that is drawn for itself.

    Attributes:
        key: in a row.
        name: of the plot's file.
        unit: what stands on the axis.
        words: what is told of it, in a sentence.
    """

    key: str
    name: str
    title: str
    unit: str
    words: str


MEASURES = (
    Measure(
        "learning_rate",
        "learning_rate",
        "Learning rate",
        "learning rate (no unit)",
        "learning rate",
    ),
    Measure(
        "grad_norm",
        "gradient_norm",
        "Gradient norm",
        "L2 norm (no unit)",
        "L2 norm of the gradient",
    ),
    Measure("tokens_per_second", "speed", "Speed", "tokens per second", "tokens per second"),
    Measure("memory_mb", "memory", "Memory", "peak so far (MB)", "peak memory in MB"),
)
TRAIN_LOSS = Measure("loss", "training_loss", "Training loss", LOSS, "training loss")

# Of one run, by the names of their files.
NAMES = ("loss_curves", "overfitting_gap", *(measure.name for measure in MEASURES))


def plots_of_one(run: Measured) -> list[Plot]:
    """Return the plots of a run for which there is something to draw."""
    named = [Named("", run)]
    plots = []
    if run.series("loss") or run.series("val_loss"):
        plots.append(Plot("loss_curves", losses_finding(run), partial(_losses, run)))
    return plots + _gap_and_measures(named)


def plots_of_several(runs: Sequence[Named]) -> list[Plot]:
    """Return the plots of several runs, their curves in one picture each."""
    plots = []
    if any(named.run.series("val_loss") for named in runs):
        plots.append(Plot("validation_loss", valid_finding(runs), partial(_valid, runs)))
    return plots + _measures(runs, [TRAIN_LOSS]) + _gap_and_measures(runs)


def _gap_and_measures(runs: Sequence[Named]) -> list[Plot]:
    plots = []
    if any(named.run.series("overfitting_gap") for named in runs):
        plots.append(Plot("overfitting_gap", gap_finding(runs), partial(_gap, runs)))
    return plots + _measures(runs, MEASURES)


def _measures(runs: Sequence[Named], measures: Sequence[Measure]) -> list[Plot]:
    return [
        Plot(m.name, measure_finding(runs, m.key, m.words), partial(_measure, runs, m))
        for m in measures
        if any(named.run.series(m.key) for named in runs)
    ]


def _losses(run: Measured, look: Look) -> bytes:
    with drawing(look) as figure:
        axes = figure.add_subplot()
        handles = [
            *line(axes, run.series("loss"), "training", {**look.line(0), "marker": "."}),
            *line(axes, run.series("train_eval_loss"), "training, no dropout", look.line(2)),
            *line(axes, run.series("val_loss"), "validation", look.line(1)),
            *mark_best(axes, run, look),
            *mark_stop(axes, run, look),
        ]
        legend_above(axes, handles, "Loss")
        every = [run.series(key) for key in ("loss", "train_eval_loss", "val_loss")]
        label(axes, scale_losses(axes, every), STEPS)
        return png(figure)


def _valid(runs: Sequence[Named], look: Look) -> bytes:
    with drawing(look, height=height_for(runs)) as figure:
        axes = figure.add_subplot()
        scales = scales_of(runs)
        handles = lines(axes, runs, "val_loss", look)
        bests = [
            mark_best(axes, named.run, look, scale, edge=look.line(number)["color"])
            for number, (named, scale) in enumerate(zip(runs, scales, strict=True))
        ]
        handles += [called(best[0], "best of a run") for best in bests if best][:1]
        legend_above(axes, handles, "Validation loss", columns_for(runs))
        unit = scale_losses(axes, [named.run.series("val_loss") for named in runs])
        label(axes, unit, unit_of_steps(runs))
        return png(figure)


def _gap(runs: Sequence[Named], look: Look) -> bytes:
    with drawing(look, height=height_for(runs)) as figure:
        axes = figure.add_subplot()
        if len(runs) == 1:
            run = runs[0].run
            handles = [
                *line(axes, run.series("overfitting_gap"), "gap", look.line(0)),
                *mark_best(axes, run, look, of_gap=True),
                *mark_stop(axes, run, look),
            ]
            legend_above(axes, handles, "Overfitting gap", columns=3)
        else:
            handles = lines(axes, runs, "overfitting_gap", look)
            legend_above(axes, handles, "Overfitting gap", columns_for(runs))
        shade_bands(axes, look)
        label(axes, GAP, unit_of_steps(runs))
        return png(figure)


def _measure(runs: Sequence[Named], measure: Measure, look: Look) -> bytes:
    with drawing(look, height=height_for(runs)) as figure:
        axes = figure.add_subplot()
        if len(runs) == 1:
            found = line(axes, runs[0].run.series(measure.key), "", look.line(0))
            odd = found[1:]
            if odd:
                legend_above(axes, odd, measure.title)
            else:
                titled(axes, measure.title)
        else:
            handles = lines(axes, runs, measure.key, look)
            legend_above(axes, handles, measure.title, columns_for(runs))
        unit = measure.unit
        if measure is TRAIN_LOSS:
            unit = scale_losses(axes, [named.run.series(measure.key) for named in runs])
        elif axes.get_ylim()[0] > 0:
            # The highest points keep a margin of the new height: the old one is of a narrower band.
            axes.set_ylim(0, 1.05 * axes.dataLim.ymax)
        label(axes, unit, unit_of_steps(runs))
        return png(figure)

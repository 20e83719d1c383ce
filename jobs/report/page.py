"""The report: one HTML file with everything in it. No script, no font, no picture from elsewhere.

Whatever stands in questions, answers, names or settings is text: the template escapes all of it,
and the page itself forbids scripts and requests (Content-Security-Policy), should it ever not.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.compare.side import MEASURED_BY
from jobs.evaluation.scores import METRICS, TITLES
from jobs.past_run import PastRun, Row
from jobs.report import tables
from jobs.report.evaluation_plots import plots_of_report, plots_of_reports
from jobs.report.findings import Named
from jobs.report.plot import Plot
from jobs.report.run_data import Measured, measured
from jobs.report.theme import DARK, LIGHT
from jobs.report.training_plots import plots_of_one, plots_of_several
from jobs.storage.formatting import duration, figure, local_exact
from jobs.storage.values import finite, printable

TEMPLATE = "page.html.j2"
# Answers that are shown at once, and at most, of one run; of each of several runs.
SHOWN, MOST, MOST_OF_SEVERAL = 10, 200, 10
# What a person may have written: line breaks, and the joints of emoji.
KEPT = "\n\t\u200d\ufe0f"


@dataclass(frozen=True)
class Picture:
    """A plot in both looks, as it stands in the page."""

    name: str
    finding: str
    light: bytes
    dark: bytes

    @property
    def light_uri(self) -> str:
        """The picture for a light page, as a ``data:`` URI."""
        return _uri(self.light)

    @property
    def dark_uri(self) -> str:
        """The picture for a dark page, as a ``data:`` URI."""
        return _uri(self.dark)


@dataclass(frozen=True)
class ShownAnswer:
    """A question with what was answered; ``scores`` are the adapter's, as text.

    Attributes:
        cut, base_cut: the answer came to the limit of tokens before its end.
        reasoning, base_reasoning: what was written before the answer; None where nothing was.
    """

    question: str
    reference: str
    answer: str
    cut: bool
    base_answer: str | None
    base_cut: bool
    category: str | None
    scores: list[tuple[str, str]]
    reasoning: str | None = None
    base_reasoning: str | None = None


@dataclass(frozen=True)
class ShownEvaluation:
    """What is shown of an evaluation.

    Attributes:
        worst: the answers, the worst first.
        left_out: how many more there are.
    """

    run: Measured
    report: Row
    pictures: list[Picture]
    scores: list[tables.Line]
    categories: list[tuple[str, list[tables.Line]]]
    worst: list[ShownAnswer]
    left_out: int

    @property
    def cut(self) -> str | None:
        """How many answers came to the limit of tokens, in a sentence; None where none did."""
        return tables.cut_answers(self.report)


@dataclass(frozen=True)
class Report:
    """A report: the page, and the pictures in it, of training and of evaluation."""

    html: bytes
    training: list[Picture]
    evaluation: list[Picture]


def report_of(runs: Sequence[PastRun], made_at: str) -> Report:
    """Return the report on one run, or the one that lays several over one another.

    Args:
        made_at: when, ISO 8601.
    """
    looked_at = [measured(run) for run in runs]
    named = [
        Named(name_of(run, n if len(runs) > 1 else None), run) for n, run in enumerate(looked_at)
    ]
    if len(runs) == 1:
        training = pictures_of(plots_of_one(looked_at[0]))
        evaluated = [evaluation_of(looked_at[0], MOST, plots_of_report)]
        evaluation = evaluated[0].pictures if evaluated[0] else []
    else:
        training = pictures_of(plots_of_several(named))
        evaluated = [evaluation_of(run, MOST_OF_SEVERAL, None) for run in looked_at]
        reports = {n.name: n.past.report for n in named if n.past.report is not None}
        evaluation = pictures_of(plots_of_reports(reports))
    html = template(TEMPLATE).render(
        runs=named,
        evaluated=evaluated,
        training=training,
        evaluation=evaluation,
        made_at=made_at,
        warnings=cautions(named),
        missing=[(n, n.past.missing) for n in named if n.past.missing],
    )
    return Report(html.encode(), training, evaluation)


def name_of(run: Measured, number: int | None = None) -> str:
    """Return what to call a run: the name or preset of a job with the last letters of its id.

    Args:
        number: from 0, where it stands beside others.
    """
    spec = run.run.spec
    name = run.run.name
    if spec is not None and number is not None:
        name = f"{spec.name or spec.preset} {spec.id[-4:]}"
    letter = "" if number is None else f"{_letter(number)} "
    return printable(f"{letter}{name}")


def worst_first(answers: Sequence[Row]) -> list[Row]:
    """Return answers by token F1, then chrF, the lowest first; an answer without comes last."""

    def key(row: Row) -> tuple[float, float]:
        scores = (finite(row.get("token_f1")), finite(row.get("chrf")))
        return (2.0 if scores[0] is None else scores[0], 2.0 if scores[1] is None else scores[1])

    return sorted(answers, key=key)


def evaluation_of(
    run: Measured, most: int, plots: Callable[[Row], list[Plot]] | None
) -> ShownEvaluation | None:
    """Return what is shown of a run's evaluation; None where it was not evaluated.

    Args:
        most: answers, at the most.
        plots: makes its plots, where it gets any of its own.
    """
    report = run.run.report
    if report is None:
        return None
    answers = worst_first(run.run.answers)
    return ShownEvaluation(
        run=run,
        report=report,
        pictures=pictures_of(plots(report)) if plots else [],
        scores=tables.scores(report),
        categories=tables.categories(report),
        worst=[_answer(row) for row in answers[:most]],
        left_out=max(0, len(answers) - most),
    )


def _answer(row: Row) -> ShownAnswer:
    scores = [(TITLES[metric], figure(finite(row.get(metric)), 2)) for metric in METRICS]
    base, category = row.get("base_answer"), row.get("category")
    return ShownAnswer(
        question=_said(row.get("question")),
        reference=_said(row.get("reference")),
        answer=_said(row.get("answer")),
        cut=row.get("cut") is True,
        base_answer=None if base is None else _said(base),
        base_cut=row.get("base_cut") is True,
        category=None if category is None else _said(category),
        scores=scores,
        reasoning=_thought(row.get("reasoning")),
        base_reasoning=_thought(row.get("base_reasoning")),
    )


def _thought(value: Any) -> str | None:
    """Return reasoning to be shown; None of a block with nothing in it."""
    return _said(value) if value else None


def cautions(runs: Sequence[Named]) -> list[str]:
    """Return what a person must know before comparing runs, a sentence each."""
    if len(runs) < 2:
        return []
    return [*_of_data(runs), *_of_measuring(runs)]


def _of_data(runs: Sequence[Named]) -> list[str]:
    specs = [named.past.spec for named in runs]
    digests = {spec.valid.sha256 if spec.valid else None for spec in specs if spec}
    if len(digests) > 1:
        return [
            "These runs did not validate on the same data: "
            "their losses, gaps and scores cannot be compared."
        ]
    if None in specs:
        return [
            "Of an older run it is not known what it validated on: losses, gaps and scores can "
            "only be compared if the data was the same."
        ]
    return []


def _of_measuring(runs: Sequence[Named]) -> list[str]:
    """Say where the runs measure losses in different ways; of some it may not be known."""
    configs = [named.past.config for named in runs]
    other = [
        key
        for key in ("model", *MEASURED_BY)
        if len({tables.text_of(c[key]) for c in configs if key in c}) > 1
    ]
    if not other:
        return []
    verb = "differ" if len(other) > 1 else "differs"
    return [
        f"{', '.join(other)} {verb} between these runs: their losses are measured in different "
        "ways, so that neither they nor the gaps can be compared."
    ]


def pictures_of(plots: Sequence[Plot]) -> list[Picture]:
    """Draw plots in both looks."""
    return [
        Picture(plot.name, printable(plot.finding), plot.draw(LIGHT), plot.draw(DARK))
        for plot in plots
    ]


def template(name: str) -> Any:
    """Return a template of a page; it escapes all that it is given."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value, keep=KEPT) if type(value) is str else value,
    )
    environment.globals.update(
        tables=tables, figure=figure, duration=duration, local_exact=local_exact,
        light=LIGHT, dark=DARK, shown=SHOWN,
    )  # fmt: skip
    return environment.get_template(name)


def _said(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return printable(text.replace("\r\n", "\n"), keep=KEPT)


def _letter(number: int) -> str:
    """Return A, B, ... Z, AA, AB, ..."""
    after = chr(ord("A") + number % 26)
    return after if number < 26 else _letter(number // 26 - 1) + after


def _uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"

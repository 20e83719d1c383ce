"""A comparison as the lines that a person reads: the decision stands last. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence

from click import style

from cli.show.differences import cells, paired, set_text, value_text
from cli.show.render import GAP_COLOURS
from cli.show.table import aligned, column_widths, shortened
from jobs.compare.changed import Changed
from jobs.compare.comparison import Comparison
from jobs.compare.criteria import Judged
from jobs.compare.curve import ROUGH, Curve
from jobs.compare.decision import Action
from jobs.compare.paired import ScoreDifference
from jobs.compare.side import Side
from jobs.config.config_file import flatten
from jobs.config.differences import Difference
from jobs.evaluation.bootstrap import RESAMPLES
from jobs.evaluation.scores import TITLES
from jobs.state import State
from jobs.storage.formatting import NONE, figure, length_text, memory_text
from jobs.storage.values import printable
from jobs.verdict import BELOW_IN_TABLE, is_far_below

WIDTH = 100
NARROWEST = 40
# Of the answers that changed, in each direction; all that --json holds are ten.
EXAMPLES = 3
# An answer takes at most about as many lines.
ANSWER_LINES = 3
# As everywhere a gap is told.
GAP_DECIMALS = 3

ACTION_COLOURS = {Action.USE_B: "green", Action.KEEP_A: "yellow", Action.NONE: "red"}
MET = {True: ("met", "green"), False: ("not met", "red"), None: ("unknown", "yellow")}

Table = Sequence[Sequence[str]]


def comparison_lines(
    found: Comparison, command: str | None, width: int | None = None, colour: bool = False
) -> list[str]:
    """Return a comparison as lines.

    Args:
        command: trains B with the changes that are suggested; None where there is none.
        width: of the terminal in columns; 100 where there is none, and at most.
        colour: whether what matters is coloured (ANSI).
    """
    page = _Page(max(NARROWEST, min(width or WIDTH, WIDTH)), colour)
    sections = (
        page.runs(found.a, found.b),
        page.settings(found),
        page.losses(found.a, found.b),
        page.scores(found),
        page.examples("ANSWERED BETTER BY B", found.better),
        page.examples("ANSWERED WORSE BY B", found.worse),
        page.criteria(found),
        page.notes(found),
        page.decision(found),
        page.advice(found, command),
    )
    lines = [line for section in map(list, sections) if section for line in ("", *section)]
    return lines[1:]


class _Page:
    """A width, and whether there is colour; a method for each section."""

    def __init__(self, width: int, colour: bool) -> None:
        self._width = width
        self._colour = colour

    def runs(self, a: Side, b: Side) -> Iterator[str]:
        for label, side in (("A", a), ("B", b)):
            preset = f"preset {side.preset}" if side.preset else "not made by farense"
            steps = f"{side.curve.steps} steps" if side.curve.steps is not None else None
            known = [preset, side.state and side.state_word, steps]
            yield from self._text(f"{label}  ", f"{side.name}  ({', '.join(filter(None, known))})")
            if side.reason:
                yield from self._text("   ", side.reason)

    def settings(self, found: Comparison) -> Iterator[str]:
        if found.config is None:
            unknown = [n for n, side in (("A", found.a), ("B", found.b)) if not side.config]
            yield self._heading(f"SETTINGS of {' and '.join(unknown)} are not known")
            return
        if not found.config:
            yield self._heading("SETTINGS are the same")
            return
        rows = [cells(row)[:3] for row in _together(found)]
        yield from self._table([["SETTINGS", "A", "B"], *rows], right=[False, True, True])

    def losses(self, a: Side, b: Side) -> Iterator[str]:
        rows = [["LOSSES", "A", "B", "B - A"]]
        rows += [_figures(name, value(a.curve), value(b.curve)) for name, value in LOSSES.items()]
        rows += [
            _figures("Gap at the best step", a.curve.gap, b.curve.gap, GAP_DECIMALS),
            ["Status of the gap", *(_gap_word(side.curve) for side in (a, b)), ""],
            ["Best step", *(_whole(side.curve.best_step) for side in (a, b)), ""],
            ["Duration", *(length_text(side.duration_seconds) for side in (a, b)), ""],
            ["Training time", *(length_text(side.curve.seconds) for side in (a, b)), ""],
            ["Peak memory", *(memory_text(side.curve.memory_mb) for side in (a, b)), ""],
        ]
        yield from self._table(rows, right=[False, True, True, True])
        for label, side in (("A", a), ("B", b)):
            if side.curve.gap is not None and not side.curve.like_with_like:
                yield from self._text("", ROUGH.format(label))

    def scores(self, found: Comparison) -> Iterator[str]:
        if not found.a.scores and not found.b.scores:
            return
        of = f"ANSWERS to {found.pairs} questions" if found.pairs else "ANSWERS, not paired"
        rows = [[of, "A", "B", "B - A", "95% interval", "p"], *map(_score_cells, found.scores)]
        yield from self._table(rows, right=[False, *[True] * 5])
        if found.pairs:
            yield from self._text("", METHOD)

    def examples(self, title: str, changed: Sequence[Changed]) -> Iterator[str]:
        if not changed:
            return
        yield self._heading(f"{title} (token F1)")
        for row in changed[:EXAMPLES]:
            yield from self._text(f"{row.change:+.3f}  ", row.question)
            yield from self._answer("wanted", row.reference)
            yield from self._answer(f"A {row.token_f1_a:.3f}", row.answer_a)
            yield from self._answer(f"B {row.token_f1_b:.3f}", row.answer_b)

    def criteria(self, found: Comparison) -> Iterator[str]:
        rows = [[row.name, _judged(row.a), _judged(row.b)] for row in found.criteria]
        yield from self._table([["SUCCESS CRITERIA", "A", "B"], *rows])

    def notes(self, found: Comparison) -> Iterator[str]:
        notes = list(found.notes)
        for label, side in (("A", found.a), ("B", found.b)):
            notes += [f"{label}: {'; '.join(side.missing)}."] if side.missing else []
        if not notes:
            return
        yield self._heading("NOTES")
        for text in notes:
            yield from self._text("- ", text)

    def decision(self, found: Comparison) -> Iterator[str]:
        decision = found.decision
        words = f"DECISION: {decision.action} (B is {decision.verdict})"
        if decision.action is Action.NONE:
            words = "DECISION: none"
        yield style(words, fg=ACTION_COLOURS[decision.action], bold=True) if self._colour else words
        for reason in decision.reasons:
            yield from self._text("- ", reason)

    def advice(self, found: Comparison, command: str | None) -> Iterator[str]:
        if not found.advice:
            yield from self._text("", _without_advice(found))
            return
        yield self._heading("WHAT TO CHANGE IN B")
        for finding in found.advice:
            yield from self._text("- ", f"{finding.rule.capitalize()}: {finding.symptom}.")
            for row in finding.changes:
                was = value_text(row.now)
                yield printable(f"    --set {row.setting}={set_text(row.to)}   (was {was})")
            if finding.also:
                yield from self._text("    ", finding.also)
        if command:
            yield from self._text("", "All of it:")
            yield printable(f"    {command}")

    def _heading(self, text: str) -> str:
        return style(text, bold=True) if self._colour else text

    def _text(self, lead: str, text: str) -> list[str]:
        """Return a text in lines; those after the first are set in as far as ``lead`` is wide."""
        if not (lead or text):
            return []
        return textwrap.wrap(
            printable(text),
            self._width,
            initial_indent=lead,
            subsequent_indent=" " * len(lead),
            break_on_hyphens=False,
        ) or [lead.rstrip()]

    def _answer(self, lead: str, text: str) -> list[str]:
        room = (self._width - 16) * ANSWER_LINES
        return self._text(f"        {lead:<8}", shortened(" ".join(text.split()), room))

    def _table(self, rows: Table, right: Sequence[bool] | None = None) -> Iterator[str]:
        """Yield a table; where it is too wide, each cell on lines of its own."""
        widths = column_widths(rows)
        if sum(widths) + 2 * (len(widths) - 1) > self._width:
            yield from self._list(rows)
            return
        yield self._heading(aligned(rows[0], widths, right))
        for row in rows[1:]:
            colours = [_colour(cell) for cell in row] if self._colour else None
            yield aligned(row, widths, right, colours)

    def _list(self, rows: Table) -> Iterator[str]:
        heading = rows[0]
        yield self._heading(heading[0])
        for row in rows[1:]:
            yield from self._text("", row[0])
            for name, cell in zip(heading[1:], row[1:], strict=True):
                yield from self._text(f"    {name}  ", cell)


LOSSES: dict[str, Callable[[Curve], float | None]] = {
    "Best validation loss": lambda curve: curve.best_val_loss,
    "Baseline, before training": lambda curve: curve.baseline_val_loss,
    "Training loss at the best step": lambda curve: curve.train_loss,
}
METHOD = (
    f"Paired bootstrap over the same questions (Koehn 2004; Efron & Tibshirani 1993), {RESAMPLES} "
    "samples, two-sided p."
)


def _without_advice(found: Comparison) -> str:
    """Return what to do where no rule says what to change; nothing where there is nothing to."""
    if found.decision.action is not Action.KEEP_A or not found.b.has_ended:
        return ""
    if found.b.state is State.FAILED:
        return f"Why B failed: farense status {found.b.name}; farense logs {found.b.name}"
    return "No rule says what to change in B: look at its answers, and at its data."


def _together(found: Comparison) -> list[Difference]:
    """Return the settings that differ, those that are read together in one row."""
    differing = found.config or ()
    return paired(
        flatten(found.a.config) | {row.setting: row.a for row in differing},
        flatten(found.b.config) | {row.setting: row.b for row in differing},
    )


def _score_cells(row: ScoreDifference) -> list[str]:
    means = [figure(mean, 3) for mean in (row.a, row.b)]
    change = figure(row.difference, 3, "+")
    if row.low is None or row.high is None or row.p is None:
        return [TITLES[row.metric], *means, change, NONE, NONE]
    p = "< 0.001" if row.p < 0.001 else f"{row.p:.3f}"
    return [TITLES[row.metric], *means, change, f"{row.low:+.3f} to {row.high:+.3f}", p]


def _judged(judged: Judged) -> str:
    return f"{MET[judged.met][0]}: {judged.figure}"


def _colour(cell: str) -> str | None:
    """Return the colour of a cell that says how good something is."""
    words = {f"{word}:": colour for word, colour in MET.values()} | GAP_COLOURS
    return next((colour for word, colour in words.items() if cell.startswith(word)), None)


def _figures(name: str, a: float | None, b: float | None, decimals: int = 4) -> list[str]:
    """Return a measure of both runs, and the difference."""
    change = None if a is None or b is None else b - a
    return [name, figure(a, decimals), figure(b, decimals), figure(change, decimals, "+")]


def _gap_word(curve: Curve) -> str:
    if curve.gap_status is None:
        return NONE
    if not curve.learned:
        return curve.gap_status
    if not curve.like_with_like:
        return f"{curve.gap_status} (rough)"
    below = f", {BELOW_IN_TABLE}" if is_far_below(curve.gap) else ""
    return f"{curve.gap_status}{below}"


def _whole(value: int | None) -> str:
    return NONE if value is None else str(value)

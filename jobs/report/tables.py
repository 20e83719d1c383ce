"""The tables of a report: how runs went, their settings, their scores. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.compare.curve import ROUGH
from jobs.evaluation.answers import ADAPTER, BASE
from jobs.evaluation.report import GAIN
from jobs.evaluation.scores import METRICS, TITLES
from jobs.past_run import Row
from jobs.report.evaluation_plots import categories_of, interval, scores_of
from jobs.report.findings import Named
from jobs.report.plot import step_text
from jobs.report.run_data import BestPoint, Measured
from jobs.state import FINISHED_WELL, State
from jobs.storage.formatting import (
    NONE,
    amount,
    figure,
    length_text,
    memory_text,
    moment_text,
)
from jobs.storage.values import finite
from jobs.verdict import BELOW

# Words of so many characters are not broken: no figure is longer.
WORD = 12


@dataclass(frozen=True)
class Line:
    """A line of a table.

    Attributes:
        cells: one for each run, or each model.
        differs: whether the runs differ in it, of which it is known.
    """

    name: str
    cells: tuple[str, ...]
    differs: bool = False


def state_word(run: Measured) -> str:
    """Return the state of a run, or that it was interrupted where nothing runs it.

    Of a run that farense did not make it says so.
    """
    if run.run.interrupted:
        return "interrupted"
    return str(run.state) if run.state else "older run"


def outcome(runs: Sequence[Named]) -> list[Line]:
    """Return how runs went: a line for each thing to know, a cell for each run."""
    rows: dict[str, Callable[[Measured], str]] = {
        "Job": lambda run: run.run.name,
        "State": state_word,
        "How it ended": how_it_ended,
        "Best validation loss": lambda run: figure(run.best.loss if run.best else None),
        "at step": lambda run: step_text(run.best.step) if run.best else NONE,
        "Validation loss before training": lambda run: figure(run.baseline),
        "Gap at the best step": _gap,
        "Status of the gap": lambda run: status_text(run.best),
        "Final training loss": lambda run: figure(run.series("loss").last),
        "Token F1": lambda run: _score(run, "token_f1"),
        "Exact match": lambda run: _score(run, "exact_match"),
        "Steps": steps_text,
        "Started": lambda run: moment_text(run.started_at),
        "Finished": lambda run: moment_text(run.finished_at),
        "Duration": lambda run: length_text(run.duration_seconds),
        "Training time": lambda run: length_text(run.training_seconds),
        "Median speed (tokens/s)": lambda run: amount(run.series("tokens_per_second").median),
        "Peak memory": lambda run: memory_text(run.series("memory_mb").highest),
    }
    lines = [Line(name, tuple(cell(named.run) for named in runs)) for name, cell in rows.items()]
    return [line for line in lines if set(line.cells) != {NONE}]


def how_it_ended(run: Measured) -> str:
    """Return how a run ended, or how far it has come, in words."""
    last, state = step_text(run.last_step), run.state
    if state is None:
        return f"{last} steps, how it ended is not known"
    if state is State.EARLY_STOPPED:
        patience = finite(run.run.config.get("early_stopping_patience"))
        after = f" after {patience:.0f} validations without improvement" if patience else ""
        return f"stopped early at step {last}{after}"
    because = f": {run.reason}" if run.reason else ""
    if state is State.COMPLETED:
        return f"trained to its end, step {last}"
    if state in (State.FAILED, State.CANCELLED):
        return f"{state} at step {last}{because}"
    if run.run.interrupted:
        return f"interrupted: {steps_text(run)} steps; nothing ran it when this page was made"
    if state is State.RUNNING:
        return f"still runs: {steps_text(run)} steps when this page was made"
    return f"{state}{because}" if because else f"has not ended: {steps_text(run)} steps"


def steps_text(run: Measured) -> str:
    """Return the steps of a run so far, of as many as were planned."""
    planned = "" if run.total_steps is None else f" of {step_text(run.total_steps)}"
    return f"{step_text(run.last_step)}{planned}"


def status_text(best: BestPoint | None) -> str:
    """Return the word of the verdict, what it rests on, and whether its gap is rough."""
    found = best.verdict if best else None
    if best is None or found is None:
        return NONE
    rough = ", rough" if best.rough and found.learned else ""
    below = f", {BELOW}" if found.far_below and not best.rough else ""
    return f"{found.word} ({found.why}){below}{rough}"


def rough_gaps(runs: Sequence[Named]) -> list[str]:
    """Return what the gaps that are rough are worth, a sentence for each run that has one."""
    bests = [(named.name, named.run.best) for named in runs]
    return [ROUGH.format(name) for name, best in bests if best and best.rough]


def verdict_notes(runs: Sequence[Named]) -> list[str]:
    """Return what else there is to know of the verdicts, a sentence for each run that needs one."""
    bests = [(named.name, named.run.best) for named in runs]
    several = len(runs) > 1
    return [
        f"{name}: {best.note}" if several else best.note
        for name, best in bests
        if best and best.note
    ]


def ended_well(run: Measured) -> bool:
    """Tell whether a run ended as it should."""
    return run.state in FINISHED_WELL


def settings(runs: Sequence[Named]) -> list[Line]:
    """Return the settings of runs, a line for each key, dotted as for ``--set``."""
    found = [_flat(named.run) for named in runs]
    keys = dict.fromkeys(key for one in found for key in one)
    lines = []
    for key in keys:
        # Of an older run nothing may be known: that is no difference.
        known = {one.get(key, NONE) for one in found if one}
        lines.append(Line(key, tuple(one.get(key, NONE) for one in found), len(known) > 1))
    return lines


def made_with(run: Measured) -> list[Line]:
    """Return the versions of what computed a run, where they are known."""
    versions = run.run.summary.get("versions")
    if not isinstance(versions, Mapping):
        return []
    return [Line(str(name), (text_of(value),)) for name, value in versions.items()]


def scores(report: Row) -> list[Line]:
    """Return the scores of an evaluation: adapter, base model and the gain, with intervals."""
    return _score_lines({by: scores_of(report, by) for by in (ADAPTER, BASE)}, report.get(GAIN))


def categories(report: Row) -> list[tuple[str, list[Line]]]:
    """Return the scores of each category, with its name and the number of its questions."""
    found = []
    for name, part in categories_of(report).items():
        count = finite(part.get("questions"))
        heading = name if count is None else f"{name} ({count:.0f} questions)"
        lines = _score_lines({by: part.get(by) for by in (ADAPTER, BASE)}, part.get(GAIN))
        found.append((heading, lines))
    return found


def cut_answers(report: Row) -> str | None:
    """Return how many answers were cut at the limit of tokens; None where none was."""
    parts = (report.get(by) for by in (ADAPTER, BASE))
    adapter, base = (finite(p.get("cut")) or 0 if isinstance(p, Mapping) else 0 for p in parts)
    if not adapter and not base:
        return None
    limit = finite(report.get("max_new_tokens"))
    after = "at the limit of tokens" if limit is None else f"after {limit:.0f} tokens"
    return (
        f"{adapter:.0f} answers of the adapter and {base:.0f} of the base model had no end {after} "
        "and were cut there (--max-new-tokens)."
    )


def _score_lines(scores: Mapping[str, Any], gain: Any) -> list[Line]:
    lines = []
    for metric in METRICS:
        cells = [_interval(scores.get(by), metric) for by in (ADAPTER, BASE)]
        lines.append(Line(TITLES[metric], (*cells, _interval(gain, metric, sign="+"))))
    return lines


def _interval(scores: Any, metric: str, sign: str = "") -> str:
    found = interval(scores, metric)
    if found is None:
        return NONE
    low, high = f"{found.low:{sign}.3f}", f"{found.high:{sign}.3f}"
    return f"{found.mean:{sign}.3f} [{low}, {high}]"


def _gap(run: Measured) -> str:
    return figure(run.best.gap if run.best else None, 3)


def _score(run: Measured, metric: str) -> str:
    found = interval(scores_of(run.run.report or {}, ADAPTER), metric)
    return NONE if found is None else f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _flat(run: Measured) -> dict[str, str]:
    spec = run.run.spec
    flat = {key: text_of(value) for key, value in _pairs(run.run.config, "")}
    if spec is not None:
        files = {"data.train": spec.train, "data.valid": spec.valid}
        for key, file in files.items():
            flat[key] = NONE if file is None else f"{file.source} ({file.examples:,} examples)"
        flat["init_from"] = NONE if spec.init_from is None else spec.init_from.source
    return flat


def _pairs(values: Mapping[str, Any], before: str) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        pairs += _pairs(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return pairs


def is_short(cell: str) -> bool:
    """Tell whether every word of a cell fits into a narrow column, as every figure does."""
    return all(len(word) <= WORD for word in cell.split())


def text_of(value: Any) -> str:
    """Return the value of a setting for a person."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

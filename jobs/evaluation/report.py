"""What is written of an evaluation: all answers, the report, and a table for spreadsheets."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from jobs.data.examples import Dialogue
from jobs.evaluation.answers import ADAPTER, ANSWERERS, BASE, Answer, Answers
from jobs.evaluation.bootstrap import CONFIDENCE, RESAMPLES, mean_with_interval
from jobs.evaluation.scores import METRICS, score
from jobs.paths import RunDirectory
from jobs.storage.files import plain, write_atomic, write_json

SUMMARY, ANSWERS = "evaluation_summary.csv", "answers.jsonl"
VERSION = 1
GAIN = "gain"
# Beside it the names of the categories stand in the table.
ALL = "(all)"


@dataclass(frozen=True)
class EvaluationLosses:
    """Losses over the validation set, nats per token, by who was measured."""

    adapter: float
    base: float

    def of(self, by: str) -> dict[str, float]:
        """Return the loss of the adapter, or of the base model, with its perplexity."""
        loss = self.adapter if by == ADAPTER else self.base
        return {"validation_loss": loss, "perplexity": perplexity(loss)}


def perplexity(loss: float) -> float:
    """Return e^loss, infinite where a float ends."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def category_of(row: Dialogue) -> str | None:
    """Return ``metadata.tipo`` of an example, where it has one."""
    found = row.metadata.get("tipo")
    named = isinstance(found, str | int) and not isinstance(found, bool)
    return str(found) if named and str(found).strip() else None


def answer_rows(
    questions: Sequence[Dialogue], answers: Answers, *, ignore_accents: bool
) -> list[dict[str, Any]]:
    """Return the lines of ``answers.jsonl``: what the base model did has ``base_`` before it."""
    rows = []
    for number, question in enumerate(questions):
        given = [answers.of(by, number) for by in ANSWERERS]
        adapter, base = (_scored(a, question.completion, ignore_accents) for a in given)
        rows.append(
            {
                "question": question.context[-1].content,
                "reference": question.completion,
                **adapter,
                "category": category_of(question),
                **{f"base_{name}": value for name, value in base.items()},
            }
        )
    return rows


def report_of(
    rows: Sequence[Mapping[str, Any]], losses: EvaluationLosses, seed: int, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return ``evaluation_report.json``.

    Args:
        rows: of ``answers.jsonl``.
        seed: of the bootstrap.
        about: what else it is to say.
    """
    scores = _scores(rows, seed)
    cut = {ADAPTER: sum(r["cut"] for r in rows), BASE: sum(r["base_cut"] for r in rows)}
    means = {metric: scores[ADAPTER][metric]["mean"] for metric in METRICS}
    by = {by: {**losses.of(by), "cut": cut[by], "scores": scores[by]} for by in ANSWERERS}
    bootstrap = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": seed}
    return {
        "version": VERSION,
        **means,
        **losses.of(ADAPTER),
        "questions": len(rows),
        **by,
        GAIN: scores[GAIN],
        "categories": _categories(rows, seed),
        "bootstrap": bootstrap,
        **about,
    }


def write_evaluation(
    run: RunDirectory, rows: Sequence[Mapping[str, Any]], report: Mapping[str, Any]
) -> None:
    """Replace the files of an evaluation of a run, each atomically; the report last.

    Raises:
        WorkspaceError: they cannot be written.
    """
    folder = run.evaluation
    write_atomic(folder / ANSWERS, b"".join(orjson.dumps(plain(row)) + b"\n" for row in rows))
    write_atomic(folder / SUMMARY, summary_csv(report).encode())
    write_json(run.evaluation_report, report)


def summary_csv(report: Mapping[str, Any]) -> str:
    """Return the scores as a table: a line for adapter, base and gain, of all and each category."""
    text = io.StringIO()
    metrics = [f"{metric}{part}" for metric in METRICS for part in ("", "_low", "_high")]
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["category", "of", "questions", *metrics, "cut", "validation_loss", "perplexity"]
    )
    for by in (*ANSWERERS, GAIN):
        of_all = report[by]
        scores = of_all if by == GAIN else of_all["scores"]
        rest = [of_all.get(name, "") for name in ("cut", "validation_loss", "perplexity")]
        table.writerow([ALL, by, report["questions"], *_cells(scores), *rest])
    for name, found in report["categories"].items():
        for by in (*ANSWERERS, GAIN):
            table.writerow([name, by, found["questions"], *_cells(found[by]), "", "", ""])
    return text.getvalue()


def _scored(answer: Answer, reference: str, ignore_accents: bool) -> dict[str, Any]:
    scores = score(answer.text, reference, ignore_accents=ignore_accents)
    return {"answer": answer.text, **scores, "cut": answer.cut, "reasoning": answer.reasoning}


def _scores(rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Return for adapter, base and gain each score's mean and interval."""
    found: dict[str, dict[str, Any]] = {ADAPTER: {}, BASE: {}, GAIN: {}}
    for metric in METRICS:
        adapter = [row[metric] for row in rows]
        base = [row[f"base_{metric}"] for row in rows]
        gain = [a - b for a, b in zip(adapter, base, strict=True)]
        for by, values in ((ADAPTER, adapter), (BASE, base), (GAIN, gain)):
            found[by][metric] = mean_with_interval(values, seed)
    return found


def _categories(rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    names = sorted({row["category"] for row in rows if row["category"] is not None})
    found = {}
    for name in names:
        chosen = [row for row in rows if row["category"] == name]
        found[name] = {"questions": len(chosen), **_scores(chosen, seed)}
    return found


def _cells(scores: Mapping[str, Mapping[str, float]]) -> list[float]:
    return [scores[metric][part] for metric in METRICS for part in ("mean", "low", "high")]

"""An evaluation as the lines that a person reads. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from jobs.evaluation.scores import TITLES
from jobs.events import Envelope, Evaluated, EvaluationStarted


def evaluation_started(envelope: Envelope, event: EvaluationStarted) -> list[str]:
    """Return what is evaluated, and how."""
    if event.answered:
        return [
            "",
            f"🔁 {envelope.job} goes on after {event.answered} of {event.answers} answers "
            f"(attempt {envelope.attempt}, {event.device})",
        ]
    rows = {
        "Evaluates": f"{event.evaluates} (preset {event.preset})",
        "Model": event.model,
        "Questions": f"{event.questions}, each to the adapter and to the base model",
        "Answers": f"greedy, at most {event.max_new_tokens} tokens, {event.batch_size} at a time",
        "Device": event.device,
    }
    return [f"🚀 {envelope.job}", *(f"  {name:<15}{value}" for name, value in rows.items())]


def evaluated(event: Evaluated) -> list[str]:
    """Return the scores, the adapter's beside the base model's."""
    lines = ["", f"📊 EVALUATION of {event.evaluates}: {event.questions} questions"]
    # A log may have been written by a farense with other scores: the rest is still shown.
    with suppress(KeyError, TypeError, ValueError):
        lines += _table(event.scores)
    lines += [
        _row("Val loss", f"{event.val_loss:.4f}", f"{event.base_val_loss:.4f}"),
        _row("Perplexity", f"{event.perplexity:.2f}"),
        "  In brackets: 95% bootstrap intervals.",
        f"  Report and answers: {event.folder}",
    ]
    return lines


def _table(scores: Mapping[str, Any]) -> list[str]:
    rows = [_row("", "adapter", "base", "gain")]
    for metric, name in TITLES.items():
        cells = [
            f"{sign % value['mean']} [{sign % value['low']}, {sign % value['high']}]"
            for sign, value in (
                ("%.3f", scores["adapter"][metric]),
                ("%.3f", scores["base"][metric]),
                ("%+.3f", scores["gain"][metric]),
            )
        ]
        rows.append(_row(name, *cells))
    return rows


def _row(name: str, *cells: str) -> str:
    return f"  {name:<13}" + "".join(f"{cell:<24}" for cell in cells).rstrip()

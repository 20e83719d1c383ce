"""An evaluation as a person reads it."""

from __future__ import annotations

from typing import Any

from jobs.console import Console
from jobs.evaluation.scores import METRICS
from jobs.events import Envelope, Evaluated, EvaluationStarted, Event

JOB, TRAINED = "20261122-230000-eval_v2-abcd", "20261122-210000-v2-abcd"
STARTED = EvaluationStarted(1, "v2", TRAINED, "mistral", "Metal", 80, 160, 0, 64, 16)


def shown(event: Event) -> list[str]:
    return Console().lines(Envelope(event, JOB, 2, "2026-11-22T23:00:00.000+00:00"))


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}


def evaluated(scores: dict[str, Any]) -> Evaluated:
    return Evaluated(
        state="completed",
        evaluates=TRAINED,
        questions=80,
        token_f1=0.7,
        exact_match=0.5,
        rouge_l=0.7,
        chrf=0.7,
        val_loss=0.5,
        perplexity=1.65,
        base_val_loss=2.5,
        cut=0,
        scores=scores,
        elapsed_time_sec=9.0,
        folder="there",
    )


def test_the_adapter_stands_beside_the_base_model_with_intervals() -> None:
    means = {"adapter": 0.7, "base": 0.9, "gain": -0.2}
    scores = {by: {m: interval(mean) for m in METRICS} for by, mean in means.items()}
    lines = shown(evaluated(scores))
    (f1,) = (line.split("  ") for line in lines if "Token F1" in line)
    assert [cell.strip() for cell in f1 if cell.strip()] == [
        "Token F1",
        "0.700 [0.650, 0.750]",
        "0.900 [0.850, 0.950]",
        "-0.200 [-0.250, -0.150]",
    ]
    assert any(line.split() == ["Val", "loss", "0.5000", "2.5000"] for line in lines)


def test_scores_of_another_farense_leave_the_rest_to_be_read() -> None:
    lines = shown(evaluated({"adapter": {"bleu": 3}}))
    assert any("Val loss" in line for line in lines)
    assert not any("Token F1" in line for line in lines)


def test_the_beginning_says_who_is_asked_and_a_later_attempt_where_it_goes_on() -> None:
    first = "\n".join(shown(STARTED))
    assert f"{TRAINED} (preset v2)" in first
    assert "at most 64 tokens, 16 at a time" in first
    again = EvaluationStarted(**{**vars(STARTED), "answered": 31})
    assert "goes on after 31 of 160 answers (attempt 2, Metal)" in "\n".join(shown(again))

"""What the rows of a run say, whole, damaged, or of another program."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from jobs.compare.curve import curve_of
from jobs.past_run import read_run
from jobs.report.run_data import Measured, measured
from jobs.state import State


def run_of(folder: Path, rows: list[dict[str, Any]], **summary: Any) -> Measured:
    """Return a run of another program."""
    (folder / "training_metrics.json").write_text(json.dumps(rows))
    if summary:
        (folder / "training_summary.json").write_text(json.dumps(summary))
    return measured(read_run(folder))


def test_a_series_leaves_out_what_is_missing_and_sets_apart_what_is_not_finite(
    tmp_path: Path,
) -> None:
    values = [2.0, None, math.nan, "text", True, 1.5, -math.inf, 10**400, [1]]
    run = run_of(tmp_path, [{"step": n, "loss": value} for n, value in enumerate(values, 1)])
    series = run.series("loss")
    assert (series.steps, series.values) == ([1, 6], [2.0, 1.5])
    assert series.odd == [3, 7, 8]


def test_a_row_without_a_step_stands_where_it_is_in_the_list(tmp_path: Path) -> None:
    run = run_of(tmp_path, [{"loss": 3.0}, {"loss": 2.0, "step": "x"}])
    assert run.series("loss").steps == [1, 2]


def test_the_best_is_the_lowest_and_never_the_baseline(tmp_path: Path) -> None:
    losses = [0.5, 2.0, 1.9995, math.nan, 1.0, 1.2]
    rows = [
        {"step": n * 10, "val_loss": v, "overfitting_gap": n / 10} for n, v in enumerate(losses)
    ]
    run = run_of(tmp_path, rows)
    assert run.baseline == 0.5
    assert run.best is not None
    assert (run.best.step, run.best.loss, run.best.gap) == (40, 1.0, 0.4)
    assert run.best.status == "SEM APRENDIZAGEM"
    run = run_of(tmp_path, rows[:3], config={"early_stopping_min_delta": 0.001})
    assert run.best is not None
    assert run.best.step == 20


def test_the_adapter_that_an_older_farense_kept_is_the_best(tmp_path: Path) -> None:
    """It passed over gains below ``min_delta``; a run that has not ended says so for people."""
    rows = [{"step": n * 10, "val_loss": v} for n, v in enumerate([3.0, 2.0, 1.9995])]
    run = run_of(tmp_path, rows)
    state = run.run.directory.training_state
    state.write_text('{"best_step": 10, "best_val_loss": 2.0}')
    best = measured(read_run(run.run.directory.path)).best
    assert best is not None
    assert (best.step, best.loss) == (10, 2.0)


@pytest.mark.parametrize(
    ("extra", "gap", "rough"),
    [
        ({}, 0.5, True),
        ({"train_eval_loss": 1.25}, 0.75, False),
        ({"overfitting_gap": 0.4}, 0.4, True),
    ],
    ids=["mini-batches", "eval-mode", "noted"],
)
def test_the_gap_is_that_of_a_comparison(
    tmp_path: Path, extra: dict[str, float], gap: float, rough: bool
) -> None:
    rows: list[dict[str, Any]] = [
        {"step": 10, "loss": 1.5},
        {"step": 20, "val_loss": 2.0, **extra},
        {"step": 30, "loss": 0.5, "val_loss": 2.5},
    ]
    best, curve = run_of(tmp_path, rows).best, curve_of(rows)
    assert best is not None
    assert (best.gap, best.rough) == (curve.gap, not curve.like_with_like) == (gap, rough)


@pytest.mark.parametrize("rows", [[{"step": 0, "val_loss": 3.0}], [{"step": 4, "loss": 1.0}]])
def test_without_a_validation_after_step_0_there_is_no_best(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    assert run_of(tmp_path, rows).best is None


@pytest.mark.parametrize(
    ("summary", "how"),
    [
        ({"state": "early_stopped"}, "stopped early"),
        ({"state": "failed", "reason": "It diverged."}, "failed"),
        ({"state": "completed"}, None),
        ({"state": "no state"}, None),
        ({}, None),
    ],
)
def test_how_it_was_broken_off(tmp_path: Path, summary: dict[str, str], how: str | None) -> None:
    run = run_of(tmp_path, [{"step": 1, "loss": 1.0}], **summary)
    assert run.broken_off == how
    assert run.reason == summary.get("reason")
    assert run.state in (None, *State)

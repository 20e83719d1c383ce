"""What the rows of a run say, whoever wrote them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from jobs.compare.curve import BestValidation, Row, best_of, curve_of
from jobs.past_run import read_run
from jobs.paths import Workspace
from tests.helpers.past_runs import FIRST, SECOND
from tests.helpers.sides import ROWS, row


@pytest.mark.parametrize("job_id", [FIRST, SECOND])
def test_it_agrees_with_what_the_training_itself_summed_up(past: Workspace, job_id: str) -> None:
    run = read_run(past.run(job_id).path)
    curve, summary = curve_of(run.rows), run.summary
    assert curve.best_val_loss == summary["best_val_loss"]
    assert (curve.best_step, curve.best_epoch) == (summary["best_step"], summary["best_epoch"])
    assert curve.baseline_val_loss == summary["baseline_val_loss"]
    assert curve.gap == pytest.approx(summary["best_gap"])
    assert curve.gap_status == summary["gap_status"]
    assert curve.steps == summary["step"]
    assert curve.like_with_like


def test_losses_gap_and_course() -> None:
    curve = curve_of(ROWS)
    assert (curve.best_val_loss, curve.best_step, curve.best_epoch) == (1.2, 400, 2)
    assert curve.gap == pytest.approx(0.1)
    assert curve.gap_status == "BOM"
    assert (curve.validations, curve.since_best, curve.last_val_loss) == (3, 1, 1.25)
    assert (curve.first_loss, curve.last_loss) == (3.0, 1.0)
    assert (curve.not_finite, curve.train_rise) == (None, 0.0)


def test_the_best_is_the_one_whose_adapter_was_kept() -> None:
    rows = [row(1, 2.0, 2.0), row(2, 1.99, 1.9), row(3, 1.985, 1.9)]
    curve = curve_of(rows, min_delta=0.02)
    assert (curve.best_step, curve.since_best, curve.since_improvement) == (3, 0, 2)
    assert curve.missed_gain == pytest.approx(0.015)
    # Once an adapter was kept only where it gained more than min_delta.
    old = curve_of(rows, min_delta=0.02, kept_step=1)
    assert (old.best_step, old.since_best, old.since_improvement) == (1, 2, 2)
    assert old.missed_gain == pytest.approx(0.015)
    plain = curve_of(rows)
    assert (plain.best_step, plain.since_improvement, plain.missed_gain) == (3, 0, 0)
    # What is no step of a validation is no place of an adapter.
    assert curve_of(rows, kept_step=7).best_step == 3


def test_the_gap_of_an_older_run_is_rough() -> None:
    """Its training loss is of mini-batches: the one before the validation is taken."""
    rows: list[Row] = [{"step": 10, "loss": 0.9}, {"step": 20, "loss": None, "val_loss": 3.2}]
    curve = curve_of(rows)
    assert curve.gap == pytest.approx(2.3)
    assert curve.train_loss == 0.9
    assert (curve.like_with_like, curve.gap_status) == (False, "CRÍTICO")
    noted = curve_of([{"step": 20, "loss": 0.9, "val_loss": 3.2, "overfitting_gap": 2.27}])
    assert (noted.gap, noted.like_with_like) == (2.27, False)


def test_the_best_validation_alone_with_its_gap_and_whether_that_is_rough() -> None:
    old: list[Row] = [
        {"step": 0, "val_loss": 0.5},
        {"step": 10, "loss": 0.9, "val_loss": 1.7645},
        {"step": 20, "loss": 0.2, "val_loss": 1.8},
    ]
    best = best_of(old)
    assert best == BestValidation(10, None, 1.7645, 0.9, 1.7645 - 0.9, rough=True, baseline=0.5)
    assert best.gap_status == "SEM APRENDIZAGEM"
    found = best_of(old[1:])
    assert found == replace(best, baseline=None)
    assert found.gap_status == "CRÍTICO"
    # That another program knows no loss before training is said; not that a rough gap is low.
    assert found.gap_note is None
    assert best_of(ROWS) == BestValidation(400, 2, 1.2, 1.1, 1.2 - 1.1, rough=False, baseline=3.0)
    alone = best_of([{"step": 5, "val_loss": 2.0}])
    assert alone == BestValidation(5, None, 2.0, None, None, rough=False)
    assert alone.gap_status is None
    assert best_of([{"step": 0, "val_loss": 2.0}, {"step": 5, "val_loss": math.nan}]) is None


def test_a_loss_that_is_not_finite_is_found_and_never_the_best() -> None:
    rows = [row(1, 2.0, 1.9), row(2, math.nan, math.nan), row(3, math.inf, 5.0)]
    curve = curve_of(rows)
    assert (curve.best_step, curve.not_finite) == (1, 2)
    assert curve_of([row(1, math.nan)]).best_val_loss is None
    assert curve_of([{"step": 4, "loss": math.inf}]).not_finite == 4


def test_a_training_loss_that_jumps() -> None:
    assert curve_of([row(1, 2, 1.0), row(2, 2, 1.4), row(3, 2, 0.5)]).train_rise == (
        pytest.approx(0.4)
    )


def test_nothing_and_nonsense() -> None:
    nonsense: Row = {"step": "a", "loss": True, "val_loss": "low", "epoch": [1]}
    cases: list[list[Row]] = [[], [{}], [nonsense]]
    for rows in cases:
        curve = curve_of(rows)
        assert (curve.validations, curve.best_val_loss, curve.gap) == (0, None, None)
        assert (curve.steps, curve.first_loss, curve.seconds) == (None, None, None)

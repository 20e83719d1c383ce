import math

import pytest

from jobs.early_stopping import EarlyStopping, GapStatistics, gap_status


def after(stopping: EarlyStopping, *losses: float) -> EarlyStopping:
    for step, loss in enumerate(losses, start=1):
        stopping = stopping.after(loss, epoch=1, step=step)
    return stopping


def test_stops_after_patience_validations_without_improvement() -> None:
    stopping = EarlyStopping(patience=2)
    assert not after(stopping, 1.0, 1.1).should_stop
    assert after(stopping, 1.0, 1.1, 1.2).should_stop
    assert not after(stopping, 1.0, 1.1, 0.9, 1.2).should_stop


def test_the_first_validation_is_an_improvement() -> None:
    assert EarlyStopping(patience=1).improves(99.0)


def test_an_improvement_must_exceed_min_delta() -> None:
    stopping = after(EarlyStopping(patience=5, min_delta=0.001), 1.0)
    assert not stopping.improves(0.9995)
    assert stopping.improves(0.9985)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_never_improves(loss: float) -> None:
    stopping = after(EarlyStopping(patience=2), loss, loss)
    assert stopping.best_loss is None
    assert stopping.should_stop


def test_remembers_where_the_best_was() -> None:
    stopping = after(EarlyStopping(patience=None), 3.0, 2.0, 2.5)
    assert (stopping.best_loss, stopping.best_step, stopping.without_improvement) == (2.0, 2, 1)


def test_without_patience_it_never_stops() -> None:
    assert not after(EarlyStopping(patience=None), *[1.0] * 100).should_stop


@pytest.mark.parametrize(
    ("gap", "word"),
    [
        (-1.0, "EXCELENTE"),
        (0.0499, "EXCELENTE"),
        (0.05, "BOM"),
        (0.1499, "BOM"),
        (0.15, "MODERADO"),
        (0.2999, "MODERADO"),
        (0.30, "CRÍTICO"),
        (2.27, "CRÍTICO"),
        (math.nan, "CRÍTICO"),
    ],
)
def test_gap_bands(gap: float, word: str) -> None:
    assert gap_status(gap) == word


def test_gap_statistics() -> None:
    gaps = GapStatistics()
    assert gaps.mean is None
    for gap, improved in ((0.1, True), (0.3, True), (-0.1, False)):
        gaps = gaps.after(gap, improved=improved)
    assert gaps.mean == pytest.approx(0.1)
    assert (gaps.highest, gaps.lowest, gaps.at_best) == (0.3, -0.1, 0.3)

import math

import pytest

from jobs.training.counters import Position
from jobs.training.early_stopping import EarlyStopping, GapStatistics
from jobs.verdict import gap_status


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


def test_the_best_is_the_lowest_whatever_patience_counts() -> None:
    stopping = after(EarlyStopping(patience=3, min_delta=0.3), 5.7968, 5.5260)
    assert (stopping.best_loss, stopping.best_step) == (5.5260, 2)
    assert stopping.without_improvement == 1
    assert stopping.is_best(5.5259)
    assert not stopping.is_best(5.5260)


def test_small_gains_add_up_until_they_count() -> None:
    """Each is measured from the loss that last started patience anew, not from the best."""
    stopping = after(EarlyStopping(patience=3, min_delta=0.3), 5.8, 5.6)
    assert not stopping.improves(5.5)
    assert stopping.improves(5.45)
    stopping = after(stopping, 5.45, 5.2)
    assert (stopping.reference_loss, stopping.best_loss) == (5.45, 5.2)
    assert stopping.without_improvement == 1


def test_a_checkpoint_without_the_reference_counts_from_its_best() -> None:
    old = EarlyStopping(3, 0.3, best_loss=5.8, best_epoch=1, best_step=10, without_improvement=1)
    stopping = old.after(5.6, 1, 20)
    assert (stopping.best_loss, stopping.without_improvement) == (5.6, 2)
    assert not stopping.improves(5.5)
    assert stopping.improves(5.4)


def test_where_a_run_stands_is_read_from_checkpoints_new_and_old() -> None:
    stopping = after(EarlyStopping(patience=3, min_delta=0.3), 5.8, 5.6)
    values = Position(stopping, step=20).as_dict()
    assert Position.from_dict(values).early_stopping == stopping
    values["early_stopping"].pop("reference_loss")
    old = Position.from_dict(values).early_stopping
    assert old.after(5.59, 1, 30).without_improvement == 2
    assert not old.after(5.59, 1, 30).improves(5.31)


@pytest.mark.parametrize("losses", [[3.0, 2.0, 2.5, 2.0, 1.9, math.nan, 1.9, 1.8]])
def test_without_min_delta_the_best_is_what_counts_for_patience(losses: list[float]) -> None:
    stopping = EarlyStopping(patience=None)
    for step, loss in enumerate(losses, 1):
        assert stopping.is_best(loss) == stopping.improves(loss)
        stopping = stopping.after(loss, 1, step)
        assert stopping.reference_loss == stopping.best_loss
    assert (stopping.best_step, stopping.best_loss) == (8, 1.8)


def test_gap_statistics() -> None:
    gaps = GapStatistics()
    assert gaps.mean is None
    for gap, best in ((0.1, True), (0.3, True), (-0.1, False)):
        gaps = gaps.after(gap, best=best)
    assert gaps.mean == pytest.approx(0.1)
    assert (gaps.highest, gaps.lowest, gaps.at_best) == (0.3, -0.1, 0.3)

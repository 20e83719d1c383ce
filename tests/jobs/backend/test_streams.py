"""Micro-batches in pieces: every row once, the same mean, the same steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.backend.streams import Lanes, cpu_lanes
from jobs.paths import Workspace
from jobs.training.batches import BatchPlan, Piece, Source, cut
from tests.helpers.attempts import attempt
from tests.helpers.engines import (
    NO_DROPOUT,
    Arrays,
    Rig,
    examples,
    lanes,
    settings,
    target_count,
)
from tests.helpers.runs import make_run, metrics


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("parts", [1, 2, 4, 16])
def test_cutting_keeps_all_rows_in_order_and_no_part_empty(count: int, parts: int) -> None:
    pieces = cut(list(range(count)), parts)
    assert [row for piece in pieces for row in piece] == list(range(count))
    assert len(pieces) == min(count, parts)
    assert {len(piece) for piece in pieces} <= {count // len(pieces), -(-count // len(pieces))}


def test_lanes_are_no_more_than_rows() -> None:
    assert len(cpu_lanes(1)) == 1
    assert 1 <= len(cpu_lanes(4)) <= 4


def gradient(model: Path, batches: list[list[list[int]]], lanes_count: int = 1) -> Arrays:
    """Return the mean gradient, and the loss as `loss`, of steps on batches given in pieces."""
    rig = Rig(model, lora=NO_DROPOUT, lanes_count=lanes_count)
    rig.move_adapter()
    for step, pieces in enumerate(batches, start=1):
        rig.engine.step(rig.pieces(*pieces), step)
    count = target_count(rig.source.examples)
    return {"loss": np.array(rig.engine.take_loss() / count), **rig.gradient(count)}


@pytest.fixture(scope="module")
def one_by_eight(tiny_model: Path) -> Arrays:
    return gradient(tiny_model, [[list(range(8))]])


@pytest.mark.parametrize(
    ("batches", "lanes_count"),
    [
        ([[[0, 1]], [[2, 3]], [[4, 5]], [[6, 7]]], 1),  # four steps of two
        ([[[0, 1, 2], [3, 4, 5, 6, 7]]], 1),  # in two pieces
        ([[[row] for row in range(8)]], 1),  # in eight
        ([[[0, 1, 2, 3], [4, 5, 6, 7]]], 2),  # on two lanes
        ([[[0], [1]], [[2, 3, 4], [5, 6]], [[7]]], 2),  # the second lane with less to do
        ([[[0], [1], [2], [3]], [[4, 5], [6], [7]]], 3),
    ],
)
def test_two_by_four_is_one_by_eight(
    tiny_model: Path, one_by_eight: Arrays, batches: list[list[list[int]]], lanes_count: int
) -> None:
    found = gradient(tiny_model, batches, lanes_count)
    for name, expected in one_by_eight.items():
        assert np.abs(expected).max() > 0
        assert found[name] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (3, 2), (1, 2)])
def test_what_was_accumulated_goes_over_to_another_number_of_lanes(
    tiny_model: Path, before: int, after: int
) -> None:
    old = Rig(tiny_model, lora=NO_DROPOUT, lanes_count=before)
    old.move_adapter()
    old.engine.step(old.pieces([0, 1], [2], [3, 4]), 1)
    new = Rig(tiny_model, lora=NO_DROPOUT, lanes_count=after)
    new.engine.restore(old.engine.adapter, old.engine.state())
    for rig in (old, new):
        rig.engine.step(rig.pieces([5], [6, 7]), 2)
    expected, found = old.gradient(1), new.gradient(1)
    for name in expected:
        assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-4)
    assert new.engine.take_loss() == pytest.approx(old.engine.take_loss(), rel=1e-5)


def batches(splits: int, on: Lanes) -> BatchPlan:
    config = settings(batch_size=4, gradient_accumulation=3, num_epochs=1)
    return BatchPlan(Source(examples(30)), None, config, on, splits)


def targets_of(pieces: list[Piece]) -> list[int]:
    return [
        int(target) for piece in pieces for target in piece.batch.targets[piece.batch.weights == 1]
    ]


@pytest.mark.parametrize("lanes_count", [1, 2])
@pytest.mark.parametrize("splits", [0, 1, 2, 5])
def test_splitting_keeps_every_row_and_every_step(splits: int, lanes_count: int) -> None:
    plain, split = batches(0, lanes(1)), batches(splits, lanes(lanes_count))
    assert split.schedule == plain.schedule
    for step in range(1, plain.schedule.total_steps + 1):
        (whole,) = plain.step(step)
        pieces = split.step(step)
        assert targets_of(pieces) == targets_of([whole])
        assert sum(piece.batch.token_count for piece in pieces) == whole.batch.token_count
        rows = max(len(piece.batch.inputs) for piece in pieces)
        assert rows <= max(1, -(-4 >> splits))
    assert sorted(targets_of(list(split.train_slice))) == sorted(
        targets_of(list(plain.train_slice))
    )


def test_every_lane_has_work_in_a_full_update() -> None:
    two, rows = batches(0, lanes(2)), [0, 0]
    for step in (1, 2, 3):
        for piece in two.step(step):
            rows[piece.lane] += len(piece.batch.inputs)
    assert rows == [6, 6]


def test_a_split_run_has_the_same_steps_and_losses(alone: Workspace, tiny_model: Path) -> None:
    """Without dropout, whose random numbers go with the pieces."""
    runs = [
        make_run(alone, tiny_model, f"20261122-21000{n}-tiny-lane", lora=NO_DROPOUT, batch_size=4)
        for n in range(3)
    ]
    for splits, run in enumerate(runs):
        attempt(alone, run, splits=splits)
    whole, *split = map(metrics, runs)
    for rows in split:
        for expected, row in zip(whole, rows, strict=True):
            for name in ("step", "update", "epoch", "learning_rate"):
                assert row[name] == expected[name]
            for name in ("loss", "val_loss", "train_eval_loss", "grad_norm"):
                assert row[name] == pytest.approx(expected[name], abs=1e-5)

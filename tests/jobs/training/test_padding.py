"""Padded shapes: every batch fits, and no epoch after the first brings a new one."""

from __future__ import annotations

import pytest

from jobs.backend.mlx import mx
from jobs.training.batches import BatchPlan, Source
from tests.helpers.engines import examples, lanes, settings


def shapes_of(batches: BatchPlan, epoch: int) -> set[tuple[int, tuple[int, ...], int]]:
    steps = batches.schedule.steps_per_epoch
    pieces = [p for n in range(steps) for p in batches.step(epoch * steps + n + 1)]
    return {(p.lane, p.batch.inputs.shape, p.batch.targets.size) for p in pieces}


@pytest.mark.parametrize("lane_count", [1, 2])
@pytest.mark.parametrize(("batch_size", "accumulation"), [(2, 4), (8, 1), (4, 2), (3, 3), (1, 8)])
@pytest.mark.parametrize("count", [60, 61])
def test_later_epochs_bring_no_new_shape(
    lane_count: int, batch_size: int, accumulation: int, count: int
) -> None:
    config = settings(
        batch_size=batch_size, gradient_accumulation=accumulation, num_epochs=4, max_steps=None
    )
    batches = BatchPlan(Source(examples(count)), None, config, lanes(lane_count))
    tried = batches.largest_pieces()
    known = shapes_of(batches, 0) | {
        (p.lane, p.batch.inputs.shape, p.batch.targets.size) for p in tried
    }
    for epoch in (1, 2, 3):
        assert shapes_of(batches, epoch) <= known


def test_more_padding_changes_no_loss() -> None:
    source = Source(examples(2))
    plain, padded = source.piece([0, 1], 0), source.piece([0, 1], 0, (96, 64))
    assert padded.batch.inputs.shape == (2, 96)
    assert padded.batch.targets.size == 64
    assert padded.batch.target_count == plain.batch.target_count == padded.batch.weights.sum()
    assert bool(mx.all(padded.inputs[:, 64:] == 0))

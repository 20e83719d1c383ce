"""Padded shapes: every batch fits, and no epoch after the first brings a new one."""

from __future__ import annotations

import pytest

from jobs.backend.mlx import mx
from jobs.data.batching import padded
from jobs.training.batches import BatchPlan, Source
from jobs.training.padding import MOST_SHAPES
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


@pytest.mark.parametrize("lane_count", [1, 2])
def test_widely_different_lengths_have_few_shapes_and_none_beyond_the_largest(
    lane_count: int,
) -> None:
    rows = examples(400, longest=2000)
    config = settings(batch_size=2, gradient_accumulation=2, num_epochs=2, gap_examples=400)
    batches = BatchPlan(Source(rows), Source(rows), config, lanes(lane_count))
    tried = batches.largest_pieces()
    widest = max(p.batch.inputs.shape[1] for p in tried)
    most = {len(p.batch.inputs): p.batch.targets.size for p in tried}
    shapes = shapes_of(batches, 0) | shapes_of(batches, 1)
    for lane in range(lane_count):
        assert len([shape for shape in shapes if shape[0] == lane]) <= MOST_SHAPES
    assert all(width <= widest and targets <= most[size] for _, (size, width), targets in shapes)
    measured = [piece.batch for piece in (*batches.validation, *batches.train_slice)]
    assert len({(b.inputs.shape, b.targets.size) for b in measured}) <= MOST_SHAPES
    assert sum(b.target_count for b in measured) == 2 * sum(row.target_count for row in rows)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, 16), (16, 16), (17, 32), (256, 256), (257, 288), (513, 576), (1024, 1024), (2049, 2304)],
)
def test_what_a_size_is_padded_to(size: int, expected: int) -> None:
    assert padded(size) == expected
    assert padded(expected) == expected


def test_more_padding_changes_no_loss() -> None:
    source = Source(examples(2))
    plain, wider = source.piece([0, 1], 0), source.piece([0, 1], 0, (96, 64))
    assert wider.batch.inputs.shape == (2, 96)
    assert wider.batch.targets.size == 64
    assert wider.batch.target_count == plain.batch.target_count == wider.batch.weights.sum()
    assert bool(mx.all(wider.inputs[:, 64:] == 0))

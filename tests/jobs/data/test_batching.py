import numpy as np
import pytest

from jobs.data.batching import epoch_order, evaluation_order, fixed_slice, make_batch
from jobs.data.tokenize import TokenizedExample

LENGTHS = [5 + (7 * index) % 40 for index in range(101)]


def test_targets_are_the_next_tokens_of_the_completion() -> None:
    batch = make_batch(
        [TokenizedExample((10, 11, 12, 13, 14), 3), TokenizedExample((20, 21, 22), 1)]
    )
    flat = batch.inputs.reshape(-1)
    real = batch.weights == 1
    seen = flat[batch.positions[real]].tolist()
    assert seen == [12, 13, 20, 21]
    assert batch.targets[real].tolist() == [13, 14, 21, 22]
    assert batch.target_count == 4
    assert batch.token_count == 4 + 2


def test_what_stands_between_answers_is_no_target() -> None:
    row = TokenizedExample((10, 11, 12, 13, 14, 15, 16), 2, ((3, 5),))
    batch = make_batch([TokenizedExample((1, 2, 3), 1), row])
    real = batch.weights == 1
    flat = batch.inputs.reshape(-1)
    assert flat[batch.positions[real]].tolist() == [1, 2, 11, 14, 15]
    assert batch.targets[real].tolist() == [2, 3, 12, 15, 16]
    assert (batch.target_count, batch.token_count) == (5, 2 + 6)


def test_shapes_are_few() -> None:
    shapes = {
        make_batch([TokenizedExample(tuple(range(n)), 1)]).inputs.shape for n in range(2, 400)
    }
    assert len(shapes) == 21
    assert all(width % 16 == 0 for _, width in shapes)


def test_every_example_is_in_every_epoch_once() -> None:
    for epoch in range(3):
        order = epoch_order(LENGTHS, 4, seed=1, epoch=epoch)
        assert sorted(np.concatenate(order).tolist()) == list(range(101))
        assert sorted(len(batch) for batch in order) == [1] + [4] * 25


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def plain(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in epoch_order(LENGTHS, 4, seed, epoch)]

    assert plain(1, 0) == plain(1, 0)
    assert plain(1, 0) != plain(1, 1)
    assert plain(1, 0) != plain(2, 0)


def test_batches_hold_similar_lengths() -> None:
    lengths = np.asarray(LENGTHS)
    spread = [np.ptp(lengths[batch]) for batch in epoch_order(LENGTHS, 4, seed=1, epoch=0)]
    assert np.mean(spread) < 4


def test_evaluation_order_is_whole_and_fixed() -> None:
    order = evaluation_order(LENGTHS, 8)
    assert sorted(np.concatenate(order).tolist()) == list(range(101))


@pytest.mark.parametrize(("count", "wanted"), [(3, 8), (8, 8), (1000, 64)])
def test_fixed_slice(count: int, wanted: int) -> None:
    chosen = fixed_slice(count, wanted)
    assert len(chosen) == len(set(chosen)) == min(count, wanted)
    assert all(0 <= index < count for index in chosen)

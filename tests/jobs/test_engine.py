"""The numbers of training, against independent computations on a real (tiny) model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.batching import Batch, make_batch
from jobs.config import TrainConfig, config_from
from jobs.engine import Engine, token_losses
from jobs.mlx import mx, scalar
from jobs.model import LanguageModel, apply_lora, load_base
from tests.helpers.runs import SETTINGS

Rows = list[tuple[list[int], int]]


def settings(**changes: object) -> TrainConfig:
    return config_from({**SETTINGS, "data": {"train": "x"}, **changes}, "test")


def engine_on(model: Path, **changes: object) -> Engine:
    config = settings(**changes)
    base = load_base(model)
    apply_lora(base.module, config.lora, config.seed)
    return Engine(base, config)


def rows(count: int = 8) -> Rows:
    random = np.random.default_rng(5)
    lengths = random.integers(6, 60, count)
    return [(random.integers(3, 500, n).tolist(), int(n) // 2) for n in lengths]


def losses_of(model: LanguageModel, batch: Batch) -> np.ndarray:
    arrays = mx.array(batch.inputs), mx.array(batch.positions), mx.array(batch.targets)
    losses: np.ndarray = np.asarray(token_losses(model, *arrays))
    return np.compress(batch.weights == 1, losses)


def plain_loss(model: LanguageModel, examples: Rows) -> float:
    """Return the mean loss by a float64 log-softmax in NumPy, one unpadded example at a time."""
    total, count = 0.0, 0
    for tokens, prompt_length in examples:
        logits = np.array(model.module(mx.array([tokens])).astype(mx.float32), np.float64)[0]
        for index in range(prompt_length, len(tokens)):
            row = logits[index - 1]
            log_sum = row.max() + np.log(np.exp(row - row.max()).sum())
            total += log_sum - row[tokens[index]]
            count += 1
    return total / count


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> LanguageModel:
    return load_base(tiny_model)


def test_loss_is_the_mean_over_exactly_the_completion_targets(base: LanguageModel) -> None:
    examples = rows()
    batch = make_batch(examples)
    assert losses_of(base, batch).mean() == pytest.approx(plain_loss(base, examples), abs=1e-5)


def test_loss_equals_mlx_lm_without_the_position_it_counts_too_many(base: LanguageModel) -> None:
    from mlx_lm.tuner.trainer import default_loss

    examples = rows()
    width = max(len(tokens) for tokens, _ in examples) + 8
    padded = np.zeros((len(examples), width), np.int32)
    for row, (tokens, _) in enumerate(examples):
        padded[row, : len(tokens)] = tokens
    # Its mask is `offset <= step <= length`, steps from 1: the last of them predicts padding.
    spans = np.array([(start, len(tokens) - 1) for tokens, start in examples])
    theirs, count = default_loss(base.module, mx.array(padded), mx.array(spans))
    mine = losses_of(base, make_batch(examples))
    assert int(count.item()) == len(mine)
    assert float(theirs.item()) == pytest.approx(mine.mean(), abs=1e-4)

    over = np.array([(start, len(tokens)) for tokens, start in examples])
    theirs, count = default_loss(base.module, mx.array(padded), mx.array(over))
    assert int(count.item()) == len(mine) + len(examples)


def test_prompt_and_padding_do_not_count(base: LanguageModel) -> None:
    (tokens, start), *_ = examples = rows(3)
    batch = make_batch(examples)
    wider = Batch(
        np.pad(batch.inputs, ((0, 0), (0, 64))),
        batch.positions % batch.inputs.shape[1]
        + batch.positions // batch.inputs.shape[1] * (batch.inputs.shape[1] + 64),
        batch.targets,
        batch.weights,
        batch.target_count,
        batch.token_count,
    )
    assert losses_of(base, wider) == pytest.approx(losses_of(base, batch), abs=1e-5)
    assert batch.target_count == sum(len(t) - s for t, s in examples)
    # A prompt token is never a target: making it one would change the number of losses.
    assert len(losses_of(base, make_batch([(tokens, start)]))) == len(tokens) - start


def gradient_step(model: Path, examples: Rows, size: int) -> tuple[dict[str, np.ndarray], float]:
    engine = engine_on(model, lora={**SETTINGS["lora"], "dropout": 0.0}, weight_decay=0.0)
    # Away from the start, where the B matrices are zero and the A matrices have no gradient.
    engine._set_adapter({k: v + 0.01 for k, v in engine.adapter().items()})
    count = 0
    for step, first in enumerate(range(0, len(examples), size), start=1):
        batch = make_batch(examples[first : first + size])
        engine.step(batch, step)
        count += batch.target_count
    gradient = {name: np.array(total) / count for name, total in engine.accumulated.items()}
    return gradient, engine.take_loss() / count


def test_two_by_four_is_one_by_eight(tiny_model: Path) -> None:
    examples = rows(8)
    one, one_loss = gradient_step(tiny_model, examples, 8)
    four, four_loss = gradient_step(tiny_model, examples, 2)
    assert four_loss == pytest.approx(one_loss, abs=1e-5)
    for name, gradient in one.items():
        assert np.abs(gradient).max() > 0
        assert four[name] == pytest.approx(gradient, abs=1e-5)


def test_an_update_is_adamw_on_the_mean_gradient(tiny_model: Path) -> None:
    engine = engine_on(tiny_model, weight_decay=0.1)
    before = {name: np.array(value) for name, value in engine.adapter().items()}
    batch = make_batch(rows(2))
    engine.step(batch, 1)
    gradient = {
        name: np.array(value) / batch.target_count for name, value in engine.accumulated.items()
    }
    engine.update(batch.target_count, 1e-3, 1)
    for name, value in engine.adapter().items():
        # Without bias correction: m = 0.1 g, v = 0.001 g^2 after one update.
        g = gradient[name]
        expected = before[name] * (1 - 1e-3 * 0.1)
        expected -= 1e-3 * 0.1 * g / (np.sqrt(0.001 * g * g) + 1e-8)
        assert np.array(value) == pytest.approx(expected, abs=1e-5)
    norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
    assert scalar(engine.grad_norm) == pytest.approx(norm, rel=1e-4)


def test_measuring_changes_nothing_about_training(tiny_model: Path) -> None:
    batch, other = make_batch(rows(2)), make_batch(rows(8))

    def train(*, measuring: bool) -> dict[str, np.ndarray]:
        engine = engine_on(tiny_model)
        for step in range(1, 5):
            if measuring:
                engine.measure([other])
            engine.step(batch, step)
            engine.update(batch.target_count, 1e-2, step)
        return {name: np.array(value) for name, value in engine.adapter().items()}

    with_measuring, without = train(measuring=True), train(measuring=False)
    assert all((with_measuring[name] == without[name]).all() for name in without)


def test_measuring_has_no_dropout_and_training_has(tiny_model: Path) -> None:
    engine = engine_on(tiny_model, lora={**SETTINGS["lora"], "dropout": 0.5})
    engine._set_adapter({k: v + 0.05 for k, v in engine.adapter().items()})
    batch = make_batch(rows(4))
    assert engine.measure([batch]) == engine.measure([batch])
    engine.step(batch, 1)
    first = engine.take_loss()
    engine.step(batch, 2)
    assert engine.take_loss() != first


def test_nothing_is_applied_from_the_first_bad_step_on(tiny_model: Path) -> None:
    engine = engine_on(tiny_model)
    batch = make_batch(rows(2))
    engine.step(batch, 1)
    engine.accumulated = {k: v * np.inf for k, v in engine.accumulated.items()}
    before = {name: np.array(value) for name, value in engine.adapter().items()}
    engine.update(batch.target_count, 1e-2, 1)
    engine.step(batch, 2)
    engine.update(batch.target_count, 1e-2, 2)
    assert scalar(engine.bad_step) == 1
    assert all((np.array(v) == before[name]).all() for name, v in engine.adapter().items())


def test_only_the_last_blocks_are_adapted(tiny_model: Path) -> None:
    engine = engine_on(tiny_model)
    names = set(engine.adapter())
    assert names == {
        f"model.layers.{layer}.{path}.{matrix}"
        for layer in (2, 3)
        for path in ("self_attn.q_proj", "mlp.up_proj")
        for matrix in ("lora_a", "lora_b")
    }


def test_the_quantized_model_and_its_float32_form_agree(tiny_model: Path) -> None:
    from mlx_lm.utils import load_model

    from jobs.model import split_model

    quantized, _ = load_model(tiny_model)
    examples = rows(4)
    stored = losses_of(split_model(quantized), make_batch(examples)).mean()
    assert losses_of(load_base(tiny_model), make_batch(examples)).mean() == pytest.approx(
        stored, abs=2e-3
    )

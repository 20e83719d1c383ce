"""The numbers of training, against independent computations on a real (tiny) model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.backend.backend import BACKENDS
from jobs.backend.choice import AS_ACCELERATOR, CPU
from jobs.backend.mlx import mx, scalar
from jobs.data.tokenize import TokenizedExample
from jobs.model import base_model, load, losses
from tests.helpers.architectures import make_model
from tests.helpers.engines import (
    NO_DROPOUT,
    Arrays,
    Rig,
    examples,
    plain_loss,
    target_count,
)
from tests.helpers.runs import SETTINGS


@pytest.fixture(scope="module")
def cut(tiny_model: Path) -> Rig:
    return Rig(tiny_model)


@pytest.fixture(scope="module")
def whole(tiny_model: Path) -> Rig:
    return Rig(tiny_model, whole=True)


@pytest.mark.parametrize("kind", ["cut", "whole"])
def test_loss_is_the_mean_over_exactly_the_completion_targets(
    kind: str, request: pytest.FixtureRequest
) -> None:
    rig: Rig = request.getfixturevalue(kind)
    expected = plain_loss(rig.module, examples())
    (piece,) = rig.all()
    losses = rig.losses(piece)
    assert len(losses) == target_count(examples())
    assert losses.mean() == pytest.approx(expected, abs=1e-5)
    assert rig.engine.measure(rig.pieces([3, 1], [0, 2, 4], [7, 6, 5])) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("whole", [False, True])
def test_what_stands_between_answers_is_not_counted(tiny_model: Path, whole: bool) -> None:
    """Three conversations of several answers, of one, and one whose answers are a token each."""
    first, second, third = (list(range(start, start + 24)) for start in (3, 40, 90))
    rows = (
        TokenizedExample(tuple(first), 4, ((7, 11), (15, 20))),
        TokenizedExample(tuple(second), 9),
        TokenizedExample(tuple(third), 2, ((3, 6), (7, 23))),
    )
    rig = Rig(tiny_model, rows, whole=whole)
    (piece,) = rig.all()
    losses = rig.losses(piece)
    assert len(losses) == sum(row.target_count for row in rows) == 11 + 15 + 3
    assert losses.mean() == pytest.approx(plain_loss(rig.module, rows), abs=1e-5)


def test_loss_equals_mlx_lm_without_the_position_it_counts_too_many(cut: Rig) -> None:
    from mlx_lm.tuner.trainer import default_loss

    rows = examples()
    width = max(len(example.tokens) for example in rows) + 8
    padded = np.zeros((len(rows), width), np.int32)
    for row, example in enumerate(rows):
        padded[row, : len(example.tokens)] = example.tokens
    # Its mask is `offset <= step <= length`, steps from 1: the last of them predicts padding.
    spans = np.array([(row.prompt_length, len(row.tokens) - 1) for row in rows])
    theirs, count = default_loss(cut.module, mx.array(padded), mx.array(spans))
    mine = cut.losses(*cut.all())
    assert int(count.item()) == len(mine)
    assert float(theirs.item()) == pytest.approx(mine.mean(), abs=1e-4)

    over = np.array([(row.prompt_length, len(row.tokens)) for row in rows])
    theirs, count = default_loss(cut.module, mx.array(padded), mx.array(over))
    assert int(count.item()) == len(mine) + len(rows)


def test_padding_does_not_count(cut: Rig) -> None:
    (piece,) = cut.all()
    batch, width = piece.batch, piece.batch.inputs.shape[1]
    wider = replace(
        piece,
        inputs=mx.pad(piece.inputs, [(0, 0), (0, 64), (0, 0)], constant_values=9.0),
        batch=replace(batch, positions=batch.positions + batch.positions // width * 64),
    )
    assert cut.losses(wider) == pytest.approx(cut.losses(piece), abs=1e-5)


def test_a_short_text_that_is_all_target_can_be_trained_on(tiny_model: Path) -> None:
    """Its padded targets must not ask for more random numbers than its tokens were given."""
    rows = (TokenizedExample(tuple(range(3, 12)), 1),)
    rig = Rig(tiny_model, rows, lora={**SETTINGS["lora"], "keys": ["up_proj"]})
    rig.engine.step(rig.all(), 1)
    rig.engine.update(8, 1e-3, 1)
    assert rig.engine.take_loss() > 0
    assert rig.engine.bad_step() == 0


def adamw(before: Arrays, gradients: list[Arrays], rate: float, decay: float) -> Arrays:
    """Return the arrays after AdamW without bias correction, betas 0.9 and 0.999, in float64."""
    after = {}
    for name, value in before.items():
        x = value.astype(np.float64)
        m, v = np.zeros_like(x), np.zeros_like(x)
        for gradient in gradients:
            g = gradient[name].astype(np.float64)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            x = x * (1 - rate * decay) - rate * m / (np.sqrt(v) + 1e-8)
        after[name] = x
    return after


def norm_of(gradient: Arrays) -> float:
    return float(np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradient.values())))


@pytest.mark.parametrize("max_grad_norm", [None, 0.01, 1e6])
def test_an_update_is_adamw_on_the_mean_gradient(
    tiny_model: Path, max_grad_norm: float | None
) -> None:
    """Two updates, as the first of AdamW's hardly depends on the length of the gradient."""
    rig = Rig(tiny_model, weight_decay=0.1, max_grad_norm=max_grad_norm)
    rig.move_adapter()
    before, gradients = rig.adapter(), []
    for step, rows in enumerate(([0, 1], [2]), start=1):
        (piece,) = rig.pieces(rows)
        rig.engine.step([piece], step)
        gradient = rig.gradient(piece.batch.target_count)
        rig.engine.update(piece.batch.target_count, 1e-2, step)
        norm = norm_of(gradient)
        assert scalar(rig.engine.grad_norm) == pytest.approx(norm, rel=1e-4)
        assert 0.01 < norm < 1e6
        scale = min(1.0, (max_grad_norm or np.inf) / norm)
        gradients.append({name: g * scale for name, g in gradient.items()})
    expected = adamw(before, gradients, 1e-2, 0.1)
    for name, value in rig.adapter().items():
        assert value == pytest.approx(expected[name], abs=1e-5)


def test_clipping_is_off_unless_asked_for(tiny_model: Path) -> None:
    def trained(max_grad_norm: float | None) -> Arrays:
        rig = Rig(tiny_model, max_grad_norm=max_grad_norm)
        for step, rows in enumerate(([0], [1]), start=1):
            rig.engine.step(rig.pieces(rows), step)
            rig.engine.update(1, 1e-2, step)
        return rig.adapter()

    plain, loose, tight = trained(None), trained(1e9), trained(1e-3)
    assert all((plain[name] == loose[name]).all() for name in plain)
    assert any((plain[name] != tight[name]).any() for name in plain)


def test_measuring_changes_nothing_about_training(tiny_model: Path) -> None:
    def train(*, measuring: bool) -> Arrays:
        rig = Rig(tiny_model)
        for step in range(1, 5):
            if measuring:
                rig.engine.measure(rig.all())
            rig.engine.step(rig.pieces([0, 1]), step)
            rig.engine.update(9, 1e-2, step)
        return rig.adapter()

    with_measuring, without = train(measuring=True), train(measuring=False)
    assert all((with_measuring[name] == without[name]).all() for name in without)


def test_measuring_has_no_dropout_and_training_has(tiny_model: Path) -> None:
    rig = Rig(tiny_model, lora={**SETTINGS["lora"], "dropout": 0.5})
    rig.move_adapter(0.05)
    pieces = rig.pieces([0, 1, 2, 3])
    assert rig.engine.measure(pieces) == rig.engine.measure(pieces)
    losses = []
    for step in (1, 2, 1):
        rig.engine.step(pieces, step)
        losses.append(rig.engine.take_loss())
    assert losses[0] == losses[2] != losses[1]


def test_nothing_is_applied_from_the_first_bad_step_on(tiny_model: Path) -> None:
    rig = Rig(tiny_model)
    engine, pieces = rig.engine, rig.pieces([0, 1])
    engine.step(pieces, 1)
    engine.accumulated = [{k: v * np.inf for k, v in lane.items()} for lane in engine.accumulated]
    before = rig.adapter()
    engine.update(9, 1e-2, 1)
    engine.step(pieces, 2)
    engine.update(9, 1e-2, 2)
    assert engine.bad_step() == 1
    assert all((value == before[name]).all() for name, value in rig.adapter().items())


def test_only_the_last_blocks_are_adapted(cut: Rig) -> None:
    assert set(cut.engine.adapter) == {
        f"model.layers.{layer}.{path}.{matrix}"
        for layer in (2, 3)
        for path in ("self_attn.q_proj", "mlp.up_proj")
        for matrix in ("lora_a", "lora_b")
    }


def test_the_quantized_model_and_its_float32_form_agree(tiny_model: Path, whole: Rig) -> None:
    from mlx_lm.utils import load_model

    quantized = plain_loss(load_model(tiny_model)[0], examples())
    assert plain_loss(whole.module, examples()) == pytest.approx(quantized, abs=2e-3)


@pytest.mark.parametrize("name", [CPU, AS_ACCELERATOR])
def test_checkpointed_gradients_are_the_same(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With dropout on: what is computed again drops the same."""
    for module in (base_model, load, losses):
        monkeypatch.setattr(module, "backend", BACKENDS[name])

    def step(*, grad_checkpoint: bool) -> tuple[float, Arrays]:
        rig = Rig(tiny_model, grad_checkpoint=grad_checkpoint)
        rig.move_adapter()
        rig.engine.step(rig.all(), 1)
        count = target_count(rig.source.examples)
        return rig.engine.take_loss() / count, rig.gradient(count)

    loss, gradient = step(grad_checkpoint=False)
    again, recomputed = step(grad_checkpoint=True)
    assert again == pytest.approx(loss, abs=1e-6)
    for name, expected in gradient.items():
        assert np.abs(expected).max() > 0
        assert recomputed[name] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_checkpointed_gradients_take_less_memory(tmp_path: Path) -> None:
    model = make_model(tmp_path / "deep", "llama", num_hidden_layers=9)
    lora = {**NO_DROPOUT, "num_layers": 8}
    rows = (TokenizedExample((7,) * 600, 590),)

    def peak(*, grad_checkpoint: bool) -> int:
        rig = Rig(model, rows, lora=lora, grad_checkpoint=grad_checkpoint, max_seq_length=600)
        pieces = rig.all()
        mx.eval(pieces[0].inputs)
        mx.reset_peak_memory()
        held = mx.get_active_memory()
        # Nothing is started ahead: how much would be depends on what else the machine does.
        limit = mx.set_memory_limit(1)
        try:
            rig.engine.step(pieces, 1)
            rig.engine.take_loss()
        finally:
            mx.set_memory_limit(limit)
        return mx.get_peak_memory() - held

    assert peak(grad_checkpoint=True) < 0.8 * peak(grad_checkpoint=False)

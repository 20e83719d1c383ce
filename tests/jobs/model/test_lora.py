"""The LoRA layer of the CPU beside mlx-lm's, and what its dropout does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.backend.mlx import LoRALinear, mx, named, nn
from jobs.model.load import adapter_config
from jobs.model.lora import CpuLoRALinear, DropoutNoise, HostNoise
from jobs.training.best_adapter import BestAdapter
from tests.helpers.engines import NO_DROPOUT, Rig

WIDTH, OUT, RANK, SCALE = 48, 24, 4, 16.0


# As a CPU draws, and as Metal does.
NOISES = pytest.mark.parametrize("noise_of", [HostNoise, DropoutNoise])


def layer_of(noise: DropoutNoise) -> CpuLoRALinear:
    mx.random.seed(0)
    layer = CpuLoRALinear.of(nn.Linear(WIDTH, OUT), RANK, SCALE, noise)
    layer.lora_b = mx.random.normal((RANK, OUT))
    return layer


def inputs(*shape: int) -> mx.array:
    return mx.random.normal((*shape, WIDTH), key=mx.random.key(3))


def left_of(x: mx.array, noise: DropoutNoise, *seeds: int) -> np.ndarray:
    """Return what the first layer keeps of its input."""
    with noise.using(mx.array(noise.draw(x.size // WIDTH, *seeds)), mx.array(noise.factor)):
        return np.array(noise.dropout(x, 0))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_without_dropout_it_is_mlx_lm_s(dropout: float) -> None:
    """Also with a rate of dropout as long as no step is computed."""
    ours = layer_of(HostNoise(dropout))
    theirs = LoRALinear.from_base(ours.linear, RANK, dropout=0.0, scale=SCALE)
    theirs.lora_a, theirs.lora_b = ours.lora_a, ours.lora_b
    x = inputs(2, 7)
    assert np.array(ours(x)) == pytest.approx(np.array(theirs(x)), rel=1e-5, abs=1e-4)
    assert set(named(ours)) == set(named(theirs))


def test_the_matrices_start_as_mlx_lm_s_do() -> None:
    mx.random.seed(4)
    theirs = LoRALinear.from_base(nn.Linear(WIDTH, OUT), RANK)
    mx.random.seed(4)
    ours = CpuLoRALinear.of(nn.Linear(WIDTH, OUT), RANK, SCALE, HostNoise(0.0))
    assert not np.array(ours.lora_b).any()
    assert ours.lora_a.shape == theirs.lora_a.shape
    bound = 1 / np.sqrt(WIDTH)
    values = np.array(ours.lora_a)
    assert np.abs(values).max() <= bound
    assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)


@NOISES
@pytest.mark.parametrize("dropout", [0.08, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(noise_of: type[DropoutNoise], dropout: float) -> None:
    noise = noise_of(dropout)
    layer_of(noise)
    left = left_of(mx.ones((4000, WIDTH)), noise, 1)
    assert (left == 0).mean() == pytest.approx(dropout, abs=0.005)
    assert left.mean() == pytest.approx(1.0, abs=0.03)
    assert left.max() == pytest.approx(1 / (1 - dropout), rel=1e-3)
    # No feature and no token is favoured.
    assert (left == 0).mean(axis=0) == pytest.approx(dropout, abs=0.05)


@NOISES
def test_a_step_has_numbers_of_its_own_and_the_same_again(noise_of: type[DropoutNoise]) -> None:
    noise, x = noise_of(0.3), inputs(2, 50)
    layer_of(noise)
    first = left_of(x, noise, 42, 1, 0)
    assert (left_of(x, noise, 42, 1, 0) == first).all()
    for seeds in ((42, 2, 0), (43, 1, 0), (42, 1, 1)):
        other = left_of(x, noise, *seeds)
        # Independent: both dropped as often as two coins say.
        assert ((other == 0) & (first == 0)).mean() == pytest.approx(0.09, abs=0.03)


@NOISES
def test_two_layers_share_no_numbers(noise_of: type[DropoutNoise]) -> None:
    noise = noise_of(0.3)
    one, two = layer_of(noise), layer_of(noise)
    kept = mx.array(noise.draw(200, 1))
    unseen = []
    for layer in (one, two):
        # Each output is what the layer sees of one input.
        layer.linear.weight, layer.linear.bias = mx.zeros((WIDTH, WIDTH)), mx.zeros(WIDTH)
        layer.lora_a, layer.lora_b = mx.eye(WIDTH), mx.eye(WIDTH)
        with noise.using(kept, mx.array(noise.factor)):
            unseen.append(np.array(layer(mx.ones((200, WIDTH)))) == 0)
    assert unseen[0].mean() == pytest.approx(0.3, abs=0.02)
    assert (unseen[0] & unseen[1]).mean() == pytest.approx(0.09, abs=0.02)


@NOISES
def test_the_gradient_of_a_step_sees_what_its_loss_saw(noise_of: type[DropoutNoise]) -> None:
    """A dropped input contributes nothing to the gradient of A."""
    noise, x = noise_of(0.5), inputs(1, 3)
    layer = layer_of(noise)
    left = left_of(x, noise, 9).reshape(3, WIDTH)

    def loss(lora_a: mx.array) -> mx.array:
        layer.lora_a = lora_a
        return mx.sum(layer(x))

    with noise.using(mx.array(noise.draw(3, 9)), mx.array(noise.factor)):
        gradient = np.array(mx.grad(loss)(layer.lora_a))
    expected = left.T @ np.ones((3, OUT)) @ np.array(layer.lora_b).T * SCALE
    assert gradient == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_trained_adapter_computes_the_same_in_mlx_lm(tmp_path: Path, tiny_model: Path) -> None:
    """Same model, same adapter file, mlx-lm's own layers."""
    from mlx_lm.utils import dequantize_model, load_adapters, load_model

    rig = Rig(tiny_model, lora=NO_DROPOUT)
    rig.move_adapter()
    config = adapter_config(rig.config.lora, rig.base.reach.paths, str(tiny_model))
    BestAdapter(tmp_path / "adapters", config).save(rig.engine.adapter)
    theirs, _ = load_model(tiny_model)
    theirs.set_dtype(mx.float32)
    theirs = load_adapters(dequantize_model(theirs), str(tmp_path / "adapters"))
    theirs.eval()
    ids = mx.array([[5, 6, 7, 8, 9]])
    ours = rig.module
    ours.eval()
    assert np.array(theirs(ids)) == pytest.approx(np.array(ours(ids)), abs=1e-4)

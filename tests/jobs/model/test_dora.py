"""The DoRA layer beside mlx-lm's, by itself, in a model, and as others load its adapter."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.backend.mlx import DoRALinear, mx, named, nn, tree_unflatten
from jobs.model.dora import NarrowDoRALinear
from jobs.model.load import adapter_config
from jobs.model.lora import DropoutNoise, HostNoise
from jobs.model.losses import same
from jobs.training.best_adapter import BestAdapter
from tests.helpers.engines import NO_DROPOUT, Rig
from tests.helpers.exports import float32_model, mlx_logits

WIDTH, OUT, RANK, SCALE = 64, 32, 4, 16.0
DORA = {**NO_DROPOUT, "kind": "dora"}


@pytest.fixture(autouse=True)
def fast() -> None:
    """Whatever a test before has found: the narrow way."""
    NarrowDoRALinear.fast = True


def plain_layer(*, bias: bool = False, bits: int | None = None) -> Any:
    mx.random.seed(0)
    layer = nn.Linear(WIDTH, OUT, bias=bias)
    return layer if bits is None else layer.to_quantized(group_size=32, bits=bits)


def pair(**form: Any) -> tuple[NarrowDoRALinear, DoRALinear]:
    """Return a layer of ours and mlx-lm's around the same, with the same arrays, away from zero."""
    layer = plain_layer(**form)
    ours = NarrowDoRALinear.of(layer, RANK, SCALE, HostNoise(0.0))
    theirs = DoRALinear.from_base(layer, RANK, dropout=0.0, scale=SCALE)
    ours.lora_b = theirs.lora_b = 0.1 * mx.random.normal((RANK, OUT))
    theirs.lora_a = ours.lora_a
    ours.m = theirs.m = ours.m * mx.random.uniform(0.5, 2.0, (OUT,))
    for each in (ours, theirs):
        each.linear.freeze()
    return ours, theirs


def names_in(layer: Any) -> set[str]:
    return set(named(layer.parameters()))


FORMS: list[dict[str, Any]] = [
    {},
    {"bias": True},
    {"bits": 4},
    {"bits": 8, "bias": True},
]


@pytest.mark.parametrize("form", FORMS)
def test_it_computes_what_mlx_lm_s_computes(form: dict[str, Any]) -> None:
    ours, theirs = pair(**form)
    x = mx.random.normal((2, 7, WIDTH), key=mx.random.key(3))
    assert np.array(ours(x)) == pytest.approx(np.array(theirs(x)), rel=1e-5, abs=1e-4)
    assert names_in(ours) == names_in(theirs)


@pytest.mark.parametrize("form", FORMS)
def test_its_gradients_are_mlx_lm_s(form: dict[str, Any]) -> None:
    """Also that none flows through the lengths, with which A and B would get others."""
    x = mx.random.normal((5, WIDTH), key=mx.random.key(3))
    results = []
    for layer in pair(**form):

        def loss(arrays: dict[str, mx.array], layer: Any = layer) -> mx.array:
            layer.update(tree_unflatten(list(arrays.items())))
            return mx.sum(mx.sin(layer(x)))

        arrays = {name: layer[name] for name in ("lora_a", "lora_b", "m")}
        results.append(mx.value_and_grad(loss)(arrays))
    (one, gradients), (other, expected) = results
    assert same(one, gradients, other, expected)
    for name, array in expected.items():
        assert np.array(gradients[name]) == pytest.approx(np.array(array), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("bits", [None, 4, 3, 5, 6])
def test_a_new_one_changes_nothing(bits: int | None) -> None:
    layer = plain_layer(bits=bits)
    x = mx.random.normal((3, WIDTH), key=mx.random.key(3))
    before = np.array(layer(x))
    ours = NarrowDoRALinear.of(layer, RANK, SCALE, HostNoise(0.0))
    assert (np.array(ours(x)) == before).all()
    assert ours.lora_a.shape == (WIDTH, RANK)


def test_the_arrays_start_as_mlx_lm_s_do() -> None:
    layer = plain_layer()
    mx.random.seed(4)
    theirs = DoRALinear.from_base(layer, RANK)
    mx.random.seed(4)
    ours = NarrowDoRALinear.of(layer, RANK, SCALE, HostNoise(0.0))
    for name in ("lora_a", "lora_b", "m"):
        assert np.array(ours[name]) == pytest.approx(np.array(theirs[name]), rel=1e-6)


def test_dropout_leaves_the_layer_itself_whole() -> None:
    noise = DropoutNoise(0.5)
    layer = NarrowDoRALinear.of(plain_layer(), RANK, SCALE, noise)
    x = mx.ones((4, WIDTH))
    before = np.array(layer(x))
    with noise.using(mx.array(noise.draw(4, 1)), mx.array(noise.factor)):
        assert (np.array(layer(x)) == before).all()
        layer.lora_b = mx.ones((RANK, OUT))
        dropped = np.array(layer(x))
    assert np.abs(dropped - np.array(layer(x))).max() > 0.01


SCALES: list[dict[str, Any]] = [
    {},
    {"scale": None, "alpha": 12.0},
    {"scale": None, "alpha": 12.0, "rslora": True},
]


def saved(rig: Rig, folder: Path, model: Path) -> Path:
    config = adapter_config(rig.config.lora, rig.base.reach.paths, str(model))
    assert config["fine_tune_type"] == "dora"
    BestAdapter(folder, config).save(rig.engine.adapter)
    return folder


def moved(rig: Rig) -> None:
    """Train a little, by hand: every array away from its start by something of its own."""
    rig.engine.adapter = {
        name: array + 0.02 * mx.random.normal(array.shape, key=mx.random.key(number))
        for number, (name, array) in enumerate(rig.engine.adapter.items())
    }


@pytest.mark.parametrize("scale", SCALES)
def test_plain_mlx_lm_computes_the_same_with_an_adapter(
    tmp_path: Path, tiny_model: Path, scale: dict[str, Any]
) -> None:
    rig = Rig(tiny_model, lora={**DORA, **scale})
    moved(rig)
    adapter = saved(rig, tmp_path / "adapters", tiny_model)
    tokens = [5, 6, 7, 8, 9]
    base = float32_model(tiny_model, tmp_path / "base")
    theirs = np.array(mlx_logits(base, adapter, tokens))
    bare = np.array(mlx_logits(base, None, tokens))
    rig.module.eval()
    ours = np.array(rig.module(mx.array([tokens])))[0]
    assert theirs == pytest.approx(ours, abs=1e-4)
    assert np.abs(theirs - bare).max() > 0.01


def test_smollm2_with_an_adapter_is_the_same_in_plain_mlx_lm(tmp_path: Path, smollm2: Path) -> None:
    keys = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
    rig = Rig(smollm2, lora={**DORA, "rank": 6, "num_layers": 8, "keys": keys})
    rig.engine.adapter = {
        name: array * (1 + 0.05 * mx.random.normal(array.shape, key=mx.random.key(number)))
        if name.endswith(".m")
        else array + 0.003 * mx.random.normal(array.shape, key=mx.random.key(number))
        for number, (name, array) in enumerate(rig.engine.adapter.items())
    }
    adapter = saved(rig, tmp_path / "adapters", smollm2)
    tokens = [1, *range(400, 800, 19)]
    base = float32_model(smollm2, tmp_path / "base")
    theirs = np.array(mlx_logits(base, adapter, tokens))
    bare = np.array(mlx_logits(base, None, tokens))
    rig.module.eval()
    ours = np.array(rig.module(mx.array([tokens])))[0]
    off, moved_by = np.abs(theirs - ours).max(), np.abs(theirs - bare).max()
    assert off < 1e-4 < 1.0 < moved_by


def test_the_first_loss_is_the_model_s_own_to_the_bit(tiny_model: Path) -> None:
    lora, dora = Rig(tiny_model, lora=NO_DROPOUT), Rig(tiny_model, lora=DORA)
    losses = [rig.losses(rig.all()[0]) for rig in (lora, dora)]
    assert (losses[0] == losses[1]).all()


@pytest.mark.parametrize("changes", [{}, {"grad_checkpoint": True}])
def test_a_step_has_the_gradients_of_mlx_lm_s_layers(
    tiny_model: Path, changes: dict[str, Any]
) -> None:
    """Compiled, cut, trimmed and checkpointed, beside the whole model with the plain layers."""
    narrow, plain = (Rig(tiny_model, lora=DORA, **how) for how in (changes, {"whole": True}))
    for rig in (narrow, plain):
        moved(rig)
    narrow.engine.step(narrow.all(), 1)
    mx.eval(narrow.engine.accumulated)
    NarrowDoRALinear.fast = False
    plain.engine.step(plain.all(), 1)
    found, expected = narrow.gradient(1), plain.gradient(1)
    assert {name.rpartition(".")[2] for name in found} == {"lora_a", "lora_b", "m"}
    for name, array in expected.items():
        assert found[name] == pytest.approx(
            array, rel=2e-3, abs=2e-3 * math.sqrt(np.mean(array**2))
        )
        assert np.abs(array).max() > 0

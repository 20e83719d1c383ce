"""Where models of many architectures can be cut, and that they compute the same cut as whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.families import make_folder
from jobs.backend import cpu_ops as cpu
from jobs.backend.mlx import base, mx
from jobs.model.chain import Chain, flat
from jobs.model.load import load_base
from jobs.model.split import split_model, trimmed_last_block, verified, whole_last_block
from tests.helpers.architectures import GPT2, GRANITE, make_model
from tests.helpers.engines import NO_DROPOUT, Rig, examples, plain_loss, target_count
from tests.helpers.runs import SETTINGS

LLAMA: dict[str, Any] = {"tie_word_embeddings": False}
SLIDING = ["sliding_attention", "full_attention"] * 2
Block = Callable[..., mx.array]


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """Compiling kernels for so many architectures takes a minute."""
    mx.disable_compile()
    yield
    mx.enable_compile()


def chain_of(rig: Rig) -> Chain:
    chain: object = getattr(rig.language.rows, "__self__", None)
    assert isinstance(chain, Chain)
    return chain


def ids_of(rig: Rig) -> mx.array:
    return mx.array(np.random.default_rng(2).integers(0, 500, (3, 40)).astype(np.int32))


@pytest.mark.parametrize(
    ("model_type", "config", "last_block"),
    [
        ("llama", LLAMA, trimmed_last_block),
        ("llama", {"tie_word_embeddings": True}, trimmed_last_block),
        ("qwen2", {"tie_word_embeddings": True}, trimmed_last_block),
        # It normalizes queries and keys: attention as `attend` knows it gives something else.
        ("qwen3", {"tie_word_embeddings": False}, None),
        ("gemma", {}, trimmed_last_block),  # scales its embeddings
        ("gemma2", {}, None),  # and caps its logits
        ("cohere", {}, None),  # scales its logits
        ("granite", GRANITE, None),  # both
        ("gemma3_text", {"sliding_window": 16, "sliding_window_pattern": 2}, None),
        ("llama", {"layer_types": SLIDING, "sliding_window": 16}, trimmed_last_block),
        ("gpt2", GPT2, None),  # other names
    ],
)
def test_a_model_computes_the_same_cut_as_whole(
    tmp_path: Path, model_type: str, config: dict[str, Any], last_block: Block | None
) -> None:
    keys = ["c_attn"] if model_type == "gpt2" else ["q_proj", "up_proj"]
    lora = {**SETTINGS["lora"], "keys": keys, "dropout": 0.0}
    rig = Rig(make_model(tmp_path / "model", model_type, **config), lora=lora)
    rig.move_adapter()
    assert rig.language.whole_because is None
    assert rig.language.prefix is not None
    assert chain_of(rig).last is last_block

    rig.module.eval()
    ids = ids_of(rig)
    expected = flat(rig.module(ids))
    positions = mx.array([0, 39, 40, 77, 119])
    rows = rig.language.rows(rig.language.prefix(ids), positions)
    assert rows.shape == (5, 64)
    logits = np.array(rig.language.head(rows))
    assert logits == pytest.approx(np.array(expected[positions]), abs=1e-5)


def test_one_that_cannot_be_cut_is_left_whole_and_trains(tmp_path: Path) -> None:
    """It goes through its blocks twice, so what enters an adapted block is no constant."""
    rig = Rig(make_folder(tmp_path / "model", "nanbeige"), lora=NO_DROPOUT)
    because = "its blocks are not called one after another, once each"
    assert (rig.language.prefix, rig.language.whole_because) == (None, because)

    losses = []
    for step in (1, 2):
        losses.append(rig.engine.measure(rig.pieces([0, 1, 2, 3], [4, 5, 6, 7])))
        assert losses[-1] == pytest.approx(plain_loss(rig.module, examples()), abs=1e-5)
        rig.engine.step(rig.all(), step)
        rig.engine.update(target_count(examples()), 1e-2, step)
    assert losses[0] > losses[1]


def test_losses_with_and_without_head_selection_agree(tiny_model: Path) -> None:
    rig = Rig(tiny_model, lora=NO_DROPOUT)
    rig.move_adapter()
    (piece,) = rig.all()
    selected = rig.losses(piece)
    chain_of(rig).last = None
    everywhere = mx.arange(piece.batch.inputs.size)
    logits = np.array(rig.language.head(rig.language.rows(piece.inputs, everywhere)), np.float64)
    rows = logits[piece.batch.positions[piece.batch.weights == 1]]
    highest = rows.max(axis=-1)
    log_sums = highest + np.log(np.exp(rows - highest[:, None]).sum(axis=-1))
    chosen = rows[np.arange(len(rows)), piece.batch.targets[piece.batch.weights == 1]]
    assert selected == pytest.approx(log_sums - chosen, abs=1e-5)


def test_the_gradients_of_the_cut_model_are_those_of_the_whole(tiny_model: Path) -> None:
    def gradient(*, whole: bool) -> dict[str, np.ndarray]:
        rig = Rig(tiny_model, whole=whole, lora=NO_DROPOUT)
        rig.move_adapter()
        rig.engine.step(rig.all(), 1)
        return rig.gradient(target_count(examples()))

    whole, cut = gradient(whole=True), gradient(whole=False)
    for name, expected in whole.items():
        assert np.abs(expected).max() > 1e-4
        assert cut[name] == pytest.approx(expected, abs=1e-5)


def test_all_blocks_adapted_leaves_nothing_to_cut_off(tiny_model: Path) -> None:
    rig = Rig(tiny_model, lora={**NO_DROPOUT, "num_layers": 4})
    assert rig.language.prefix is None
    assert rig.language.whole_because is not None
    assert "all its blocks are adapted" in rig.language.whole_because
    assert rig.engine.measure(rig.all()) == pytest.approx(
        plain_loss(rig.module, examples()), abs=1e-5
    )


@pytest.mark.parametrize("longest", [12, 40])
def test_windows_are_those_of_the_model(tmp_path: Path, longest: int) -> None:
    config = {"sliding_window": 16, "layer_types": SLIDING}
    module, _ = load_base(make_model(tmp_path / "model", "llama", **config))
    language = split_model(module, 2)
    ids = mx.arange(2 * longest).reshape(2, longest)
    expected = np.array(flat(module(ids)))
    assert language.prefix is not None
    computed = language.head(language.rows(language.prefix(ids), mx.arange(ids.size)))
    assert np.array(computed) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "crossing"),
    [
        ("gemma3n", 1),  # four streams of states, and embeddings for each block
        ("gemma4_text", 3),  # keys and values that blocks above share, and such embeddings
        ("hunyuan", 3),  # keys and values
        ("rwkv7", 2),  # values of the first block
        ("mamba", 1),
        ("olmo_hybrid", 1),  # asks a block which kind it is
    ],
)
def test_all_that_crosses_the_boundary_is_kept(tmp_path: Path, name: str, crossing: int) -> None:
    module, _ = load_base(make_folder(tmp_path / "model", name))
    language = verified(split_model(module, 1))
    assert language.chain is not None and language.prefix is not None
    assert len(language.chain.crossing) == crossing
    ids = mx.array(np.random.default_rng(2).integers(0, 300, (3, 40)).astype(np.int32))
    computed = language.head(language.rows(language.prefix(ids), mx.arange(ids.size)))
    expected = np.array(flat(module(ids)))
    assert np.array(computed) == pytest.approx(expected, abs=1e-4 * float(np.abs(expected).max()))


def test_a_prefix_ends_at_the_boundary_and_leaves_the_model_as_it_was(tiny_model: Path) -> None:
    module, _ = load_base(tiny_model)
    blocks = list(module.layers)
    language = split_model(module, 2)
    assert language.prefix is not None
    block, mlp = blocks[2], blocks[2].mlp
    block.mlp = None  # calling it fails
    assert language.prefix(mx.arange(8)[None]).shape == (1, 8, 64)
    with pytest.raises(TypeError):
        language.rows(mx.zeros((1, 8, 64)), mx.arange(2))
    block.mlp = mlp
    assert all(now is before for now, before in zip(module.layers, blocks, strict=True))


def test_of_a_long_text_only_the_targets_ask_in_the_last_block(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = chain_of(Rig(tiny_model))
    block = chain.blocks[-1]
    width = block.input_layernorm.weight.size
    states = mx.array(np.random.default_rng(4).normal(0, 1, (2, 300, width)).astype(np.float32))
    # Of both examples, one of them twice at the same place.
    positions = mx.array([7, 299, 300, 307, 450, 599, 599])
    asked: list[int] = []
    module = sys.modules[type(block.self_attn).__module__]
    plain = base.scaled_dot_product_attention

    ours = cpu.attention

    def listening(queries: mx.array, *arrays: Any, **options: Any) -> mx.array:
        asked.append(queries.shape[2])
        return ours(queries, *arrays, **options)

    def computed(last: Block) -> list[np.ndarray]:
        def rows(states: mx.array) -> mx.array:
            return last(block, states, "causal", positions)

        outputs, gradients = mx.vjp(rows, [states], [mx.ones((positions.size, width))])
        return [np.array(x) for x in (*outputs, *gradients)]

    monkeypatch.setattr(module, "scaled_dot_product_attention", plain)
    expected = computed(whole_last_block)
    monkeypatch.setattr(module, "scaled_dot_product_attention", listening)
    monkeypatch.setattr(cpu, "attention", listening)
    for mine, other in zip(computed(trimmed_last_block), expected, strict=True):
        assert mine == pytest.approx(other, abs=2e-5 * float(np.abs(other).max()))
    assert asked == [positions.size]

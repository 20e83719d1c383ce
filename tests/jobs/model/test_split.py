"""Where models of many architectures can be cut, and that they compute the same cut as whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.backend.mlx import base, mx
from jobs.model.load import load_base
from jobs.model.split import (
    NOT_A_CHAIN,
    Chain,
    flat,
    split_model,
    trimmed_last_block,
    whole_last_block,
)
from tests.helpers.architectures import GPT2, GRANITE, make_model
from tests.helpers.engines import NO_DROPOUT, Rig, examples, plain_loss, target_count
from tests.helpers.runs import SETTINGS

LLAMA: dict[str, Any] = {"tie_word_embeddings": False}
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
        ("qwen3", {"tie_word_embeddings": False}, whole_last_block),
    ],
)
def test_a_plain_chain_computes_the_same_cut_as_whole(
    tmp_path: Path, model_type: str, config: dict[str, Any], last_block: Block
) -> None:
    rig = Rig(make_model(tmp_path / "model", model_type, **config), lora=NO_DROPOUT)
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


@pytest.mark.parametrize(
    ("model_type", "config", "because", "head_apart"),
    [
        ("gemma", {}, NOT_A_CHAIN, True),  # scales its embeddings
        ("gemma2", {}, NOT_A_CHAIN, False),  # and caps its logits
        ("cohere", {}, NOT_A_CHAIN, False),  # scales its logits
        ("granite", GRANITE, NOT_A_CHAIN, False),  # both
        (
            "gemma3_text",
            {"sliding_window": 16, "sliding_window_pattern": 2},
            "its attention sees only the last 16 tokens",
            True,
        ),
        (
            "llama",
            {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 16},
            "its attention sees only the last 16 tokens",
            True,
        ),
        ("gpt2", GPT2, "its parts do not have the usual names", False),
    ],
)
def test_any_other_architecture_is_left_whole_and_trains(
    tmp_path: Path, model_type: str, config: dict[str, Any], because: str, head_apart: bool
) -> None:
    keys = ["c_attn"] if model_type == "gpt2" else ["q_proj", "up_proj"]
    lora = {**SETTINGS["lora"], "keys": keys, "dropout": 0.0}
    rig = Rig(make_model(tmp_path / "model", model_type, **config), lora=lora)
    assert (rig.language.prefix, rig.language.whole_because) == (None, because)
    width = rig.language.rows(ids_of(rig), mx.array([3])).shape[-1]
    assert (width == 64) == head_apart

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
    chain_of(rig).last = whole_last_block
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


SLIDING = ["sliding_attention", "full_attention"] * 2


@pytest.mark.parametrize(
    ("config", "longest", "cut"),
    [
        ({"sliding_window": 64, "layer_types": SLIDING}, 65, False),
        ({"sliding_window": 64, "layer_types": SLIDING}, 64, True),
        # Named by the configuration, used by no block.
        ({"sliding_window": 64, "layer_types": ["full_attention"] * 4}, 65, True),
        ({"sliding_window": 64}, 65, True),
        ({"max_window_layers": 2, "attention_window_size": 16}, 65, True),
    ],
)
def test_a_window_counts_where_blocks_use_it_and_sequences_are_longer(
    tmp_path: Path, config: dict[str, Any], longest: int, cut: bool
) -> None:
    module, _ = load_base(make_model(tmp_path / "model", "llama", **config))
    masks = base.create_causal_mask
    language = split_model(module, 2, longest)
    assert base.create_causal_mask is masks
    assert (language.prefix is not None) == cut
    if language.prefix is None:
        assert language.whole_because == "its attention sees only the last 64 tokens"
        return
    ids = mx.arange(2 * longest).reshape(2, longest)
    expected = np.array(flat(module(ids)))
    computed = language.head(language.rows(language.prefix(ids), mx.arange(ids.size)))
    assert np.array(computed) == pytest.approx(expected, abs=1e-5)

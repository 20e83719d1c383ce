"""GGUFs of whole models: each tensor there under its name, each number as llama.cpp means it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jobs.errors import ModelError
from jobs.export.fuse import base_model
from jobs.gguf.model_file import GgufModel
from jobs.gguf.precision import PRECISIONS, Array
from tests.helpers.gguf_models import (
    FAMILIES,
    change_config,
    dense,
    fields_of,
    gguf_of,
    made,
    tensors_of,
)

# How the tensors of a block are called, by mlx-lm and in a GGUF; the norms by family.
BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
FOUR_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
NORMS = {"gemma2": FOUR_NORMS, "gemma3": FOUR_NORMS, "gemma3_text": FOUR_NORMS, "olmo2": FOUR_NORMS}
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
INTERLEAVED = ("llama", "granite")
HEADS = {"q_proj": 4, "k_proj": 2}


def named_there(name: str, family: str) -> str:
    """Return the name of a tensor in a GGUF, written down here independently."""
    bare = name.removeprefix("language_model.")
    if bare in OUTSIDE:
        return OUTSIDE[bare]
    _, _, block, rest = bare.split(".", 3)
    layer, _, kind = rest.rpartition(".")
    return f"blk.{block}.{(BLOCK | NORMS.get(family, {}))[layer]}.{kind}"


def as_there(name: str, array: Array, family: str) -> Array:
    """Return a tensor as a GGUF has it: rows of a head one from each half in turn."""
    if family.startswith("gemma") and name.endswith("norm.weight"):
        return array + 1
    heads = HEADS.get(name.split(".")[-2])
    if family not in INTERLEAVED or heads is None:
        return array
    size = len(array) // heads
    order = [
        h * size + half * size // 2 + i
        for h in range(heads)
        for i in range(size // 2)
        for half in (0, 1)
    ]
    return array[order]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tensor_is_there_as_its_architecture_needs_it(name: str, tmp_path: Path) -> None:
    family = name.partition(":")[0]
    folder = made(tmp_path / "model", name)
    found = tensors_of(gguf_of(folder, tmp_path / "model.gguf"))
    _, weights = dense(folder)
    expected = {
        named_there(key, family): as_there(key, array, family) for key, array in weights.items()
    }
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


def test_it_says_what_the_model_is(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "qwen3")
    said = fields_of(gguf_of(folder, tmp_path / "model.gguf", "q8_0"))
    assert (said["general.architecture"], said["general.type"]) == ("qwen3", "model")
    assert (said["qwen3.block_count"], said["qwen3.embedding_length"]) == (4, 64)
    assert (said["qwen3.attention.head_count"], said["qwen3.attention.head_count_kv"]) == (4, 2)
    assert said["qwen3.rope.freq_base"] == 10000.0
    assert said["general.file_type"] == 7
    assert len(said["tokenizer.ggml.tokens"]) == said["qwen3.vocab_size"] == 512


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
def test_each_precision_keeps_what_its_bits_can(precision: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "llama")
    found = tensors_of(gguf_of(folder, tmp_path / "model.gguf", precision))
    exact = tensors_of(gguf_of(folder, tmp_path / "exact.gguf"))
    bits = {"f32": 24, "f16": 11, "bf16": 8, "q8_0": 8, "q5_1": 5, "q5_0": 5, "q4_1": 4, "q4_0": 4}
    for name, array in exact.items():
        allowed = 1.01 * np.abs(array).max() * 2.0 ** (1 - bits[precision])
        assert np.abs(found[name] - array).max() <= (allowed if array.ndim > 1 else 0), name
    # In four bits the vocabulary's matrices keep eight.
    embedding = exact["token_embd.weight"]
    error = np.abs(found["token_embd.weight"] - embedding).max()
    assert error <= np.abs(embedding).max() / 100


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("qwen3_5", {}, "No GGUF can be written of a qwen3_5 model: farense writes llama, mistral"),
        ("llama", {"rope_traditional": True}, "turns neighbouring elements"),
        ("llama", {"layer_types": ["sliding_attention", "full_attention"] * 2}, "only a window"),
        ("qwen3", {"rope_scaling": {"type": "llama3", "factor": 8.0}}, "by 'llama3'"),
        ("gemma3_text", {"max_position_embeddings": 64}, "every 2th"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(
    name: str, changes: dict[str, object], why: str, tmp_path: Path
) -> None:
    folder = change_config(made(tmp_path / "model", name), **changes)
    path = tmp_path / "model.gguf"
    with pytest.raises(ModelError, match=why):
        gguf_of(folder, path)
    assert not path.exists()


def test_numbers_that_float16_does_not_reach_are_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "llama")
    base = base_model(folder)
    weights = dict(base.weights)
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name].astype(weights["model.norm.weight"].dtype) * 0 + 7e4
    model = GgufModel(folder, base.settings, weights, PRECISIONS["f16"])
    with pytest.raises(ModelError, match="65,504") as refused:
        model.write(tmp_path / "model.gguf", "x")
    assert "bf16" in (refused.value.hint or "")
    assert not (tmp_path / "model.gguf").exists()


def test_ids_without_a_token_are_filled_up(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "llama:vocab_size=544")
    said = fields_of(gguf_of(folder, tmp_path / "model.gguf"))
    assert said["tokenizer.ggml.tokens"][-1] == "[PAD543]"
    assert said["tokenizer.ggml.token_type"][-1] == 5
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    words = tokenizer["model"]["vocab"]
    assert said["tokenizer.ggml.tokens"][: len(words)] == sorted(words, key=words.__getitem__)

"""LoRA adapters as GGUFs: what llama.cpp adds is what MLX adds, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.backend.mlx import mx
from jobs.config.config import LoraConfig
from jobs.errors import ModelError
from jobs.export.fuse import base_model
from jobs.gguf.adapter_file import adapter_tensors, write_adapter
from jobs.gguf.tensors import interleaved
from tests.helpers.gguf_models import fields_of, made, tensors_of

LORA = LoraConfig(rank=2, scale=16.0, num_layers=2, keys=("self_attn.q_proj", "mlp.up_proj"))
QUERIES, UP = "model.layers.3.self_attn.q_proj", "model.layers.3.mlp.up_proj"


def arrays() -> dict[str, mx.array]:
    """Return an adapter of two layers of the last block."""
    mx.random.seed(1)
    return {
        f"{QUERIES}.lora_a": mx.random.normal((64, 2)),
        f"{QUERIES}.lora_b": mx.random.normal((2, 64)),
        f"{UP}.lora_a": mx.random.normal((64, 2)),
        f"{UP}.lora_b": mx.random.normal((2, 96)),
    }


def test_what_it_adds_is_what_mlx_adds(tmp_path: Path) -> None:
    settings = base_model(made(tmp_path / "model", "llama")).settings
    given, path = arrays(), tmp_path / "adapter.gguf"
    write_adapter(path, given, LORA, settings, ("an adapter", "a model"))
    said, found = fields_of(path), tensors_of(path)
    assert (said["general.type"], said["adapter.type"]) == ("adapter", "lora")
    assert said["general.architecture"] == "llama"
    assert said["general.base_model.0.name"] == "a model"
    # llama.cpp multiplies by alpha / rank.
    factor = said["adapter.lora.alpha"] / 2
    there = {QUERIES: "blk.3.attn_q.weight", UP: "blk.3.ffn_up.weight"}
    assert set(found) == {
        f"{name}.{part}" for name in there.values() for part in ("lora_a", "lora_b")
    }
    for layer, name in there.items():
        added = factor * found[f"{name}.lora_b"] @ found[f"{name}.lora_a"]
        first, second = (np.array(given[f"{layer}.lora_{part}"]) for part in "ab")
        expected = 16.0 * (first @ second).T
        expected = interleaved(expected, 4) if layer == QUERIES else expected
        np.testing.assert_allclose(added, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("lora", "name", "why"),
    [
        (LORA.model_copy(update={"kind": "dora"}), UP, "no DORA adapters"),
        (LORA, "lm_head", "outside the blocks"),
        (LORA, "model.layers.3.mlp.other_proj", r"has no model\.layers\.3\.mlp\.other_proj"),
    ],
)
def test_what_llama_cpp_has_no_form_for_is_refused(
    lora: LoraConfig, name: str, why: str, tmp_path: Path
) -> None:
    settings = base_model(made(tmp_path / "model", "llama")).settings
    given = {f"{name}.lora_a": mx.zeros((64, 2)), f"{name}.lora_b": mx.zeros((2, 64))}
    with pytest.raises(ModelError, match=why):
        adapter_tensors(given, lora, settings)


def test_an_adapter_of_all_experts_is_refused(tmp_path: Path) -> None:
    settings = base_model(made(tmp_path / "model", "llama")).settings
    given = {f"{UP}.lora_a": mx.zeros((4, 2, 64)), f"{UP}.lora_b": mx.zeros((4, 96, 2))}
    with pytest.raises(ModelError, match="all experts"):
        adapter_tensors(given, LORA, settings)

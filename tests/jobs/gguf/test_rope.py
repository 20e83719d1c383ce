"""Scaled rotary embeddings: what a GGUF says of them is what mlx-lm computes."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.rope_utils import Llama3RoPE, SuScaledRoPE

from jobs.errors import ModelError
from jobs.gguf.rope import rope_tables
from tests.helpers.gguf_models import change_config, fields_of, gguf_of, made, tensors_of

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SETTINGS = {
    "model_type": "llama",
    "num_attention_heads": 4,
    "hidden_size": 256,
    "rope_theta": 10000.0,
}


def test_llama_3_divides_as_mlx_lm_does() -> None:
    rope = Llama3RoPE(64, 1024, base=10000.0, scaling_config=LLAMA3)
    plain = 10000.0 ** (np.arange(0, 64, 2) / 64)
    expected = np.array(rope._freqs) / plain
    found = rope_tables({**SETTINGS, "rope_scaling": LLAMA3})["rope_freqs.weight"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # All three parts of the curve are there.
    assert found.min() == 1.0
    assert found.max() == 8.0
    assert ((found > 1.0) & (found < 8.0)).any()


def test_phi_3_divides_by_its_long_factors_as_mlx_lm_always_does() -> None:
    factors = [1.0 + number / 10 for number in range(32)]
    rope = SuScaledRoPE(64, 10000.0, 4096, 1024, [1.0] * 32, factors)
    scaling = {"type": "longrope", "long_factor": factors, "short_factor": [1.0] * 32}
    found = rope_tables({**SETTINGS, "model_type": "phi3", "rope_scaling": scaling})
    plain = mx.array(10000.0 ** (np.arange(0, 64, 2) / 64))
    for table in ("rope_factors_long.weight", "rope_factors_short.weight"):
        np.testing.assert_allclose(found[table], np.array(rope._freqs / plain), rtol=1e-5)


def test_a_table_is_a_tensor_and_yarn_is_numbers(tmp_path: Path) -> None:
    folder = change_config(made(tmp_path / "model", "llama"), rope_scaling=LLAMA3)
    assert tensors_of(gguf_of(folder, tmp_path / "a.gguf"))["rope_freqs.weight"].shape == (8,)
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    change_config(folder, rope_scaling=yarn)
    said = fields_of(gguf_of(folder, tmp_path / "b.gguf"))
    assert said["llama.rope.scaling.type"] == "yarn"
    assert said["llama.rope.scaling.factor"] == 4.0
    assert said["llama.rope.scaling.original_context_length"] == 256


def test_an_mscale_of_its_own_is_refused(tmp_path: Path) -> None:
    yarn = {"type": "yarn", "factor": 4.0, "mscale": 0.7}
    folder = change_config(made(tmp_path / "model", "qwen2"), rope_scaling=yarn)
    with pytest.raises(ModelError, match="mscale"):
        gguf_of(folder, tmp_path / "a.gguf")

"""Small models of mlx-lm's architectures with random weights."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from jobs.backend.mlx import mx, named

COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
}

GRANITE: dict[str, Any] = {
    "logits_scaling": 4.0,
    "attention_multiplier": 0.25,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "attention_bias": False,
    "mlp_bias": False,
}

GPT2: dict[str, Any] = {
    "n_ctx": 256,
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 4,
    "n_positions": 256,
    "layer_norm_epsilon": 1e-5,
}


def make_model(folder: Path, model_type: str, **config: Any) -> Path:
    """Write the config and the weights of a random model, without a tokenizer."""
    folder.mkdir(parents=True)
    values = {**COMMON, "model_type": model_type, **config}
    (folder / "config.json").write_text(json.dumps(values))
    library = importlib.import_module(f"mlx_lm.models.{model_type}")
    mx.random.seed(0)
    model = library.Model(library.ModelArgs.from_dict(values))
    mx.save_safetensors(str(folder / "model.safetensors"), named(model.parameters()))
    return folder

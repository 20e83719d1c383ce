"""Tiny random models of the architectures of which GGUFs are written, and what reads those."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

from benchmarks.families import make_folder
from jobs.backend.dequantize import dequantize_model
from jobs.backend.mlx import mx, named
from jobs.export.fuse import base_model
from jobs.gguf.ask_llama import GGUF_PYTHON, PACKAGE
from jobs.gguf.model_file import GgufModel
from jobs.gguf.precision import PRECISIONS, Array
from jobs.model.load import load_module
from tests.helpers.required import missing

# Of benchmarks/families.py: what mlx-lm leaves to a real model's config.json is said here, and
# what llama.cpp has built in.
GEMMA3 = "gemma3_text:sliding_window_pattern=6,num_hidden_layers=7,query_pre_attn_scalar=16"
FAMILIES = (
    "llama",
    "qwen2",
    "qwen3",
    "gemma:max_position_embeddings=1024",
    "gemma2:max_position_embeddings=1024,query_pre_attn_scalar=16",
    GEMMA3,
    "gemma3:" + GEMMA3.partition(":")[2],
    "phi3:partial_rotary_factor=1.0",
    "olmo2",
    "granite",
)


def made(folder: Path, name: str) -> Path:
    """Write a random model of a family; ``tie`` beside its name ties its embedding."""
    return make_folder(folder, name)


def gguf_of(folder: Path, path: Path, precision: str = "f32") -> Path:
    """Write the model in a folder as a GGUF."""
    base = base_model(folder)
    weights = {name: array.astype(mx.float32) for name, array in base.weights.items()}
    GgufModel(folder, base.settings, weights, PRECISIONS[precision]).write(path, "a model")
    return path


def dense(folder: Path) -> tuple[Any, dict[str, Array]]:
    """Return the model in a folder in float32 as mlx-lm computes it, and its weights by name."""
    module = load_module(folder)
    dequantize_model(module, mx.float32)
    # As base_model rounds them: to the type of their scales.
    module.set_dtype(mx.float16)
    module.set_dtype(mx.float32)
    return module, {name: np.array(array) for name, array in named(module.parameters()).items()}


def logits_of(module: Any, tokens: list[int]) -> Array:
    """Return the logits [L, V] of a model in MLX."""
    return np.array(module(mx.array([tokens]))[0])


def tensors_of(path: Path) -> dict[str, Array]:
    """Return the tensors of a GGUF in float32, by the package's own reader."""
    return {
        str(tensor.name): dequantize(tensor.data, tensor.tensor_type).reshape(
            tuple(int(size) for size in reversed(tensor.shape))
        )
        for tensor in GGUFReader(path).tensors
    }


def fields_of(path: Path) -> dict[str, Any]:
    """Return what a GGUF says of itself."""
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def change_config(folder: Path, **changes: Any) -> Path:
    """Change a model's ``config.json``."""
    file = folder / "config.json"
    config = cast(dict[str, Any], json.loads(file.read_text(encoding="utf-8")))
    file.write_text(json.dumps(config | changes), encoding="utf-8")
    return folder


def llama_cpp() -> None:
    """Skip a test where there is no llama-cpp-python."""
    if not os.environ.get(GGUF_PYTHON) and importlib.util.find_spec(PACKAGE) is None:
        missing("llama-cpp", f"make gguf, or set {GGUF_PYTHON} to a Python that has it")

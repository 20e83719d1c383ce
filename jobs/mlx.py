"""The door to MLX: everything that computes imports it from here.

On Linux a fast BLAS must be loaded before ``mlx.core`` is imported for the first time in a process
(see :mod:`jobs.blas`); an order of imports kept by hand in every module would not last.
"""

from __future__ import annotations

from typing import Any

from jobs.blas import load_fast_blas

load_fast_blas()

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optimizers  # noqa: E402
from mlx.utils import tree_flatten, tree_map, tree_unflatten  # noqa: E402
from mlx_lm.models import activations, base  # noqa: E402
from mlx_lm.models.llama import Model, ModelArgs  # noqa: E402
from mlx_lm.tuner.lora import LoRALinear  # noqa: E402
from mlx_lm.utils import dequantize_model, load_model, load_tokenizer  # noqa: E402

__all__ = [
    "LoRALinear",
    "Model",
    "ModelArgs",
    "activations",
    "base",
    "dequantize_model",
    "load_model",
    "load_tokenizer",
    "mx",
    "named",
    "nn",
    "optimizers",
    "scalar",
    "tree_map",
    "tree_unflatten",
]


def named(tree: Any) -> dict[str, mx.array]:
    """Return the arrays of a parameter tree by their dotted names."""
    return dict(tree_flatten(tree))


def scalar(array: mx.array) -> float:
    """Return the value of a real scalar array. Waits for the device."""
    return float(array.item())  # type: ignore[arg-type]  # the stub allows for complex values

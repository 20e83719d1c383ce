"""The door to MLX: everything that computes imports it from here.

On Linux a fast BLAS must be loaded before ``mlx.core`` is imported for the first time in a process
(see :mod:`jobs.backend.blas`); an order of imports kept by hand in every module would not last.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from jobs.backend.allocator import keep_freed_memory
from jobs.backend.blas import load_fast_blas
from jobs.backend.choice import is_cpu

load_fast_blas()
keep_freed_memory()
# On Linux streams of a CPU work at the same time only as far as MLX starts a graph in breadth
# before it goes into the depth, and its own 20 is too little. The memory that
# this takes is limited by the engine.
if sys.platform == "linux":
    os.environ.setdefault("MLX_BFS_MAX_WIDTH", "1000000")

import mlx.core as mx  # noqa: E402

if is_cpu():
    mx.set_default_device(mx.cpu)

import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optimizers  # noqa: E402
from mlx.utils import tree_flatten, tree_map, tree_unflatten  # noqa: E402
from mlx_lm.generate import BatchGenerator, generate_step, stream_generate  # noqa: E402
from mlx_lm.models import activations, base, gated_delta  # noqa: E402
from mlx_lm.models.cache import make_prompt_cache  # noqa: E402
from mlx_lm.models.llama import Model, ModelArgs  # noqa: E402
from mlx_lm.models.mla import MultiLinear, QuantizedMultiLinear  # noqa: E402
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear  # noqa: E402
from mlx_lm.tuner.dora import DoRALinear  # noqa: E402
from mlx_lm.tuner.lora import LoRALinear, LoRASwitchLinear  # noqa: E402
from mlx_lm.utils import load_config, load_model, load_tokenizer  # noqa: E402

__all__ = [
    "BatchGenerator",
    "DoRALinear",
    "LoRALinear",
    "LoRASwitchLinear",
    "Model",
    "ModelArgs",
    "MultiLinear",
    "QuantizedMultiLinear",
    "QuantizedSwitchLinear",
    "SwitchLinear",
    "activations",
    "base",
    "gated_delta",
    "generate_step",
    "load_config",
    "load_model",
    "load_tokenizer",
    "make_prompt_cache",
    "mx",
    "named",
    "nn",
    "optimizers",
    "scalar",
    "stream_generate",
    "tree_flatten",
    "tree_map",
    "tree_unflatten",
]


def named(tree: Any) -> dict[str, mx.array]:
    """Return the arrays of a parameter tree by their dotted names."""
    return dict(tree_flatten(tree))


def scalar(array: mx.array) -> float:
    """Return the value of a real scalar array. Waits for the device."""
    return float(array.item())  # type: ignore[arg-type]  # the stub allows for complex values

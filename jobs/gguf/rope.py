"""The rotary embedding of a GGUF: its base, and how it is scaled for longer texts.

Two of the scalings are tables, a divisor for each pair of elements, which a GGUF holds as tensors;
the others are numbers by which llama.cpp computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gguf import GGUFWriter, RopeScalingType

from jobs.errors import ModelError
from jobs.model_store.gguf_settings import llama3_table

LINEAR, LLAMA3, YARN, LONGROPE = "linear", "llama3", "yarn", "longrope"
# As configurations call them, beside these four.
OTHER_NAMES = {"su": LONGROPE, "default": None, None: None}
# Which pairs a block of Phi-3 divides by the long factors: mlx-lm always, so both tables are those.
TABLES = ("rope_factors_long.weight", "rope_factors_short.weight")


def scaling_of(settings: Mapping[str, Any]) -> str | None:
    """Return how a model scales its rotary embedding, by llama.cpp's word; None where it does not.

    It is the word of the configuration where llama.cpp has none.
    """
    scaling = settings.get("rope_scaling") or {}
    word = scaling.get("type") or scaling.get("rope_type")
    return OTHER_NAMES.get(word, word)


def write_rope(writer: GGUFWriter, settings: Mapping[str, Any], allowed: frozenset[str]) -> None:
    """Write the numbers of a model's rotary embedding.

    Args:
        allowed: the scalings that llama.cpp knows of this architecture, beside ``linear``.

    Raises:
        ModelError: the model has another.
    """
    writer.add_rope_freq_base(settings["rope_theta"])
    writer.add_rope_dimension_count(rotated(settings))
    kind, scaling = scaling_of(settings), settings.get("rope_scaling") or {}
    if kind not in (None, LINEAR, *allowed):
        raise ModelError(
            f"No GGUF can be written: the model scales its rotary embedding by {kind!r}, which "
            f"llama.cpp does not know of a {settings['model_type']} model."
        )
    if kind == LINEAR:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    elif kind == YARN:
        _write_yarn(writer, scaling)
    elif kind == LONGROPE:
        _write_longrope(writer, settings)


def rope_tables(settings: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the tensors of a scaling that is a table: float32 of [pairs], by a GGUF's names."""
    kind, scaling = scaling_of(settings), settings.get("rope_scaling") or {}
    if kind == LLAMA3:
        turns = scaling.get("low_freq_factor", 1.0), scaling.get("high_freq_factor", 4.0)
        context = scaling.get("original_max_position_embeddings", 8192)
        base, factor = settings["rope_theta"], scaling["factor"]
        table = llama3_table(rotated(settings), base, factor, turns, context)
        return {"rope_freqs.weight": table.astype(np.float32)}
    if kind == LONGROPE:
        factors = np.broadcast_to(
            np.array(scaling["long_factor"], np.float32), (rotated(settings) // 2,)
        )
        return {name: factors.copy() for name in TABLES}
    return {}


def head_size(settings: Mapping[str, Any]) -> int:
    """Return the elements of an attention head."""
    size = settings.get("head_dim") or settings["hidden_size"] // settings["num_attention_heads"]
    return int(size)


def rotated(settings: Mapping[str, Any]) -> int:
    """Return how many elements of a head are rotated."""
    return int(head_size(settings) * settings.get("partial_rotary_factor", 1.0))


def _write_yarn(writer: GGUFWriter, scaling: Mapping[str, Any]) -> None:
    if scaling.get("mscale", 1) != 1 or scaling.get("mscale_all_dim"):
        raise ModelError(
            "No GGUF can be written: the model's YaRN scaling has an mscale of its own, which "
            "llama.cpp does not know of this architecture."
        )
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(scaling["factor"])
    writer.add_rope_scaling_orig_ctx_len(scaling.get("original_max_position_embeddings", 4096))
    writer.add_rope_scaling_yarn_beta_fast(scaling.get("beta_fast", 32))
    writer.add_rope_scaling_yarn_beta_slow(scaling.get("beta_slow", 1))


def _write_longrope(writer: GGUFWriter, settings: Mapping[str, Any]) -> None:
    original = settings["original_max_position_embeddings"]
    longer = settings["max_position_embeddings"] / original
    factor = math.sqrt(1 + math.log(longer) / math.log(original)) if longer > 1 else 1.0
    writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_rope_scaling_attn_factors(factor)

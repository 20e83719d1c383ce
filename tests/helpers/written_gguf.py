"""A model of mlx-lm's as a GGUF that the `gguf` package writes, in kinds that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from gguf import (
    MODEL_ARCH,
    GGMLQuantizationType,
    GGUFWriter,
    RopeScalingType,
    TokenType,
    get_tensor_name_map,
)
from gguf.quants import quantize
from tokenizers.pre_tokenizers import ByteLevel

from jobs.backend.mlx import mx

ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
}
# A text that every pattern splits in another way.
MERGES = ["F a", "Fa r", "e n", "Ġ en"]
SPECIAL = ["<s>", "</s>", "<|end|>"]
LETTERS = sorted(ByteLevel.alphabet())
Kinds = Callable[[str], GGMLQuantizationType]


def tokens_of(size: int) -> list[str]:
    """Return the tokens of a byte-level vocabulary with special ones first, filled up to a size."""
    found = [*SPECIAL, *LETTERS, *(merge.replace(" ", "") for merge in MERGES)]
    return found + [f"<unused{index}>" for index in range(size - len(found))]


def write_gguf(
    folder: Path,
    path: Path,
    kinds: Kinds,
    *,
    pre: str = "llama-bpe",
    scaling: Mapping[str, Any] | None = None,
    table: np.ndarray[Any, Any] | None = None,
    blocks: Mapping[str, np.ndarray[Any, Any]] = MappingProxyType({}),
) -> Path:
    """Write the model in a folder, its weights dense there, as a GGUF; return its path.

    Args:
        kinds: of which kind each matrix is, by its name in the GGUF.
        pre: by which llama.cpp's pattern a text is split.
        scaling: of the rotary embedding: ``type``, ``factor``.
        table: or the divisors that say it.
        blocks: of matrices that are quantized already.
    """
    config = json.loads((folder / "config.json").read_text())
    kind = config["model_type"]
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    writer = GGUFWriter(path, kind)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if scaling is not None:
        writer.add_rope_scaling_type(RopeScalingType(scaling["type"]))
        writer.add_rope_scaling_factor(scaling["factor"])
        if "original" in scaling:
            writer.add_rope_scaling_orig_ctx_len(scaling["original"])
    add_byte_tokenizer(writer, config["vocab_size"], pre)
    names = get_tensor_name_map(ARCHITECTURES[kind], config["num_hidden_layers"])
    for name, array in weights.items():
        values = np.array(array.astype(mx.float32))
        part = name.rpartition(".")[2]
        if kind == "llama" and ("q_proj" in name or "k_proj" in name):
            values = in_llama_order(values, heads if "q_proj" in name else kv_heads)
        written = names.get_name(name, try_suffixes=(f".{part}",))
        assert written is not None
        form = kinds(written) if values.ndim == 2 else GGMLQuantizationType.F32
        content = blocks[written] if written in blocks else quantize(values, form)
        writer.add_tensor(written, content, raw_dtype=form)
    if table is not None:
        writer.add_tensor("rope_freqs.weight", table.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_byte_tokenizer(writer: GGUFWriter, size: int, pre: str) -> None:
    """Add a byte-level tokenizer of so many tokens."""
    tokens = tokens_of(size)
    types = [TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in tokens]
    types[2] = TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)


def in_llama_order(values: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Return rows of queries or keys as llama.cpp's converter orders them."""
    split = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return split.swapaxes(1, 2).reshape(values.shape)

"""A 4-bit GGUF of the llama architecture, made into a model folder that mlx-lm loads.

The quantized weights are carried over bit for bit: MLX reads a Q4_1 tensor as the triple of packed
``weight``, ``scales`` and ``biases`` that its own 4-bit layers hold. Only rows of the query and key
projections move (see :func:`_in_rotary_order`). The format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from jobs.backend.blas import load_fast_blas

load_fast_blas()

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402

from jobs.errors import ModelError  # noqa: E402
from jobs.model_store.gguf_header import GgufTensor, read_bfloat16, read_gguf_header  # noqa: E402
from jobs.model_store.gguf_tokenizer import write_tokenizer  # noqa: E402
from jobs.storage.files import write_json, write_with  # noqa: E402

GROUP_SIZE = 32  # weights that share a scale in every GGUF block format MLX reads
LINEAR_BITS = 4
EMBEDDING_BITS = (4, 8)

Metadata = dict[str, Any]
Tensors = dict[str, mx.array]

_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


@dataclass(frozen=True)
class LlamaShape:
    """The dimensions of a llama-architecture model, as the metadata gives them."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    rms_norm_eps: float
    rope_theta: float

    @classmethod
    def of(cls, metadata: Metadata) -> LlamaShape:
        """Read the dimensions from GGUF metadata.

        Raises:
            ModelError: another architecture, a missing key, or dimensions that do not fit together.
        """
        if (architecture := metadata.get("general.architecture")) != "llama":
            raise ModelError(f"The GGUF holds a {architecture!r} model, expected 'llama'.")
        if "llama.rope.scaling.type" in metadata or "llama.expert_count" in metadata:
            raise ModelError("The GGUF scales its rotary embedding or has experts: not supported.")
        try:
            shape = cls(
                hidden_size=int(metadata["llama.embedding_length"]),
                intermediate_size=int(metadata["llama.feed_forward_length"]),
                layers=int(metadata["llama.block_count"]),
                heads=int(metadata["llama.attention.head_count"]),
                kv_heads=int(metadata["llama.attention.head_count_kv"]),
                head_size=int(metadata["llama.rope.dimension_count"]),
                vocabulary=len(metadata["tokenizer.ggml.tokens"]),
                context=int(metadata["llama.context_length"]),
                rms_norm_eps=_shortest(metadata["llama.attention.layer_norm_rms_epsilon"]),
                rope_theta=_shortest(metadata["llama.rope.freq_base"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The GGUF's metadata is incomplete: {error}.") from error
        if shape.heads * shape.head_size != shape.hidden_size or shape.head_size % 2:
            raise ModelError(
                f"The GGUF's {shape.heads} heads of size {shape.head_size} do not make up its "
                f"hidden size {shape.hidden_size}."
            )
        return shape

    def linears(self) -> dict[str, tuple[str, int, int]]:
        """Return each projection of a block: GGUF's name -> mlx-lm's name, rows, columns."""
        hidden, inner = self.hidden_size, self.intermediate_size
        kv_size = self.kv_heads * self.head_size
        return {
            "attn_q": ("self_attn.q_proj", hidden, hidden),
            "attn_k": ("self_attn.k_proj", kv_size, hidden),
            "attn_v": ("self_attn.v_proj", kv_size, hidden),
            "attn_output": ("self_attn.o_proj", hidden, hidden),
            "ffn_gate": ("mlp.gate_proj", inner, hidden),
            "ffn_up": ("mlp.up_proj", inner, hidden),
            "ffn_down": ("mlp.down_proj", hidden, inner),
        }


def convert_gguf(source: Path, folder: Path) -> None:
    """Write the model in ``source`` into ``folder`` as mlx-lm loads it.

    Args:
        source: a GGUF file: llama architecture, tied embeddings, every projection in Q4_1 or Q4_0,
            the embedding in one of these or Q8_0, a byte-level BPE tokenizer.
        folder: an existing folder; receives the weights, ``config.json`` and the tokenizer.

    Raises:
        ModelError: ``source`` is not such a file, or is damaged.
        WorkspaceError: ``folder`` cannot be written or the disk is full.
    """
    tensors, metadata = _read(source)
    shape = LlamaShape.of(metadata)
    weights = _weights(tensors, shape)
    special = write_tokenizer(metadata, folder, context=shape.context)
    write_with(
        folder / "model.safetensors",
        lambda file: mx.save_safetensors(cast(BinaryIO, file), weights, {"format": "mlx"}),
    )
    write_json(folder / "config.json", _config(shape, weights) | special)


def _read(source: Path) -> tuple[Tensors, Metadata]:
    if source.suffix != ".gguf" or not source.is_file():
        raise ModelError(f"{source} is not a GGUF file.")
    try:
        loaded: Any = mx.load(str(source), format="gguf", return_metadata=True)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{source.name} is not a GGUF that MLX can read: {error}") from error
    tensors, metadata = loaded
    return _as_in_the_file(source, tensors), metadata


def _as_in_the_file(source: Path, tensors: Tensors) -> Tensors:
    """Return what MLX read, bfloat16 tensors as the file has them.

    Raises:
        ModelError: a tensor of the file's header is missing: MLX ended at a kind it does not know.
    """
    try:
        header = read_gguf_header(source)
        exact = {
            name: _bfloat16(source, tensor)
            for name, tensor in header.items()
            if tensor.kind == "BF16"
        }
    except OSError as error:
        raise ModelError(f"{source} cannot be read: {error.strerror or error}.") from error
    # MLX ends at the first that it does not know: those behind it may be of any kind.
    if missing := [tensor for name, tensor in header.items() if name not in tensors]:
        raise ModelError(
            f"MLX cannot read {missing[0].name} of {source.name}, a tensor of the kind "
            f"{missing[0].kind}: {len(missing)} of {len(header)} tensors are missing.",
            "Take a GGUF whose projections are in Q4_1 or Q4_0.",
        )
    return tensors | exact


def _bfloat16(source: Path, tensor: GgufTensor) -> mx.array:
    # MLX would make float16 of it: infinite beyond 65,504, and zero or rounded near zero.
    numbers = np.frombuffer(read_bfloat16(source, tensor), "<u2").reshape(tensor.shape)
    return mx.array(numbers).view(mx.bfloat16)


def _weights(tensors: Tensors, shape: LlamaShape) -> Tensors:
    """Return the tensors under mlx-lm's names; every one must be there, and no other."""
    left = dict(tensors)
    size = (shape.vocabulary, shape.hidden_size)
    weights = _quantized(left, "token_embd", "model.embed_tokens", size, EMBEDDING_BITS)
    weights |= _norm(left, "output_norm", "model.norm", shape.hidden_size)
    for layer in range(shape.layers):
        weights |= _block(left, f"blk.{layer}", f"model.layers.{layer}", shape)
    if left:
        raise ModelError(f"The GGUF holds {len(left)} unexpected tensors: {min(left)}, ...")
    return weights


def _block(left: Tensors, old: str, new: str, shape: LlamaShape) -> Tensors:
    rotary_heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}
    weights: Tensors = {}
    for name, (renamed, rows, columns) in shape.linears().items():
        triple = _quantized(
            left, f"{old}.{name}", f"{new}.{renamed}", (rows, columns), (LINEAR_BITS,)
        )
        if heads := rotary_heads.get(name):
            triple = {key: _in_rotary_order(part, heads) for key, part in triple.items()}
        weights |= triple
    for name, renamed in _NORMS.items():
        weights |= _norm(left, f"{old}.{name}", f"{new}.{renamed}", shape.hidden_size)
    return weights


def _quantized(
    left: Tensors, old: str, new: str, size: tuple[int, int], allowed_bits: tuple[int, ...]
) -> Tensors:
    """Take the quantized matrix ``old`` out of ``left`` and return its triple named ``new``."""
    parts = {part: left.pop(f"{old}.{part}", None) for part in ("weight", "scales", "biases")}
    weight, scales, biases = parts.values()
    if weight is None:
        raise ModelError(f"The GGUF has no tensor {old}.weight.")
    if scales is None or biases is None or weight.dtype != mx.uint32:
        raise ModelError(
            f"The GGUF's tensor {old}.weight is not quantized in a form that MLX holds: "
            f"expected Q4_1, found {weight.dtype}."
        )
    rows, columns = size
    groups = (rows, columns // GROUP_SIZE)
    packed = [(rows, columns * bits // 32) for bits in allowed_bits]
    if weight.shape not in packed or scales.shape != groups or biases.shape != groups:
        raise ModelError(
            f"The GGUF's tensor {old}.weight has shape {weight.shape} with scales {scales.shape}, "
            f"expected {packed[0]} with {groups}: {rows} x {columns} in {LINEAR_BITS} bits."
        )
    return {f"{new}.weight": weight, f"{new}.scales": scales, f"{new}.biases": biases}


def _norm(left: Tensors, old: str, new: str, size: int) -> Tensors:
    weight = left.pop(f"{old}.weight", None)
    if weight is None or weight.shape != (size,):
        found = "nothing" if weight is None else f"shape {weight.shape}"
        raise ModelError(
            f"The GGUF's tensor {old}.weight: expected shape ({size},), found {found}."
        )
    return {f"{new}.weight": weight}


def _in_rotary_order(rows: mx.array, heads: int) -> mx.array:
    """Undo the row order in which GGUF stores query and key projections.

    llama.cpp rotates neighbouring elements of a head, (0, 1), (2, 3), ...; mlx-lm rotates element i
    with i + head_size / 2. So the converter to GGUF interleaved the two halves of each head: rows
    [heads, head_size / 2, 2] become [heads, 2, head_size / 2] again. Quantization groups run along
    columns, so packed weights, scales and biases move alike.
    """
    pairs = rows.reshape(heads, -1, 2, rows.shape[-1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _config(shape: LlamaShape, weights: Tensors) -> dict[str, Any]:
    packed_columns = weights["model.embed_tokens.weight"].shape[1]
    embedding_bits = packed_columns * 32 // shape.hidden_size
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_theta": shape.rope_theta,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "quantization": {
            "group_size": GROUP_SIZE,
            "bits": LINEAR_BITS,
            "model.embed_tokens": {"group_size": GROUP_SIZE, "bits": embedding_bits},
        },
    }


def _shortest(value: Any) -> float:
    """Return a float32 as people wrote it: 1e-05, not 9.999999747378752e-06."""
    return float(f"{float(value):.7g}")

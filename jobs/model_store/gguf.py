"""A GGUF made into a model folder that mlx-lm loads.

Quantized weights are carried over bit for bit: MLX reads Q4_0, Q4_1 and Q8_0 as the triple of
packed ``weight``, ``scales`` and ``biases`` that its own 4- and 8-bit layers hold. Of the K kinds
that it knows it makes float16 numbers, and so do we, since it mistakes one of them. Only rows of
the query and key projections move, where the architecture asks for it (see
:func:`_in_rotary_order`). The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, cast

from jobs.backend.blas import load_fast_blas

load_fast_blas()

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType  # noqa: E402
from gguf.quants import dequantize  # noqa: E402

from jobs.errors import ModelError  # noqa: E402
from jobs.model_store.gguf_header import GgufTensor, read_content, read_gguf_header  # noqa: E402
from jobs.model_store.gguf_settings import LINEARS, GgufShape, table_scaling  # noqa: E402
from jobs.model_store.gguf_tokenizer import write_tokenizer  # noqa: E402
from jobs.storage.files import write_json, write_with  # noqa: E402

GROUP_SIZE = 32  # weights that share a scale in every GGUF block format MLX keeps
BITS = (4, 8)
# The kinds of tensors that MLX reads as what they are, or as float16.
READ = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q4_K", "Q6_K")
# Of these MLX makes float16 itself, of Q4_K other numbers than were written.
K_KINDS = ("Q2_K", "Q4_K", "Q6_K")
DENSE = (mx.float32, mx.float16, mx.bfloat16)

Metadata = dict[str, Any]
Tensors = dict[str, mx.array]

_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


def convert_gguf(source: Path, folder: Path) -> None:
    """Write the model in ``source`` into ``folder`` as mlx-lm loads it.

    Args:
        source: a GGUF file of a kind in :data:`READ`, or of several, of an architecture in
            :data:`jobs.model_store.gguf_settings.FAMILIES`.
        folder: an existing folder; receives the weights, ``config.json`` and the tokenizer.

    Raises:
        ModelError: ``source`` is not such a file, or is damaged.
        WorkspaceError: ``folder`` cannot be written or the disk is full.
    """
    tensors, metadata = _read(source)
    shape = GgufShape.of(metadata)
    table = tensors.pop("rope_freqs.weight", None)
    scaling = shape.scaling
    if table is not None and scaling is None:
        scaling = table_scaling(shape, np.array(table.astype(mx.float32), np.float64))
    weights = _weights(tensors, shape)
    special = write_tokenizer(metadata, folder, context=shape.context)
    write_with(
        folder / "model.safetensors",
        lambda file: mx.save_safetensors(cast(BinaryIO, file), weights, {"format": "mlx"}),
    )
    config = _config(shape, weights) | ({"rope_scaling": scaling} if scaling else {})
    write_json(folder / "config.json", config | special)


def _read(source: Path) -> tuple[Tensors, Metadata]:
    if source.suffix != ".gguf" or not source.is_file():
        raise ModelError(f"{source} is not a GGUF file.")
    try:
        header = read_gguf_header(source)
    except OSError as error:
        raise ModelError(f"{source} cannot be read: {error.strerror or error}.") from error
    _check_kinds(source, header)
    try:
        loaded: Any = mx.load(str(source), format="gguf", return_metadata=True)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{source.name} is not a GGUF that MLX can read: {error}") from error
    tensors, metadata = loaded
    return _as_in_the_file(source, header, tensors), metadata


def _check_kinds(source: Path, header: dict[str, GgufTensor]) -> None:
    """Refuse a file with tensors that MLX raises at, or before which it ends without a word."""
    unread = [tensor for tensor in header.values() if tensor.kind not in READ]
    if unread:
        raise ModelError(
            f"MLX cannot read {unread[0].name} of {source.name}, a tensor of the kind "
            f"{unread[0].kind}: it is so with {len(unread)} of {len(header)} tensors.",
            f"Take a GGUF of other kinds: {', '.join(READ)}. Its name tells: Q8_0, Q4_0, F16, and "
            "most of Q4_K_M and Q6_K.",
        )


def _as_in_the_file(source: Path, header: dict[str, GgufTensor], tensors: Tensors) -> Tensors:
    """Return what MLX read, with bfloat16 and the K kinds as the file has them.

    Raises:
        ModelError: a tensor of the file's header is missing.
    """
    try:
        exact = {name: _bfloat16(source, t) for name, t in header.items() if t.kind == "BF16"}
        exact |= {name: _k_kind(source, t) for name, t in header.items() if t.kind in K_KINDS}
    except OSError as error:
        raise ModelError(f"{source} cannot be read: {error.strerror or error}.") from error
    if missing := [name for name in header if name not in tensors]:
        raise ModelError(f"MLX did not read {missing[0]} of {source.name}.")
    return tensors | exact


def _bfloat16(source: Path, tensor: GgufTensor) -> mx.array:
    # MLX would make float16 of it: infinite beyond 65,504, and zero or rounded near zero.
    content = read_content(source, tensor, 2 * math.prod(tensor.shape))
    return mx.array(np.frombuffer(content, "<u2").reshape(tensor.shape)).view(mx.bfloat16)


def _k_kind(source: Path, tensor: GgufTensor) -> mx.array:
    """Return the numbers of a tensor of a K kind, rounded to float16 once."""
    kind = GGMLQuantizationType[tensor.kind]
    block, size = GGML_QUANT_SIZES[kind]
    content = read_content(source, tensor, math.prod(tensor.shape) // block * size)
    rows = np.frombuffer(content, np.uint8).reshape(*tensor.shape[:-1], -1)
    return mx.array(dequantize(rows, kind).astype(np.float16))


def _weights(tensors: Tensors, shape: GgufShape) -> Tensors:
    """Return the tensors under mlx-lm's names; every one must be there, and no other."""
    left = dict(tensors)
    size = (shape.vocabulary, shape.hidden_size)
    weights = _matrix(left, "token_embd", "model.embed_tokens", size)
    weights |= _norm(left, "output_norm", "model.norm", shape.hidden_size)
    if "output.weight" in left:
        weights |= _matrix(left, "output", "lm_head", size)
    for layer in range(shape.layers):
        weights |= _block(left, f"blk.{layer}", f"model.layers.{layer}", shape)
    if left:
        raise ModelError(f"The GGUF holds {len(left)} unexpected tensors: {min(left)}, ...")
    return weights


def _block(left: Tensors, old: str, new: str, shape: GgufShape) -> Tensors:
    family = shape.family
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads} if family.interleaved else {}
    weights: Tensors = {}
    for name, (rows, columns) in shape.sizes().items():
        renamed = f"{new}.{LINEARS[name]}"
        parts = _matrix(left, f"{old}.{name}", renamed, (rows, columns))
        if name in family.biases:
            parts[f"{renamed}.bias"] = _vector(left, f"{old}.{name}.bias", rows)
        if name in heads:
            parts = {key: _in_rotary_order(part, heads[name]) for key, part in parts.items()}
        weights |= parts
    for name, renamed in _NORMS.items():
        weights |= _norm(left, f"{old}.{name}", f"{new}.{renamed}", shape.hidden_size)
    for name, renamed in _HEAD_NORMS.items() if family.head_norms else ():
        weights |= _norm(left, f"{old}.{name}", f"{new}.{renamed}", shape.head_size)
    return weights


def _matrix(left: Tensors, old: str, new: str, size: tuple[int, int]) -> Tensors:
    """Take the matrix ``old`` out of ``left``; return what a layer named ``new`` holds of it."""
    parts = {part: left.pop(f"{old}.{part}", None) for part in ("weight", "scales", "biases")}
    weight, scales, biases = parts.values()
    if weight is None:
        raise ModelError(f"The GGUF has no tensor {old}.weight.")
    rows, columns = size
    if scales is None and biases is None and weight.dtype in DENSE:
        expected = [size]
        fits = weight.shape == size
    else:
        expected = [(rows, columns * bits // 32) for bits in BITS]
        groups = (rows, columns // GROUP_SIZE)
        fits = (
            weight.shape in expected
            and (scales is not None and scales.shape == groups)
            and (biases is not None and biases.shape == groups)
        )
    if not fits:
        raise ModelError(
            f"The GGUF's tensor {old}.weight has shape {weight.shape}, expected {expected[0]}: "
            f"{rows} x {columns}."
        )
    return {f"{new}.{part}": array for part, array in parts.items() if array is not None}


def _norm(left: Tensors, old: str, new: str, size: int) -> Tensors:
    return {f"{new}.weight": _vector(left, f"{old}.weight", size)}


def _vector(left: Tensors, name: str, size: int) -> mx.array:
    found = left.pop(name, None)
    if found is None or found.shape != (size,):
        seen = "nothing" if found is None else f"shape {found.shape}"
        raise ModelError(f"The GGUF's tensor {name}: expected shape ({size},), found {seen}.")
    return found


def _in_rotary_order(rows: mx.array, heads: int) -> mx.array:
    """Undo the row order in which GGUF stores query and key projections.

    llama.cpp rotates neighbouring elements of a head, (0, 1), (2, 3), ...; mlx-lm rotates element i
    with i + head_size / 2. So the converter to GGUF interleaved the two halves of each head: rows
    [heads, head_size / 2, 2] become [heads, 2, head_size / 2] again. Quantization groups run along
    columns, so packed weights, scales and biases move alike.
    """
    pairs = rows.reshape(heads, -1, 2, rows.shape[-1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _config(shape: GgufShape, weights: Tensors) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architectures": [shape.family.class_name],
        "model_type": shape.kind,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "attention_bias": bool(shape.family.biases),
        "mlp_bias": False,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_theta": shape.rope_theta,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "torch_dtype": _dtype(weights),
    }
    bits = _bits(shape, weights)
    if not bits:
        return config
    common = Counter(bits.values()).most_common(1)[0][0]
    others = {path: found for path, found in bits.items() if found != common}
    config["quantization"] = {"group_size": GROUP_SIZE, "bits": common} | {
        path: {"group_size": GROUP_SIZE, "bits": found} for path, found in others.items()
    }
    return config


def _bits(shape: GgufShape, weights: Tensors) -> dict[str, int]:
    """Return the bits of each layer that is quantized, by its path."""
    columns = {LINEARS[name]: size[1] for name, size in shape.sizes().items()}
    found = {}
    for name in weights:
        path, _, part = name.rpartition(".")
        if part == "scales":
            inner = ".".join(path.split(".")[-2:])
            width = columns.get(inner, shape.hidden_size)
            found[path] = weights[f"{path}.weight"].shape[1] * 32 // width
    return found


def _dtype(weights: Tensors) -> str:
    """Return the type of most of the numbers that the matrices are computed with."""
    counts: Counter[str] = Counter()
    for name, array in weights.items():
        if array.ndim == 2 and array.dtype in DENSE and not name.endswith(".biases"):
            counts[str(array.dtype).removeprefix("mlx.core.")] += array.nbytes
    return counts.most_common(1)[0][0]

"""How large a model is, whatever form its weights are stored in. Headers only, no MLX.

Several forms pack a matrix into integers and put scales beside it. Here each is told as the plain
matrix that it stands for, so that every screen counts the same weights.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.model_store.safetensors_header import TensorEntry

Tensors = Mapping[str, TensorEntry]

INTEGER_BITS = {"U8": 8, "I8": 8, "I32": 32, "U32": 32}
# Of MLX's modes whose scales are bytes: bits times weights to a scale -> weights to a scale.
BYTE_SCALED = {128: 32, 64: 16, 256: 32}
# What stands beside a packed matrix and is no weight of the model.
BESIDE_PACKED = (
    *("scales", "biases", "qzeros", "g_idx", "global_scale"),
    *("weight_scale", "weight_scale_2", "weight_scale_inv", "input_scale"),
    *("weight_shape", "weight_zero_point", "weight_g_idx"),
    *("weight_global_scale", "input_global_scale"),
)
BLOCKS, BLOCK_SCALES = "_blocks", "_scales"  # of experts in mxfp4, as they were first published


@dataclass(frozen=True)
class PlainTensor:
    """The tensor that a stored one stands for.

    Attributes:
        shape: as if it were not quantized.
        bits: of a stored weight; None where it is not quantized.
    """

    shape: tuple[int, ...]
    bits: int | None = None

    @property
    def elements(self) -> int:
        """The number of weights."""
        return math.prod(self.shape)


def plain_tensors(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, PlainTensor]:
    """Return the tensors of a model by name, as if none were quantized.

    Args:
        tensors: what the headers of its weight files hold.
        config: its ``config.json``.
    """
    modules = {name.rpartition(".")[0] for name in tensors if _is_packed(name, tensors)}
    found: dict[str, PlainTensor] = {}
    for name, entry in tensors.items():
        module, _, part = name.rpartition(".")
        if _is_packed(name, tensors):
            found[_plain_name(name)] = _unpacked(name, tensors, config)
        elif not _is_beside(name, module in modules, part, tensors):
            found[name] = PlainTensor(entry.shape)
    return found


def parameters(tensors: Tensors, config: Mapping[str, Any]) -> int:
    """Return the number of a model's weights, counted as if none were quantized."""
    return sum(tensor.elements for tensor in plain_tensors(tensors, config).values())


def quantized_bits(tensors: Tensors, config: Mapping[str, Any]) -> int | None:
    """Return the bits in which most quantized weights are stored; None where none is quantized."""
    counts: Counter[int] = Counter()
    for tensor in plain_tensors(tensors, config).values():
        if tensor.bits is not None:
            counts[tensor.bits] += tensor.elements
    return counts.most_common(1)[0][0] if counts else None


def quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config says of how its model is quantized, by whichever name."""
    text = config.get("text_config")
    for holder in (config, text if isinstance(text, dict) else {}):
        for name in ("quantization", "quantization_config"):
            if isinstance(found := holder.get(name), dict) and found:
                return found
    return {}


def _is_packed(name: str, tensors: Tensors) -> bool:
    module, _, part = name.rpartition(".")
    if part in ("qweight", "weight_packed"):
        return True
    if part == "weight":
        beside = f"{module}.scales" in tensors or f"{module}.weight_scale" in tensors
        return beside and tensors[name].dtype in INTEGER_BITS
    return name.endswith(BLOCKS) and name.removesuffix(BLOCKS) + BLOCK_SCALES in tensors


def _is_beside(name: str, of_packed: bool, part: str, tensors: Tensors) -> bool:
    """Tell whether a tensor belongs to a packed matrix, or to one of eight-bit floats."""
    blocks = name.removesuffix(BLOCK_SCALES) + BLOCKS
    scaled = part.startswith("weight_scale") or part == "input_scale"
    return (of_packed and part in BESIDE_PACKED) or scaled or blocks in tensors


def _plain_name(name: str) -> str:
    module, dot, part = name.rpartition(".")
    return name.removesuffix(BLOCKS) if part.endswith(BLOCKS) else f"{module}{dot}weight"


def _unpacked(name: str, tensors: Tensors, config: Mapping[str, Any]) -> PlainTensor:
    entry = tensors[name]
    module, _, part = name.rpartition(".")
    stored = math.prod(entry.shape) * INTEGER_BITS.get(entry.dtype, 8)
    settings = quantization(config)
    if part.endswith(BLOCKS):  # [..., blocks, bytes of 2 weights]
        *outer, blocks, size = entry.shape
        return PlainTensor((*outer, blocks * size * 2), 4)
    if part == "qweight":  # its packed axis is the first or the second
        bits = _positive(settings.get("bits")) or 4
        scales = tensors.get(f"{module}.scales")
        outputs = scales.shape[-1] if scales else entry.shape[-1]
        return PlainTensor((outputs, stored // bits // max(1, outputs)), bits)
    if (scales := tensors.get(f"{module}.scales")) is not None and scales.shape:
        columns = scales.shape[-1] * _group_size(module, stored, scales, settings)
        rows = math.prod(entry.shape[:-1])
        return PlainTensor((*entry.shape[:-1], columns), stored // max(1, rows * columns))
    bits = _packed_bits(settings)
    return PlainTensor(
        (*entry.shape[:-1], entry.shape[-1] * INTEGER_BITS[entry.dtype] // bits), bits
    )


def _group_size(
    module: str, stored_bits: int, scales: TensorEntry, settings: Mapping[str, Any]
) -> int:
    """Return how many weights share a scale, as MLX packed them."""
    to_a_scale = stored_bits // max(1, scales.elements)
    if scales.dtype == "U8":
        return BYTE_SCALED.get(to_a_scale, 32)
    of_module = settings.get(module)
    named = of_module if isinstance(of_module, dict) else settings
    group_size, bits = _positive(named.get("group_size")), _positive(named.get("bits"))
    # A layer that the config does not name may have other bits than the rest, seldom another group.
    if group_size and to_a_scale % group_size == 0 and to_a_scale // group_size <= 8:
        return group_size
    return to_a_scale // (bits or 4)


def _packed_bits(settings: Mapping[str, Any]) -> int:
    """Return the bits of a packed weight without MLX's scales."""
    return 2 if settings.get("quant_method") == "bitnet" else 4


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None

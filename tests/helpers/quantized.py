"""The tiny model stored in other forms, and what its numbers are, computed with NumPy alone."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.backend.dequantize import dequantize_model
from jobs.backend.mlx import load_model, mx, named, nn
from jobs.storage.files import read_json

Floats = NDArray[np.float64]

GROUP = 32
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # of the eight numbers in an integer
# The same weights, by the name of the form: what `nn.quantize` is told, and what the config says.
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "affine": ({"group_size": 32, "bits": 8}, {"quantization": {"group_size": 32, "bits": 8}}),
    "mxfp4": (
        {"group_size": 32, "bits": 4, "mode": "mxfp4"},
        {"quantization_config": {"quant_method": "mxfp4"}},
    ),
    "mxfp8": (
        {"group_size": 32, "bits": 8, "mode": "mxfp8"},
        {"quantization_config": {"quant_method": "mxfp8"}},
    ),
    "nvfp4": (
        {"group_size": 16, "bits": 4, "mode": "nvfp4"},
        {"quantization": {"group_size": 16, "bits": 4, "mode": "nvfp4"}},
    ),
    "compressed": (
        {"group_size": 32, "bits": 4, "mode": "mxfp4"},
        {
            "quantization_config": {
                "quant_method": "compressed-tensors",
                "format": "mxfp4-pack-quantized",
            }
        },
    ),
}
MIXED: dict[str, Any] = {"group_size": 32, "bits": 4}
MIXED_OTHERS: dict[str, dict[str, Any]] = {
    "model.layers.3.self_attn.q_proj": {"group_size": 32, "bits": 8},
    "model.layers.1.mlp.down_proj": {"group_size": 64, "bits": 8},
    "model.embed_tokens": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
}


def in_form(source: Path, target: Path, form: str) -> Path:
    """Write the model in ``source`` in one of :data:`FORMS`, ``mixed`` or ``awq``."""
    copytree(source, target)
    module: Any = load_model(source)[0]
    dequantize_model(module, mx.float32)
    module.set_dtype(mx.float16)
    if form == "awq":
        said = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": GROUP}}
        arrays = _awq(module)
    elif form == "mixed":
        nn.quantize(module, **MIXED, class_predicate=lambda path, layer: _mixed(path, layer))
        said = {"quantization": {**MIXED, **MIXED_OTHERS}}
        arrays = named(module.parameters())
    else:
        how, said = FORMS[form]
        nn.quantize(module, **how)
        arrays = named(module.parameters())
    config = read_json(source / "config.json")
    config.pop("quantization")
    (target / "config.json").write_text(json.dumps(config | said))
    mx.save_safetensors(str(target / "model.safetensors"), arrays, {"format": "mlx"})
    return target


def _mixed(path: str, layer: nn.Module) -> bool | dict[str, Any]:
    return MIXED_OTHERS.get(path, hasattr(layer, "to_quantized"))


def _awq(module: nn.Module) -> dict[str, mx.array]:
    """Return the arrays of a model as AutoAWQ stores it: its linear layers in 4 bits."""
    arrays = named(module.parameters())
    for path, layer in module.named_modules():
        if not isinstance(layer, nn.Linear) or path == "lm_head":
            continue
        weight = np.array(arrays.pop(f"{path}.weight").astype(mx.float32)).T  # [in, out]
        grouped = weight.reshape(-1, GROUP, weight.shape[1])
        scales = (grouped.max(1) - grouped.min(1)) / 15
        zeros = np.clip(np.round(-grouped.min(1) / scales), 0, 15)
        numbers = np.clip(np.round(grouped / scales[:, None]) + zeros[:, None], 0, 15)
        arrays[f"{path}.qweight"] = mx.array(_packed(numbers.reshape(weight.shape)))
        arrays[f"{path}.qzeros"] = mx.array(_packed(zeros))
        arrays[f"{path}.scales"] = mx.array(scales.astype(np.float16))
    return arrays


def as_gptq(source: Path, target: Path, *, group_index: bool) -> Path:
    """Write the model in ``source`` as AutoGPTQ stores it: packed along the inputs, in order."""
    copytree(source, target)
    module: Any = load_model(source)[0]
    dequantize_model(module, mx.float32)
    arrays = named(module.parameters())
    for path, layer in module.named_modules():
        if not isinstance(layer, nn.Linear) or path == "lm_head":
            continue
        weight = np.array(arrays.pop(f"{path}.weight")).T  # [in, out]
        inputs, outputs = weight.shape
        grouped = weight.reshape(-1, GROUP, outputs)
        scales = np.abs(grouped).max(1) / 7
        numbers = (np.round(grouped / scales[:, None]) + 8).clip(0, 15).astype(np.uint32)
        shifts = np.arange(8, dtype=np.uint32)[None, :, None] * 4
        packed = (numbers.reshape(-1, 8, outputs) << shifts).sum(1, dtype=np.uint32)
        arrays[f"{path}.qweight"] = mx.array(packed.view(np.int32))
        zeros = np.full((len(scales), outputs // 8), 0x77777777, np.int32)  # one less than 8
        arrays[f"{path}.qzeros"] = mx.array(zeros)
        arrays[f"{path}.scales"] = mx.array(scales.astype(np.float16))
        if group_index:
            arrays[f"{path}.g_idx"] = mx.array(np.arange(inputs, dtype=np.int32) // GROUP)
    config = read_json(source / "config.json")
    config.pop("quantization")
    said = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False}
    (target / "config.json").write_text(json.dumps({**config, "quantization_config": said}))
    mx.save_safetensors(str(target / "model.safetensors"), arrays, {"format": "pt"})
    return target


def _packed(numbers: NDArray[Any]) -> NDArray[np.int32]:
    parts = numbers.astype(np.uint32).reshape(len(numbers), -1, 8)[..., list(AWQ_ORDER)]
    shifts = np.arange(8, dtype=np.uint32) * 4
    packed: NDArray[np.uint32] = (parts << shifts).sum(-1, dtype=np.uint32)
    return packed.view(np.int32)


def plain_values(arrays: dict[str, mx.array], path: str, bits: int, mode: str) -> Floats:
    """Return what the packed matrix of a layer stands for: from the definition of the format."""
    packed = np.array(arrays[f"{path}.weight"])
    numbers = np.unpackbits(packed.view(np.uint8), axis=-1, bitorder="little")
    weights_of_bits = 1 << np.arange(bits)
    codes = (numbers.reshape(len(packed), -1, bits) * weights_of_bits).sum(-1)
    scales = arrays[f"{path}.scales"]
    if mode == "affine":
        factors = np.array(scales.astype(mx.float32), np.float64)
        offsets = np.array(arrays[f"{path}.biases"].astype(mx.float32), np.float64)
        group = codes.shape[-1] // factors.shape[-1]
        affine: Floats = codes * factors.repeat(group, -1) + offsets.repeat(group, -1)
        return affine
    bytes_ = np.array(scales)
    factors = _e4m3(bytes_) if mode == "nvfp4" else 2.0 ** (bytes_.astype(np.float64) - 127)
    values = _e4m3(codes) if bits == 8 else _e2m1(codes)
    found: Floats = values * factors.repeat(codes.shape[-1] // factors.shape[-1], -1)
    return found


def _e2m1(codes: NDArray[Any]) -> Floats:
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    found: Floats = np.where(codes >= 8, -1.0, 1.0) * table[codes % 8]
    return found


def _e4m3(codes: NDArray[Any]) -> Floats:
    codes = codes.astype(np.int64)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    size = np.where(exponent, (8 + mantissa) * 2.0 ** (exponent - 10.0), mantissa * 2.0**-9)
    found: Floats = np.where(codes >= 128, -size, size)
    return found

"""The base model with an adapter added to its weights, written without holding it twice.

Everything is a graph until a tensor is written: only then are its quantized weights read, made
float32 numbers, added to and rounded to the model's own type, once. So memory holds one weight file
at a time, and a 7B model needs a few gigabytes beside nothing else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from jobs.backend.dequantize import dequantize_model, dequantized, is_quantized
from jobs.backend.mlx import DoRALinear, LoRALinear, LoRASwitchLinear, mx, named, nn, tree_unflatten
from jobs.config.config import LoraConfig
from jobs.errors import InvalidInput, ModelError
from jobs.gguf.architectures import settings_of
from jobs.model.adapter import TrainedAdapter
from jobs.model.adapter_fit import Arrays
from jobs.model.load import load_module
from jobs.model_store.folder import INDEX, check_config
from jobs.storage.files import write_atomic, write_json
from jobs.training.checkpoint import save_arrays

# Of one weight file; what a fusing process holds in memory.
SHARD_BYTES = 2_000_000_000
# What a model folder has beside weights and config: the tokenizer, above all.
COPIED = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt")
# What says how the base model's file was quantized, in its config and beside it. A fused model says
# it as MLX does, or is not quantized.
QUANTIZATION = ("quantization", "quantization_config")
QUANTIZATION_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
DTYPE_KEYS = ("torch_dtype", "dtype")


@dataclass
class FusedModel:
    """A model ready to be written.

    Attributes:
        source: the folder of the base model.
        config: its ``config.json``, as it fits the weights.
        weights: by name, not computed yet.
        dtype: of the weights, as they are computed with: ``float16``, say.
        settings: of its language part; see :func:`jobs.gguf.architectures.settings_of`.
    """

    source: Path
    config: dict[str, Any]
    weights: Arrays
    dtype: str
    settings: dict[str, Any]

    @property
    def bytes(self) -> int:
        """What the weights take, on disk and in memory."""
        return sum(array.nbytes for array in self.weights.values())

    def write(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        """Write a model folder; afterwards this object has no weights any more.

        Raises:
            WorkspaceError: it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _write_weights(folder, self.weights, shard_bytes)
        for file in _beside_weights(self.source):
            write_atomic(folder / file.name, file.read_bytes())
        text = json.dumps(self.config, indent=2, sort_keys=True)  # may hold Infinity
        write_atomic(folder / "config.json", text.encode())


def fused_model(
    source: Path, lora: LoraConfig, adapter: TrainedAdapter, *, requantize: bool
) -> FusedModel:
    """Return the model in ``source`` with ``adapter`` in its weights; nothing is computed yet.

    Args:
        requantize: quantize the adapted layers again, as they were, rather than dequantize all.
            Four bits hold only a part of what an adapter adds.

    Raises:
        InvalidInput: the model is not quantized, so nothing can be quantized again.
        ModelError: the adapter does not fit it, or it cannot be dequantized.
    """
    config = check_config(source)
    module = load_module(source)
    if requantize and not _quantized(module):
        raise InvalidInput(f"{source} is not quantized, so --requantize has no meaning.")
    dtype = _dtype(module)
    adapter.put_on(module, lora)
    layers = list(module.named_modules())
    kinds = LoRALinear | LoRASwitchLinear | DoRALinear
    adapted = [(path, _fused(m, requantize)) for path, m in layers if isinstance(m, kinds)]
    module.update_modules(tree_unflatten(adapted))
    config = _unquantized(config)
    if requantize:
        config["quantization"] = quantization_of(module)
    else:
        _dequantize(module)
        config |= {key: dtype for key in DTYPE_KEYS if key in config}
    settings = settings_of(module, config)
    return FusedModel(source, config, named(module.parameters()), dtype, settings)


def base_model(source: Path) -> FusedModel:
    """Return the model in ``source`` alone, not quantized; nothing is computed yet.

    Raises:
        ModelError: it cannot be dequantized.
    """
    config = check_config(source)
    module = load_module(source)
    dtype, settings = _dtype(module), settings_of(module, config)
    _dequantize(module)
    return FusedModel(source, _unquantized(config), named(module.parameters()), dtype, settings)


def quantization_of(module: nn.Module) -> dict[str, Any]:
    """Return what ``config.json`` says of a model's quantized layers, as mlx-lm reads it.

    The settings of most layers, and under a layer's path those of each that has others.
    """
    found = {path: _settings(layer) for path, layer in _quantized(module).items()}
    counts = Counter(tuple(settings.items()) for settings in found.values())
    common = dict(counts.most_common(1)[0][0])
    return common | {path: settings for path, settings in found.items() if settings != common}


def _settings(layer: Any) -> dict[str, Any]:
    settings = {"group_size": layer.group_size, "bits": layer.bits}
    if layer.mode != "affine":
        settings["mode"] = layer.mode
    if layer.get("global_scale") is not None:
        settings["global_scale"] = True
    return settings


def _unquantized(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config that says nothing of quantization; mlx-lm looks in ``text_config`` too."""
    kept = {name: value for name, value in config.items() if name not in QUANTIZATION}
    if isinstance(text := kept.get("text_config"), dict):
        kept["text_config"] = {k: v for k, v in text.items() if k not in QUANTIZATION}
    return kept


def _fused(layer: LoRALinear | LoRASwitchLinear | DoRALinear, requantize: bool) -> nn.Module:
    """Return an adapted layer as one that is not; computed in float32, kept in the old type."""
    base: Any = layer.linear
    dtype = _layer_dtype(base)
    if is_quantized(base):
        layer.linear = cast(nn.Linear, dequantized(base, mx.float32))
    else:
        base.set_dtype(mx.float32)
    fused: Any = layer.fuse()
    if requantize and is_quantized(base):
        fused = fused.to_quantized(**_settings(base))
    fused.set_dtype(dtype)
    return cast(nn.Module, fused)


def _dequantize(module: nn.Module) -> None:
    """Dequantize all layers, in float32, and round each weight to the type of its scales."""
    dtypes = {path: _layer_dtype(layer) for path, layer in _quantized(module).items()}
    dequantize_model(module, mx.float32)
    if left := sorted(_quantized(module)):
        raise ModelError(f"mlx-lm cannot dequantize {left[0]} and {len(left) - 1} layers more.")
    for path, layer in module.named_modules():
        if path in dtypes:
            layer.set_dtype(dtypes[path])


def _quantized(module: nn.Module) -> dict[str, nn.Module]:
    return {path: layer for path, layer in module.named_modules() if is_quantized(layer)}


def _layer_dtype(layer: Any) -> mx.Dtype:
    dtype: mx.Dtype = (layer.scales if "scales" in layer else layer.weight).dtype
    # The scales of some modes are no numbers to compute with.
    return dtype if mx.issubdtype(dtype, mx.floating) else mx.bfloat16


def _dtype(module: nn.Module) -> str:
    """Return the type of most of the numbers that a model's layers are computed with."""
    counts: dict[str, int] = {}
    for _, layer in module.named_modules():
        if "weight" in layer:
            name = str(_layer_dtype(layer)).removeprefix("mlx.core.")
            counts[name] = counts.get(name, 0) + layer["weight"].nbytes
    return max(counts, key=lambda name: counts[name])


def _write_weights(folder: Path, weights: Arrays, shard_bytes: int) -> None:
    """Write weights as files that mlx-lm finds, and take them out of ``weights`` one by one."""
    shards = list(_shards({name: array.nbytes for name, array in weights.items()}, shard_bytes))
    files = _file_names(len(shards))
    total, where = sum(array.nbytes for array in weights.values()), {}
    for file, names in zip(files, shards, strict=True):
        shard: Arrays = {}
        for name in names:
            shard[name] = weights.pop(name)
            # One after the other: what a tensor is made from is gone before the next.
            mx.eval(shard[name])
            where[name] = file
        save_arrays(folder / file, shard)
        del shard
        mx.clear_cache()
    if len(files) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def _shards(sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    """Yield the names that make one file: as many as fit into ``limit`` bytes, and one at least."""
    names: list[str] = []
    taken = 0
    for name, size in sizes.items():
        if names and taken + size > limit:
            yield names
            names, taken = [], 0
        names.append(name)
        taken += size
    yield names


def _file_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _beside_weights(source: Path) -> Iterator[Path]:
    for pattern in COPIED:
        for file in sorted(source.glob(pattern)):
            if file.name not in ("config.json", INDEX, *QUANTIZATION_FILES):
                yield file

"""The base model, frozen, and the LoRA layers on its last blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs import cpu, mlx
from jobs.blas import blas_name
from jobs.config import LoraConfig
from jobs.dequantize import dequantize_model
from jobs.errors import ConfigError, ModelError
from jobs.lora import CpuLoRALinear, DropoutNoise, NoiseDropout
from jobs.mlx import LoRALinear, mx, nn, on_metal, tree_unflatten
from jobs.tokenizer import TemplateSettings, Tokenizer


def device_name() -> str:
    """Return what this process computes with, for people."""
    if on_metal():
        return f"Metal, {mx.device_info().get('device_name', 'Apple GPU')}"
    return f"CPU, {blas_name() or 'reference BLAS (slow)'}"


def device_memory() -> tuple[int, ...]:
    """Return the limits that Metal sets to this process's memory, bytes; none on a CPU."""
    if not on_metal():
        return ()
    info = mx.device_info()
    return int(info["memory_size"]), int(info["max_recommended_working_set_size"])


def load_tokenizer(path: Path, settings: TemplateSettings | None = None) -> Tokenizer:
    """Return the tokenizer in a model folder, its chat template set as a job asks.

    Generation stops at the EOS tokens of generation_config.json, else config.json, beside the
    tokenizer's own: models whose turns end otherwise than their texts list both there.

    Args:
        settings: for the template; as a config without a word about it has them by default.

    Raises:
        ModelError: the tokenizer cannot be loaded.
    """
    try:
        wrapper = mlx.load_tokenizer(path, eos_token_ids=_eos_token_ids(path))
    except Exception as error:  # the library raises whatever its parsers raise
        raise ModelError(
            f"The tokenizer in {path} cannot be loaded: {type(error).__name__}: {error}",
            "Remove the folder and pull the model again.",
        ) from error
    return Tokenizer(wrapper, settings)


def _eos_token_ids(path: Path) -> list[int] | None:
    """Return the EOS tokens that a model folder names; None where it names none."""
    try:
        found = mlx.load_config(path).get("eos_token_id")
    except (OSError, ValueError):  # the tokenizer may still be whole
        return None
    ids = found if isinstance(found, list) else [found]
    return [number for number in ids if type(number) is int] or None


def load_module(path: Path) -> Any:
    """Return the model in ``path`` as mlx-lm builds it; its weights are read when they are used.

    Raises:
        ModelError: the folder holds no model that mlx-lm knows.
    """
    try:
        module, _ = mlx.load_model(path, lazy=True)
    except Exception as error:  # the library raises whatever its parsers raise
        raise ModelError(
            f"The model in {path} cannot be loaded: {error}",
            "farense trains models that `mlx_lm generate --model` can load.",
        ) from error
    return module


def load_base(path: Path) -> tuple[nn.Module, str]:
    """Return the model in ``path``, frozen, and how its weights are held, for the log.

    Nothing is read yet: a weight is loaded when something is first computed with it.

    On Metal quantized weights stay quantized. On a CPU they become float32: MLX's quantized kernels
    reach 2 to 8 GFLOP/s there, float32 with a fast BLAS 140 to 200.

    Raises:
        ModelError: the folder holds no model that mlx-lm knows.
    """
    module = load_module(path)
    form = "as stored"
    if on_metal():
        mx.set_wired_limit(int(mx.device_info()["max_recommended_working_set_size"]))
    else:
        dequantize_model(module, mx.float32)
        module.set_dtype(mx.float32)
        cpu.speed_up(module)
        form = "float32"
    module.freeze()
    return module, form


def unload_blocks(module: Any, path: Path, count: int) -> None:
    """Give back the memory of the first ``count`` blocks; they are read again when used."""
    fresh: Any = load_base(path)[0]
    module.model.layers[:count] = fresh.model.layers[:count]


def apply_lora(module: nn.Module, lora: LoraConfig, seed: int, noise: DropoutNoise) -> list[str]:
    """Adapt the last ``lora.num_layers`` blocks; only the new low-rank matrices are trainable.

    Keys match a layer's own name (``q_proj``) or its path within a block (``self_attn.q_proj``), in
    the adapted blocks and nowhere else.

    Args:
        noise: where dropout takes its random numbers from.

    Returns:
        The matched paths within a block, sorted; what ``adapter_config.json`` names.

    Raises:
        ConfigError: a key that matches nothing, or more layers than the model has.
    """
    blocks = module.layers
    if lora.num_layers > len(blocks):
        raise ConfigError(
            f"lora.num_layers is {lora.num_layers}, but the model has {len(blocks)} blocks."
        )
    mx.random.seed(seed)
    matched: set[str] = set()
    for block in blocks[-lora.num_layers :]:
        linear = [
            (path, layer)
            for path, layer in block.named_modules()
            if isinstance(layer, nn.Linear | nn.QuantizedLinear)
        ]
        _check_keys(lora.keys, [path for path, _ in linear])
        chosen = [(path, layer) for path, layer in linear if _matches(path, lora.keys)]
        adapted = [(path, _adapted(layer, lora, noise)) for path, layer in chosen]
        block.update_modules(tree_unflatten(adapted))
        matched |= {path for path, _ in adapted}
    module.freeze()
    module.apply_to_modules(_unfreeze_lora)
    return sorted(matched)


def _adapted(layer: Any, lora: LoraConfig, noise: DropoutNoise) -> LoRALinear:
    if isinstance(layer, nn.Linear) and layer.weight.dtype == mx.float32 and not on_metal():
        return CpuLoRALinear.of(layer, lora.rank, lora.scale, noise)
    adapted: LoRALinear = LoRALinear.from_base(layer, lora.rank, scale=lora.scale)
    adapted.dropout = NoiseDropout(noise, adapted.lora_a.shape[0])  # type: ignore[assignment]  # called alike
    return adapted


def adapter_config(lora: LoraConfig, paths: list[str], model: str) -> dict[str, Any]:
    """Return the ``adapter_config.json`` from which mlx-lm rebuilds the adapted layers."""
    return {
        "fine_tune_type": "lora",
        "model": model,
        "num_layers": lora.num_layers,
        "lora_parameters": {
            "rank": lora.rank,
            "scale": lora.scale,
            "dropout": lora.dropout,
            "keys": paths,
        },
    }


def _matches(path: str, keys: tuple[str, ...]) -> bool:
    return path in keys or path.rpartition(".")[2] in keys


def _check_keys(keys: tuple[str, ...], paths: list[str]) -> None:
    unknown = [key for key in keys if not any(_matches(path, (key,)) for path in paths)]
    if unknown:
        names = sorted({path.rpartition(".")[2] for path in paths})
        raise ConfigError(
            f"lora.keys: no layer {', '.join(unknown)} in the adapted blocks.",
            f"The blocks have: {', '.join(names)}.",
        )


def _unfreeze_lora(_: str, layer: nn.Module) -> None:
    if isinstance(layer, LoRALinear):
        layer.unfreeze(keys=["lora_a", "lora_b"], recurse=False)

"""The base model, frozen, and the LoRA layers on its last blocks."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.backend import mlx
from jobs.backend.backend import backend
from jobs.backend.mlx import (
    DoRALinear,
    LoRALinear,
    LoRASwitchLinear,
    QuantizedSwitchLinear,
    SwitchLinear,
    mx,
    nn,
    tree_unflatten,
)
from jobs.config.config import LoraConfig
from jobs.config.lora_keys import Reach, check_dora, check_num_layers, reached
from jobs.data.tokenizer import TemplateSettings, Tokenizer
from jobs.errors import ModelError
from jobs.model.chain import block_lists
from jobs.model.dora import NarrowDoRALinear
from jobs.model.gated_delta import CHUNKED
from jobs.model.lora import CpuLoRALinear, DropoutNoise, NoiseDropout
from jobs.model_store.tokenizer_files import without_settings

# The layers that can be adapted: projections, and those of all experts of a mixture at once.
ADAPTABLE = (nn.Linear, nn.QuantizedLinear, SwitchLinear, QuantizedSwitchLinear)


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
        wrapper = _loaded_tokenizer(path)
    except Exception as error:  # the library raises whatever its parsers raise
        raise ModelError(
            f"The tokenizer in {path} cannot be loaded: {_reason(error)}",
            "Remove the folder and pull the model again.",
        ) from error
    return Tokenizer(wrapper, settings)


def _reason(error: BaseException) -> str:
    """Return what a library raised as a person can read it: a key alone says nothing."""
    if isinstance(error, KeyError):
        return f"a file in it lacks {error}"
    return f"{type(error).__name__}: {error}"


def _eos_token_ids(path: Path) -> list[int] | None:
    """Return the EOS tokens that a model folder names; None where it names none."""
    try:
        found = mlx.load_config(path).get("eos_token_id")
    except (OSError, ValueError):  # the tokenizer may still be whole
        return None
    ids = found if isinstance(found, list) else [found]
    return [number for number in ids if type(number) is int] or None


def _loaded_tokenizer(path: Path) -> Any:
    ends = _eos_token_ids(path)
    try:
        return mlx.load_tokenizer(path, eos_token_ids=ends)
    except Exception:  # transformers may have stumbled over what no tokenizer needs
        if not (path / "tokenizer.json").is_file():
            raise
        with without_settings(path) as folder:
            return mlx.load_tokenizer(folder, eos_token_ids=ends)


def load_module(path: Path) -> Any:
    """Return the model in ``path`` as mlx-lm builds it; its weights are read when they are used.

    Raises:
        ModelError: the folder holds no model that mlx-lm knows.
    """
    try:
        with _without_patterns(path) as folder:
            module, _ = mlx.load_model(folder, lazy=True)
    # The library raises whatever its parsers raise, and one of its modules ends the process.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"The model in {path} cannot be loaded: {_reason(error)}",
            "farense trains models that `mlx_lm generate --model` can load.",
        ) from error
    return module


@contextmanager
def _without_patterns(path: Path) -> Iterator[Path]:
    """Yield a path of a folder in which nothing reads as a pattern: mlx-lm looks for files by one.

    A file that is open stays so: the link may go before the weights are read.
    """
    if glob.escape(str(path)) == str(path):
        yield path
        return
    # Not the temporary folder of a child, which lies below the same path.
    with tempfile.TemporaryDirectory(prefix="model-", dir="/tmp") as name:
        link = Path(name) / "model"
        link.symlink_to(path, target_is_directory=True)
        yield link


def load_base(path: Path) -> tuple[nn.Module, str]:
    """Return the model in ``path``, frozen, and how its weights are held, for the log.

    Nothing is read yet: a weight is loaded when something is first computed with it.

    Raises:
        ModelError: the folder holds no model that mlx-lm knows.
    """
    module = load_module(path)
    backend().hold(module)
    CHUNKED.put_in(module)
    module.freeze()
    return module, backend().form


def unload_blocks(module: Any, path: Path, count: int) -> None:
    """Give back the memory of the first ``count`` blocks; they are read again when used."""
    fresh = block_lists(load_base(path)[0])[0]
    for blocks in block_lists(module):
        blocks[:count] = fresh[:count]


def apply_lora(module: nn.Module, lora: LoraConfig, seed: int, noise: DropoutNoise) -> Reach:
    """Adapt the last ``lora.num_layers`` blocks; only the arrays of the adapter are trainable.

    Keys are looked for in the adapted blocks and nowhere else (:mod:`jobs.config.lora_keys`).

    Args:
        noise: where dropout takes its random numbers from.

    Returns:
        The layers that are adapted.

    Raises:
        ConfigError: a key that matches nothing, more layers than the model has, or one that DoRA
            cannot adapt.
    """
    blocks = module.layers
    check_num_layers(lora.num_layers, len(blocks), "the model")
    first = len(blocks) - lora.num_layers
    layers = {number: found for number, found in adaptable(blocks).items() if number >= first}
    reach = reached(layers, lora.keys)
    if lora.kind == "dora":
        _check_dora([(path, layers[n][path]) for path, on in reach.adapted.items() for n in on])
    mx.random.seed(seed)
    for number, within in layers.items():
        chosen = [(path, layer) for path, layer in within.items() if path in reach.adapted]
        adapted = [(path, _adapted(layer, lora, noise)) for path, layer in chosen]
        blocks[number].update_modules(tree_unflatten(adapted))
    module.freeze()
    module.apply_to_modules(_unfreeze_lora)
    return reach


def _check_dora(layers: Sequence[tuple[str, Any]]) -> None:
    """Check that mlx-lm has DoRA layers for all; raises :class:`ConfigError` where it has not."""
    check_dora(
        [path for path, layer in layers if isinstance(layer, SwitchLinear | QuantizedSwitchLinear)],
        [(path, layer.bits) for path, layer in layers if isinstance(layer, nn.QuantizedLinear)],
    )


def adaptable(blocks: Sequence[nn.Module]) -> dict[int, dict[str, Any]]:
    """Return the layers that can be adapted: number of each block -> path within it -> layer."""
    return {
        number: {
            path: layer for path, layer in block.named_modules() if isinstance(layer, ADAPTABLE)
        }
        for number, block in enumerate(blocks)
    }


def _adapted(
    layer: Any, lora: LoraConfig, noise: DropoutNoise
) -> LoRALinear | LoRASwitchLinear | DoRALinear:
    if lora.kind == "dora":
        return NarrowDoRALinear.of(layer, lora.rank, lora.factor, noise)
    if isinstance(layer, SwitchLinear | QuantizedSwitchLinear):
        experts: LoRASwitchLinear = LoRASwitchLinear.from_base(layer, lora.rank, scale=lora.factor)
        experts.dropout = NoiseDropout(noise, layer.input_dims)  # type: ignore[assignment]  # called alike
        return experts
    if isinstance(layer, nn.Linear) and layer.weight.dtype == mx.float32 and backend().own_layers:
        return CpuLoRALinear.of(layer, lora.rank, lora.factor, noise)
    adapted: LoRALinear = LoRALinear.from_base(layer, lora.rank, scale=lora.factor)
    adapted.dropout = NoiseDropout(noise, adapted.lora_a.shape[0])  # type: ignore[assignment]  # called alike
    return adapted


def adapter_config(lora: LoraConfig, paths: list[str], model: str) -> dict[str, Any]:
    """Return the ``adapter_config.json`` from which mlx-lm rebuilds the adapted layers."""
    return {
        "fine_tune_type": lora.kind,
        "model": model,
        "num_layers": lora.num_layers,
        "lora_parameters": {
            "rank": lora.rank,
            "scale": lora.factor,
            "dropout": lora.dropout,
            "keys": paths,
        },
    }


def _unfreeze_lora(_: str, layer: nn.Module) -> None:
    if isinstance(layer, LoRALinear | LoRASwitchLinear | DoRALinear):
        layer.unfreeze(keys=["lora_a", "lora_b", "m"], recurse=False)

"""What models there are below ``models/``, read from their headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.errors import ModelError
from jobs.models.folder import read_model
from jobs.models.safetensors_header import TensorEntry
from jobs.paths import Workspace


@dataclass(frozen=True)
class ModelInfo:
    """What a model folder holds.

    Attributes:
        name: the folder's name below ``models/``.
        path: the folder.
        architecture: ``model_type`` of its config.
        parameters: number of weights, counted before quantization.
        layers: number of transformer blocks.
        bits: of a quantized weight; None where the weights are not quantized.
        size_bytes: of all files in the folder.
        problem: why it cannot be used; None where it can. The others may then be None.
    """

    name: str
    path: Path
    size_bytes: int
    architecture: str | None = None
    parameters: int | None = None
    layers: int | None = None
    bits: int | None = None
    problem: str | None = None


def list_models(workspace: Workspace) -> list[ModelInfo]:
    """Return the folders below ``models/``, by name; those that cannot be used say why."""
    if not workspace.models.is_dir():
        return []
    folders = sorted(workspace.models.iterdir())
    return [_describe(path) for path in folders if path.is_dir() and path.name[0] != "."]


def _describe(path: Path) -> ModelInfo:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    try:
        config, tensors = read_model(path)
    except ModelError as error:
        return ModelInfo(path.name, path, size, problem=error.message)
    layers = config.get("num_hidden_layers")
    bits = _quantization(config).get("bits")
    return ModelInfo(
        name=path.name,
        path=path,
        size_bytes=size,
        architecture=config["model_type"],
        parameters=_parameters(tensors, config),
        layers=layers if isinstance(layers, int) else None,
        bits=bits if isinstance(bits, int) else None,
    )


def _quantization(config: dict[str, Any]) -> dict[str, Any]:
    found = config.get("quantization") or config.get("quantization_config")
    return found if isinstance(found, dict) else {}


def _parameters(tensors: dict[str, TensorEntry], config: dict[str, Any]) -> int | None:
    """Return the number of weights; a quantized matrix has a scale for each group of them."""
    quantization = _quantization(config)
    total = 0
    for name, entry in tensors.items():
        module, _, part = name.rpartition(".")
        if f"{module}.scales" not in tensors or part not in ("weight", "scales", "biases"):
            total += entry.elements
        elif part == "scales":
            of_module = quantization.get(module)
            settings = of_module if isinstance(of_module, dict) else quantization
            group_size = settings.get("group_size")
            if not isinstance(group_size, int):
                return None
            total += entry.elements * group_size
    return total

"""What models there are below ``models/``, read from their headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.errors import ModelError
from jobs.model_store.architectures import check_trainable
from jobs.model_store.folder import check_model, folder_bytes, read_model
from jobs.model_store.size import parameters, quantized_bits
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
        bits: of most quantized weights; None where the weights are not quantized.
        size_bytes: of all files in the folder.
        link: where the folder is a link to, as the link says it; None where it is none.
        problem: why it cannot be used; None where it can. The others may then be None.
    """

    name: str
    path: Path
    size_bytes: int
    link: str | None = None
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
    return [
        _describe(path)
        for path in folders
        if (path.is_dir() or path.is_symlink()) and path.name[0] != "."
    ]


def _describe(path: Path) -> ModelInfo:
    size = folder_bytes(path)
    link = str(path.readlink()) if path.is_symlink() else None
    try:
        check_model(path)
        config, tensors = read_model(path)
        check_trainable(path, ())
    except ModelError as error:
        return ModelInfo(path.name, path, size, link, problem=error.message)
    layers = config.get("num_hidden_layers")
    return ModelInfo(
        name=path.name,
        path=path,
        size_bytes=size,
        link=link,
        architecture=config["model_type"],
        parameters=parameters(tensors, config),
        layers=layers if isinstance(layers, int) else None,
        bits=quantized_bits(tensors, config),
    )

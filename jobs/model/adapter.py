"""The best adapter of a training job, read once and whole, for whoever uses it afterwards."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.backend.mlx import mx, named, tree_unflatten
from jobs.config.config import LoraConfig
from jobs.errors import InvalidInput, ModelError
from jobs.model.adapter_arrays import misfit
from jobs.model.adapter_fit import AdapterMismatch, Arrays, fitting
from jobs.model.load import apply_lora
from jobs.model.lora import DropoutNoise
from jobs.paths import RunDirectory
from jobs.storage.files import read_json


@dataclass(frozen=True)
class TrainedAdapter:
    """An adapter as it lay in ``adapters/`` at one moment: training may put a better one there.

    Attributes:
        job: the training job.
        content: of ``adapters.safetensors``, whose SHA-256 is ``sha256``.
        arrays: the same by name, as mlx-lm names them.
        settings: ``adapter_config.json``.
    """

    job: str
    content: bytes
    sha256: str
    arrays: Arrays
    settings: dict[str, Any]

    def fitting(self, fresh: Mapping[str, mx.array]) -> Arrays:
        """Return the arrays, after a look at those that an untrained adapter of the model has.

        Raises:
            ModelError: their names or shapes are others.
        """
        try:
            return fitting(self.arrays, fresh)
        except AdapterMismatch as error:
            raise misfit(self.job, error.differing) from error

    def put_on(self, module: Any, lora: LoraConfig) -> None:
        """Put LoRA layers with these arrays around the layers of a model, frozen as it is.

        Raises:
            ModelError: the adapter does not fit the model.
        """
        apply_lora(module, lora, 0, DropoutNoise(0.0))
        arrays = self.fitting(named(module.trainable_parameters()))
        module.update(tree_unflatten(list(arrays.items())))


def read_adapter(run: RunDirectory) -> TrainedAdapter:
    """Return the best adapter of a training job.

    Raises:
        InvalidInput: it has none.
        ModelError: its files are damaged.
    """
    try:
        content, arrays = _read_whole(run.adapter_weights)
        settings = read_json(run.adapters / "adapter_config.json")
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{run.job_id} has no adapter: there is no {error.filename}.",
            "A job has an adapter after its first validation.",
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"The adapter in {run.adapters} is damaged: {error}") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{run.adapters / 'adapter_config.json'} holds no JSON object.")
    return TrainedAdapter(
        run.job_id, content, hashlib.sha256(content).hexdigest(), arrays, settings
    )


def _read_whole(path: Path) -> tuple[bytes, Arrays]:
    """Return a file's bytes and its arrays, both of the same moment.

    MLX opens the file itself: it lets go of what it reads in a thread of its own, and where that is
    a Python object and Python is about to end, the process aborts.
    """
    while True:
        with path.open("rb") as file:
            arrays: Arrays = mx.load(str(path))  # type: ignore[assignment]  # of safetensors: a dict
            mx.eval(arrays)
            # Training replaces the file as a whole: where it is the one that is open here, it was
            # when MLX opened it.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file.read(), arrays

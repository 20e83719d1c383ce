"""The arrays of an adapter, once they are those of its model (:mod:`jobs.model.adapter_arrays`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jobs.backend.mlx import mx, named
from jobs.config.config import LoraConfig
from jobs.model.adapter_arrays import differences
from jobs.model.load import apply_lora, load_module
from jobs.model.lora import DropoutNoise

Arrays = dict[str, mx.array]


class AdapterMismatch(ValueError):
    """An adapter is not the model's; the message says what differs, as the end of a sentence."""

    def __init__(self, differing: list[str]) -> None:
        super().__init__("; ".join(differing))
        self.differing = differing


def fitting(found: Mapping[str, mx.array], fresh: Mapping[str, mx.array]) -> Arrays:
    """Return the arrays of an adapter, in the order that an untrained one of the model has.

    Raises:
        AdapterMismatch: one is missing, too many, or has another shape.
    """
    if found_out := differences(found, fresh):
        raise AdapterMismatch(found_out)
    return {name: found[name] for name in fresh}


def fresh_adapter(model: Path, lora: LoraConfig) -> Arrays:
    """Return the arrays of an untrained adapter of a model; none is computed, no weight is read.

    Raises:
        ConfigError, ModelError: as :func:`jobs.model.load.apply_lora` and
            :func:`jobs.model.load.load_module` do.
    """
    module = load_module(model)
    apply_lora(module, lora, 0, DropoutNoise(0.0))
    return named(module.trainable_parameters())

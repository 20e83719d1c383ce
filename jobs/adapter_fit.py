"""The arrays of an adapter, once they are those of its model (:mod:`jobs.adapter_arrays`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jobs.adapter_arrays import differences
from jobs.config import LoraConfig
from jobs.lora import DropoutNoise
from jobs.mlx import mx, named
from jobs.model import apply_lora, load_module

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
        ConfigError, ModelError: as :func:`jobs.model.apply_lora` and
            :func:`jobs.model.load_module` do.
    """
    module = load_module(model)
    apply_lora(module, lora, 0, DropoutNoise(0.0))
    return named(module.trainable_parameters())

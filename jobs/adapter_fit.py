"""Whether the arrays of an adapter are those of a model: its names and shapes, both ways.

mlx-lm takes a file that lacks arrays without a word, and those layers stay untrained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from jobs.config import LoraConfig
from jobs.lora import DropoutNoise
from jobs.mlx import mx, named
from jobs.model import apply_lora, load_module

Arrays = dict[str, mx.array]


class AdapterMismatch(ValueError):
    """An adapter is not the model's; the message says what differs, as the end of a sentence."""


def fitting(found: Mapping[str, mx.array], fresh: Mapping[str, mx.array]) -> Arrays:
    """Return the arrays of an adapter, in the order that an untrained one of the model has.

    Raises:
        AdapterMismatch: one is missing, too many, or has another shape.
    """
    if differences := list(_differences(found, fresh)):
        raise AdapterMismatch("; ".join(differences))
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


def _differences(found: Mapping[str, mx.array], fresh: Mapping[str, mx.array]) -> Iterator[str]:
    if missing := sorted(fresh.keys() - found.keys()):
        yield f"it lacks {_counted(missing)}"
    if extra := sorted(found.keys() - fresh.keys()):
        yield f"it has {_counted(extra)}, which the model has not"
    for name in sorted(fresh.keys() & found.keys()):
        if found[name].shape != fresh[name].shape:
            yield f"{name} has the shape {found[name].shape}, expected {fresh[name].shape}"
            return


def _counted(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"

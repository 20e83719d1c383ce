"""Whether training can start from an adapter: its shape, its scale, its model. No MLX.

Nothing is made to fit: another shape is another function, and another scale would have the same
arrays count for more or less. What would have to be set is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.config.config import LoraConfig
from jobs.config.lora_keys import described
from jobs.errors import ConfigError, ModelError
from jobs.model.adapter_arrays import Shaped, differences
from jobs.model.foreign_adapter import ForeignAdapter
from jobs.model_store.folder import fingerprint, same_model

# By how much two scales may differ that were written in decimals.
SAME_SCALE = 1e-6


@dataclass(frozen=True)
class Shape:
    """The shape of an adapter, by the names and shapes of its arrays.

    Attributes:
        layers: path of each adapted layer within a block -> its blocks.
        others: names of arrays that are no part of a block's adapter.
    """

    kind: str
    ranks: tuple[int, ...]
    layers: dict[str, tuple[int, ...]]
    others: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in words: ``LoRA of rank 6 on self_attn.q_proj (blocks 22-29)``."""
        ranks = " and ".join(map(str, self.ranks)) or "unknown"
        where = described(self.layers) or "no layer of a block"
        beside = f", and {self.others[0]}" if self.others else ""
        return f"{'DoRA' if self.kind == 'dora' else 'LoRA'} of rank {ranks} on {where}{beside}"


def shape_of(arrays: Mapping[str, Shaped]) -> Shape:
    """Return the shape of an adapter with such arrays."""
    ranks, blocks, others = set[int](), dict[str, set[int]](), []
    for name, array in arrays.items():
        layer, _, part = name.rpartition(".")
        _, found, path = layer.partition(".layers.")
        number, _, path = path.partition(".")
        if not found or not number.isdecimal() or part not in ("lora_a", "lora_b", "m"):
            others.append(name)
            continue
        blocks.setdefault(path, set()).add(int(number))
        if part == "lora_a" and len(array.shape) > 1:
            ranks.add(array.shape[-1] if len(array.shape) == 2 else array.shape[-2])
    kind = "dora" if any(name.endswith(".m") for name in arrays) else "lora"
    layers = {path: tuple(sorted(numbers)) for path, numbers in sorted(blocks.items())}
    return Shape(kind, tuple(sorted(ranks)), layers, tuple(sorted(others)))


def check_start(
    adapter: ForeignAdapter,
    expected: Mapping[str, Shaped],
    lora: LoraConfig,
    model: Path,
) -> str | None:
    """Check that training as ``lora`` says can start from an adapter.

    Args:
        expected: the arrays of an adapter as ``lora`` says.
        model: the folder of the model.

    Returns:
        What a person should know.

    Raises:
        ConfigError: its shape or its scale is another.
        ModelError: it was trained on another model.
    """
    origin = adapter.origin
    trained_on = origin.model_fingerprint
    if trained_on and not same_model(trained_on, fingerprint(model)):
        named = f", {origin.model}" if origin.model else ""
        raise ModelError(
            f"init_from: the adapter of {origin.source} was trained on another model than "
            f"{model.name}{named}: its files are others.",
            "Set model to the one that it was trained on.",
        )
    if differing := differences(adapter.shapes, expected):
        found, wanted = shape_of(adapter.shapes), shape_of(expected)
        if found == wanted:
            raise ConfigError(
                f"init_from: the adapter of {origin.source} does not fit the model, or is damaged: "
                f"{differing[0]}.",
                "Take the model that it was trained on, or a whole copy of the adapter.",
            )
        raise ConfigError(
            f"init_from: the adapter of {origin.source} has another shape than this training: it "
            f"is {found}, and the config makes {wanted}.",
            _advice(found, wanted, lora.num_layers),
        )
    if not math.isclose(origin.scale, lora.factor, rel_tol=SAME_SCALE):
        raise ConfigError(
            f"init_from: the adapter of {origin.source} was trained with a scale of "
            f"{origin.scale:.9g}, and here it is {lora.factor:.9g}: it would be another function.",
            f"Give it its own: {' '.join(_scale_settings(origin.scale, lora))}",
        )
    if trained_on is None:
        names = f": it names {origin.model}" if origin.model else ""
        return (
            f"Whether the adapter in {origin.source} was trained on {model.name} cannot be "
            f"checked{names}."
        )
    return None


def _advice(found: Shape, wanted: Shape, num_layers: int) -> str | None:
    """Return the settings that make an adapter of the shape found; None where none do.

    Args:
        num_layers: by which ``wanted`` was made.
    """
    numbers = sorted({number for on in found.layers.values() for number in on})
    ours = sorted({number for on in wanted.layers.values() for number in on})
    # In a hybrid model only some blocks have such layers.
    whole = _in_a_row(numbers) or not _in_a_row(ours)
    if found.others or len(found.ranks) != 1 or not whole or numbers[-1:] != ours[-1:]:
        return "Adapters of farense have one rank, in the last blocks alone."
    settings = []
    if found.kind != wanted.kind:
        settings.append(f"lora.kind={found.kind}")
    if found.ranks != wanted.ranks:
        settings.append(f"lora.rank={found.ranks[0]}")
    if numbers != ours:
        settings.append(f"lora.num_layers={num_layers + ours[0] - numbers[0]}")
    if found.layers.keys() != wanted.layers.keys():
        settings.append(f"lora.keys=[{','.join(found.layers)}]")
    return f"Give it the adapter's shape: {_as_flags(settings)}" if settings else None


def _in_a_row(numbers: list[int]) -> bool:
    return numbers == list(range(numbers[0], numbers[-1] + 1)) if numbers else False


def _scale_settings(scale: float, lora: LoraConfig) -> Iterable[str]:
    settings = [f"lora.scale={scale!r}"]
    if lora.alpha is not None:
        settings.append("lora.alpha=null")
    if lora.rslora:
        settings.append("lora.rslora=false")
    return [_as_flags(settings)]


def _as_flags(settings: Iterable[str]) -> str:
    return " ".join(f"--set '{s}'" if "[" in s else f"--set {s}" for s in settings)

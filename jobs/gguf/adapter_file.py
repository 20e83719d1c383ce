"""A LoRA adapter as a GGUF, which llama.cpp adds to a model of its own.

llama.cpp computes ``y = W x + (alpha / r) B A x`` with A of [r, in] and B of [out, r]; MLX
``y = W x + scale x A B`` with A of [in, r] and B of [r, out]. So both are transposed, ``alpha`` is
scale * r, and B's rows stand in the order of the base model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gguf import GGUFType, Keys

from jobs.backend.mlx import mx
from jobs.config.config import LoraConfig
from jobs.errors import ModelError
from jobs.gguf.architectures import architecture_of
from jobs.gguf.precision import F32, Array
from jobs.gguf.tensors import TensorNames, numbers
from jobs.gguf.writing import Planned, write_tensors, written

FUSE = "`farense export latest --gguf q8_0` puts it into the weights."


def write_adapter(
    path: Path,
    arrays: Mapping[str, mx.array],
    lora: LoraConfig,
    settings: Mapping[str, Any],
    names: tuple[str, str],
) -> None:
    """Write an adapter.

    Args:
        arrays: by mlx-lm's names.
        settings: of the base model; see :func:`jobs.gguf.architectures.settings_of`.
        names: of the adapter, and of its base model.

    Raises:
        ModelError: see :func:`adapter_tensors`.
        WorkspaceError: the file cannot be written.
    """
    found = architecture_of(settings)
    tensors = adapter_tensors(arrays, lora, settings)
    planned = [Planned(name, array.shape, F32) for name, array in tensors.items()]
    with written(path, found.name) as writer:
        writer.add_type(GGUFType.ADAPTER)
        writer.add_string(Keys.Adapter.TYPE, "lora")
        writer.add_float32(Keys.Adapter.LORA_ALPHA, lora.factor * lora.rank)
        writer.add_name(names[0])
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, names[1])
        write_tensors(writer, path, planned, tensors.values())


def adapter_tensors(
    arrays: Mapping[str, mx.array], lora: LoraConfig, settings: Mapping[str, Any]
) -> dict[str, Array]:
    """Return an adapter's tensors by the names and in the shapes of a GGUF, in float32.

    Raises:
        ModelError: llama.cpp has no form for this kind of adapter, or for a layer of it.
    """
    if lora.kind != "lora":
        raise ModelError(
            f"llama.cpp has no {lora.kind.upper()} adapters, only LoRA: no GGUF can be written of "
            "this one alone.",
            FUSE,
        )
    names = TensorNames(architecture_of(settings), settings)
    return dict(_tensors(arrays, names))


def _tensors(arrays: Mapping[str, mx.array], names: TensorNames) -> Iterator[tuple[str, Array]]:
    for layer in sorted({name.rpartition(".")[0] for name in arrays}):
        first, second = (arrays[f"{layer}.{part}"] for part in ("lora_a", "lora_b"))
        if first.ndim > 2:
            raise ModelError(
                f"{layer} adapts all experts of a mixture at once: no GGUF can be written of the "
                "adapter alone.",
                FUSE,
            )
        tensor = names.of(f"{layer}.weight")
        if not tensor.name.startswith("blk."):
            raise ModelError(
                f"{layer} lies outside the blocks: no GGUF can be written of the adapter alone.",
                FUSE,
            )
        yield f"{tensor.name}.lora_a", numbers(first.T)
        yield f"{tensor.name}.lora_b", tensor.rows(numbers(second.T))

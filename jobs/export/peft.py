"""An adapter as Hugging Face's PEFT lays it out.

PEFT computes ``y = W x + (lora_alpha / r) B A x`` with A of [r, in] and B of [out, r]; MLX
``y = W x + scale x A B`` with A of [in, r] and B of [r, out]. So both are transposed, and
``lora_alpha`` is scale * r. DoRA's magnitudes are alike on both sides.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jobs.backend.mlx import mx
from jobs.config.config import LoraConfig
from jobs.errors import ModelError
from jobs.model.adapter import TrainedAdapter
from jobs.model.adapter_fit import Arrays
from jobs.storage.files import write_json
from jobs.training.checkpoint import save_arrays

PREFIX = "base_model.model."
# How an array is named in MLX; the names of layers are those of the architecture in transformers.
ARRAY = re.compile(
    r"(?P<layer>model\.layers\.(?P<block>\d+)\.(?P<path>.+))\.(?P<part>lora_a|lora_b|m)"
)
# How PEFT names them: read from its files, and written into them.
PEFT_NAMES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "m": "lora_magnitude_vector"}


def write_peft(folder: Path, adapter: TrainedAdapter, lora: LoraConfig, base: str) -> None:
    """Write ``adapter_model.safetensors`` and ``adapter_config.json``.

    Args:
        base: what the configuration names as the base model.

    Raises:
        ModelError: the model's layers have other names than in transformers.
        WorkspaceError: the folder cannot be written.
    """
    save_arrays(folder / "adapter_model.safetensors", peft_arrays(adapter))
    write_json(folder / "adapter_config.json", peft_config(adapter, lora, base))


def check_peft(adapter: TrainedAdapter) -> None:
    """Check that an adapter can be written for PEFT; raises as :func:`write_peft`."""
    for name, array in adapter.arrays.items():
        if array.ndim > 2:
            raise ModelError(
                f"{name} adapts all experts of a mixture at once, and PEFT has no such layer: the "
                "adapter cannot be written for PEFT.",
                "`farense export` without --peft writes it for mlx-lm; --fuse puts it into the "
                "weights.",
            )
        _parts(name)


def peft_arrays(adapter: TrainedAdapter) -> Arrays:
    """Return the arrays by the names and in the shapes that PEFT expects.

    Raises:
        ModelError: as :func:`write_peft`.
    """
    arrays: Arrays = {}
    for name, array in adapter.arrays.items():
        found = _parts(name)
        key = f"{PREFIX}{found['layer']}.{PEFT_NAMES[found['part']]}"
        arrays[key] = mx.contiguous(array.T)
    return arrays


def peft_config(adapter: TrainedAdapter, lora: LoraConfig, base: str) -> dict[str, Any]:
    """Return the content of PEFT's ``adapter_config.json``."""
    found = [_parts(name) for name in adapter.arrays]
    alpha = lora.alpha or lora.factor * lora.rank
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        **({"use_rslora": True} if lora.rslora else {}),
        **({"use_dora": True} if lora.kind == "dora" else {}),
        "lora_dropout": lora.dropout,
        "target_modules": sorted({match["path"] for match in found}),
        "layers_to_transform": sorted({int(match["block"]) for match in found}),
        "layers_pattern": "layers",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def _parts(name: str) -> re.Match[str]:
    found = ARRAY.fullmatch(name)
    if found is None:
        raise ModelError(
            f"This architecture's layers have other names in transformers ({name}): the adapter "
            "cannot be written for PEFT."
        )
    return found

"""A model's size is one number, whatever form its weights have and whichever screen asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.config.config import config_from
from jobs.model_store.folder import read_model
from jobs.model_store.listing import list_models
from jobs.model_store.safetensors_header import TensorEntry
from jobs.model_store.size import PlainTensor, plain_tensors
from jobs.paths import Workspace
from jobs.resources.estimate import FLOAT32, DataSize, estimate
from tests.helpers.quantized import FORMS, in_form
from tests.helpers.runs import SETTINGS

# Of the tiny model, counted by hand: embedding and head; in each of four blocks q and o, k and v,
# the MLP, two norms; the last norm.
WEIGHTS = 2 * 512 * 64 + 4 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64) + 64
ADAPTER = 2 * 4 * ((64 + 64) + (64 + 128))  # two blocks, rank 4, q_proj and up_proj
BITS = {"affine": 8, "mxfp8": 8}


@pytest.mark.parametrize("form", [*FORMS, "mixed", "awq"])
def test_every_screen_counts_the_same_weights(
    alone: Workspace, tiny_model: Path, form: str
) -> None:
    alone.models.mkdir()
    folder = in_form(tiny_model, alone.models / form, form)
    (listed,) = list_models(alone)
    assert listed.problem is None
    assert listed.parameters == WEIGHTS
    assert listed.bits == BITS.get(form, 4)
    data = {"train": "data/train.jsonl"}
    config = config_from({**SETTINGS, "data": data}, "test")
    needs = estimate(folder, config, DataSize(1000, 90, 0.4), as_stored=False, lanes=1)
    assert needs.weights == FLOAT32 * WEIGHTS
    assert needs.adapter == FLOAT32 * ADAPTER
    # A magnitude for each output, and what each layer gives, for each token.
    lora = {**SETTINGS["lora"], "kind": "dora"}
    dora = config_from({**SETTINGS, "data": data, "lora": lora}, "test")
    more = estimate(folder, dora, DataSize(1000, 90, 0.4), as_stored=False, lanes=1)
    outputs = 2 * (64 + 128)
    assert more.adapter == needs.adapter + FLOAT32 * outputs
    assert more.step == needs.step + FLOAT32 * outputs * 90 * SETTINGS["batch_size"]
    on_gpu = estimate(folder, config, DataSize(1000, 90, 0.4), as_stored=True, lanes=1)
    assert on_gpu.adapter == needs.adapter
    assert on_gpu.weights < needs.weights
    shapes = {name: tensor.shape for name, tensor in plain_tensors(*_read(folder)).items()}
    assert shapes == {name: t.shape for name, t in plain_tensors(*_read(tiny_model)).items()}


def _read(folder: Path) -> tuple[dict[str, TensorEntry], dict[str, Any]]:
    config, tensors = read_model(folder)
    return tensors, config


@pytest.mark.parametrize(
    ("stored", "config", "shape", "bits"),
    [
        # GPTQ packs along the inputs, AWQ along the outputs.
        ({"m.qweight": ("I32", 8, 48), "m.scales": ("F16", 2, 48)}, {"bits": 4}, (48, 64), 4),
        ({"m.qweight": ("I32", 64, 6), "m.scales": ("F16", 2, 48)}, {"bits": 4}, (48, 64), 4),
        (
            {"m.weight_packed": ("U8", 48, 32), "m.weight_scale": ("F8_E4M3", 48, 4)},
            {"format": "nvfp4-pack-quantized"},
            (48, 64),
            4,
        ),
        (
            {"m.weight": ("U8", 48, 32), "m.weight_scale": ("F8_E4M3", 48, 4)},
            {"quant_method": "modelopt"},
            (48, 64),
            4,
        ),
        (
            {"m.weight": ("F8_E4M3", 48, 64), "m.weight_scale_inv": ("F32", 1, 1)},
            {"quant_method": "fp8"},
            (48, 64),
            None,
        ),
        ({"m.weight": ("U32", 48, 8), "m.scales": ("F16", 48, 1)}, {}, (48, 64), 4),
        (
            {"m.weight": ("U32", 48, 12), "m.scales": ("F16", 48, 1)},
            {"group_size": 64},
            (48, 64),
            6,
        ),
    ],
)
def test_a_packed_matrix_is_the_one_it_stands_for(
    stored: dict[str, tuple[Any, ...]],
    config: dict[str, Any],
    shape: tuple[int, ...],
    bits: int | None,
) -> None:
    tensors = {name: TensorEntry(kind, tuple(sizes)) for name, (kind, *sizes) in stored.items()}
    found = plain_tensors(tensors, {"quantization_config": config})
    assert found == {"m.weight": PlainTensor(shape, bits)}


def test_experts_as_they_were_first_published_in_mxfp4() -> None:
    tensors = {
        "mlp.experts.down_proj_blocks": TensorEntry("U8", (2, 48, 3, 16)),
        "mlp.experts.down_proj_scales": TensorEntry("U8", (2, 48, 3)),
        "mlp.experts.down_proj_bias": TensorEntry("BF16", (2, 48)),
    }
    assert plain_tensors(tensors, {}) == {
        "mlp.experts.down_proj": PlainTensor((2, 48, 96), 4),
        "mlp.experts.down_proj_bias": PlainTensor((2, 48)),
    }

"""Adapters of DoRA, exported: what mlx-lm, PEFT and a fused model compute with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.backend.mlx import mx
from jobs.paths import RunDirectory, Workspace
from jobs.storage.files import read_json
from tests.helpers.attempts import attempt
from tests.helpers.exports import exported, float32_model, mlx_logits
from tests.helpers.peft import peft_logits
from tests.helpers.required import peft_python
from tests.helpers.runs import SETTINGS, make_run

TOKENS = [0, *range(40, 100, 3)]
CLOSE = 1e-4
DORA = {**SETTINGS["lora"], "kind": "dora"}
SCALES: list[dict[str, Any]] = [
    {},
    {"scale": None, "alpha": 24.0},
    {"scale": None, "alpha": 16.0 * math.sqrt(2), "rslora": True},
]


def trained(workspace: Workspace, model: Path, **lora: Any) -> RunDirectory:
    run = make_run(workspace, model, lora={**DORA, **lora})
    attempt(workspace, run)
    return run


@pytest.mark.parametrize("scale", SCALES)
def test_peft_computes_with_it_what_mlx_computes(
    alone: Workspace, tiny_model: Path, tmp_path: Path, scale: dict[str, Any]
) -> None:
    peft_python()
    run = trained(alone, tiny_model, **scale)
    base = float32_model(alone.models / "tiny", tmp_path / "base")
    written = exported(alone, run.job_id, peft=True)
    config = read_json(Path(written["peft"].folder) / "adapter_config.json")
    assert config["use_dora"] is True
    assert config.get("use_rslora", False) is scale.get("rslora", False)
    theirs = peft_logits(base, Path(written["peft"].folder), TOKENS, tmp_path)
    ours = np.array(mlx_logits(base, Path(written["adapter"].folder), TOKENS))
    assert np.abs(theirs - ours).max() < CLOSE
    bare = np.array(mlx_logits(base, None, TOKENS))
    assert np.abs(theirs - bare).max() > 100 * CLOSE


def test_peft_finds_the_magnitudes_under_its_name(alone: Workspace, tiny_model: Path) -> None:
    run = trained(alone, tiny_model)
    folder = Path(exported(alone, run.job_id, peft=True)["peft"].folder)
    arrays: Any = mx.load(str(folder / "adapter_model.safetensors"))
    own: Any = mx.load(str(run.adapter_weights))
    layer = "model.layers.3.mlp.up_proj"
    name = f"base_model.model.{layer}.lora_magnitude_vector"
    assert np.array_equal(np.array(arrays[name]), np.array(own[f"{layer}.m"]))
    assert read_json(folder / "adapter_config.json")["target_modules"] == [
        *("mlp.up_proj", "self_attn.q_proj")
    ]


def test_fused_it_is_the_model_with_the_adapter(
    alone: Workspace, tiny_model: Path, tmp_path: Path
) -> None:
    run = trained(alone, tiny_model)
    written = exported(alone, run.job_id, fuse=True)
    fused = np.array(mlx_logits(Path(written["fused"].folder), None, TOKENS).astype(mx.float32))
    base = float32_model(alone.models / "tiny", tmp_path / "base")
    beside = np.array(mlx_logits(base, Path(written["adapter"].folder), TOKENS))
    bare = np.array(mlx_logits(base, None, TOKENS))
    # Fused weights are rounded to 16 bits.
    assert np.abs(fused - beside).max() < 2e-2 < np.abs(bare - beside).max()
    found = written["fused"]
    assert found.moved is not None
    assert abs(found.moved) < 1e-3


def test_fused_in_float32_the_logits_are_the_same(
    alone: Workspace, tiny_model: Path, tmp_path: Path
) -> None:
    base = float32_model(tiny_model, tmp_path / "base")
    run = trained(alone, base)
    written = exported(alone, run.job_id, fuse=True)
    fused = np.array(mlx_logits(Path(written["fused"].folder), None, TOKENS))
    beside = np.array(mlx_logits(base, Path(written["adapter"].folder), TOKENS))
    assert np.abs(fused - beside).max() < CLOSE


def test_quantized_again_it_still_answers_like_it(alone: Workspace, tiny_model: Path) -> None:
    run = trained(alone, tiny_model)
    found = exported(alone, run.job_id, fuse=True, requantize=True)["requantized"]
    assert found.moved is not None
    assert abs(found.moved) < 1.0


def test_its_card_calls_it_what_it_is(alone: Workspace, tiny_model: Path) -> None:
    run = trained(alone, tiny_model)
    for kind, told in {"adapter": "A QDoRA adapter for", "peft": "A DoRA adapter trained"}.items():
        folder = Path(exported(alone, run.job_id, peft=True)[kind].folder)
        card = (folder / "README.md").read_text()
        assert told in card
        assert "- dora\n" in card

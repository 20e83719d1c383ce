"""The PEFT layout, by its names and by what PEFT computes with it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.backend.mlx import mx
from jobs.errors import ModelError
from jobs.export.peft import check_peft
from jobs.model.adapter import read_adapter
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.storage.files import read_json
from tests.helpers.exports import exported, float32_model, mlx_logits
from tests.helpers.past_runs import FIRST, SECOND
from tests.helpers.peft import peft_logits
from tests.helpers.required import peft_python
from tests.helpers.specs import write_spec

# A prompt is a text of any tokens.
TOKENS = [0, *range(40, 100, 3)]
CLOSE = 1e-3


def test_peft_computes_with_it_what_mlx_computes_with_the_adapter(
    past: Workspace, tmp_path: Path
) -> None:
    peft_python()
    base = float32_model(past.models / "tiny", tmp_path / "base")
    written = exported(past, FIRST, peft=True)
    theirs = peft_logits(base, Path(written["peft"].folder), TOKENS, tmp_path)
    ours = np.array(mlx_logits(base, Path(written["adapter"].folder), TOKENS))
    assert np.abs(theirs - ours).max() < CLOSE
    # The adapter counts: without it the logits are others by far.
    bare = np.array(mlx_logits(base, None, TOKENS))
    assert np.abs(theirs - bare).max() > 100 * CLOSE


def test_rslora_is_told_to_peft_which_computes_the_same(past: Workspace, tmp_path: Path) -> None:
    peft_python()
    spec = read_spec(past.run(SECOND))
    lora = {**spec.config["lora"], "scale": None, "alpha": 16.0 * math.sqrt(2), "rslora": True}
    write_spec(past.run(SECOND), replace(spec, config={**spec.config, "lora": lora}))
    base = float32_model(past.models / "tiny", tmp_path / "base")
    written = exported(past, SECOND, peft=True)
    config = read_json(Path(written["peft"].folder) / "adapter_config.json")
    assert (config["lora_alpha"], config["use_rslora"]) == (16.0 * math.sqrt(2), True)
    theirs = peft_logits(base, Path(written["peft"].folder), TOKENS, tmp_path)
    ours = np.array(mlx_logits(base, Path(written["adapter"].folder), TOKENS))
    assert np.abs(theirs - ours).max() < CLOSE


def test_its_configuration_says_where_the_matrices_belong(past: Workspace) -> None:
    folder = Path(exported(past, SECOND, peft=True)["peft"].folder)
    config = read_json(folder / "adapter_config.json")
    assert config["lora_alpha"] / config["r"] == 16.0
    assert (config["r"], config["bias"], config["task_type"]) == (2, "none", "CAUSAL_LM")
    assert config["target_modules"] == ["mlp.up_proj", "self_attn.q_proj"]
    assert config["layers_to_transform"] == [2, 3]
    assert config["base_model_name_or_path"] == "models/tiny"
    arrays = mx.load(str(folder / "adapter_model.safetensors"))
    assert isinstance(arrays, dict)
    layer = "base_model.model.model.layers.3.mlp.up_proj"
    assert arrays[f"{layer}.lora_A.weight"].shape == (2, 64)
    assert arrays[f"{layer}.lora_B.weight"].shape == (128, 2)
    assert len(arrays) == 2 * 2 * 2


def test_layers_with_names_of_their_own_are_refused(past: Workspace) -> None:
    adapter = read_adapter(past.run(FIRST))
    renamed = {
        name.replace("model.", "transformer."): array for name, array in adapter.arrays.items()
    }
    with pytest.raises(ModelError, match="other names in transformers"):
        check_peft(replace(adapter, arrays=renamed))

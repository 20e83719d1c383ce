"""A fused model's weights: what they are, and that they never lie in memory all at once."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from jobs.backend.mlx import load_model, mx, named, scalar
from jobs.config.config import config_from
from jobs.errors import InvalidInput, ModelError
from jobs.export.fuse import FusedModel, fused_model
from jobs.model.adapter import TrainedAdapter, read_adapter
from jobs.model_store import tiny
from jobs.model_store.folder import check_model
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.storage.files import read_json
from tests.helpers.exports import float32_model, mlx_logits
from tests.helpers.past_runs import FIRST
from tests.helpers.quantized import FORMS, MIXED, MIXED_OTHERS, in_form

ADAPTED = "model.layers.3.self_attn.q_proj"
TOKENS = [0, *range(40, 100, 3)]


def fused(
    workspace: Workspace,
    *,
    requantize: bool = False,
    model: str = "tiny",
    adapter: TrainedAdapter | None = None,
) -> FusedModel:
    run = workspace.run(FIRST)
    lora = config_from(read_spec(run).config, "test").lora
    adapter = adapter or read_adapter(run)
    return fused_model(workspace.models / model, lora, adapter, requantize=requantize)


def weights(folder: Path) -> dict[str, mx.array]:
    module, _ = load_model(folder)
    return named(module.parameters())


def test_a_weight_is_the_base_models_and_what_the_adapter_adds(
    past: Workspace, tmp_path: Path
) -> None:
    fused(past).write(tmp_path / "fused")
    base = weights(float32_model(past.models / "tiny", tmp_path / "base"))
    adapter = read_adapter(past.run(FIRST)).arrays
    added = 16.0 * adapter[f"{ADAPTED}.lora_a"] @ adapter[f"{ADAPTED}.lora_b"]
    found = weights(tmp_path / "fused")
    assert found.keys() == base.keys()
    for name, array in found.items():
        assert array.dtype == mx.float16
        if name == f"{ADAPTED}.weight":
            assert scalar(mx.max(mx.abs(added))) > 0.01
            assert np.array(array) == pytest.approx(np.array(base[name] + added.T), abs=1e-3)
        elif ".3." not in name and ".2." not in name:
            # Rounded once, from float32.
            assert mx.array_equal(array, base[name].astype(mx.float16)), name
    assert "quantization" not in read_json(tmp_path / "fused/config.json")
    check_model(tmp_path / "fused")


def test_it_computes_what_the_adapter_beside_the_model_computes(
    past: Workspace, tmp_path: Path
) -> None:
    fused(past).write(tmp_path / "fused")
    base = float32_model(past.models / "tiny", tmp_path / "base")
    beside = mlx_logits(base, past.run(FIRST).adapters, TOKENS)
    difference = mx.abs(mlx_logits(tmp_path / "fused", None, TOKENS) - beside)
    assert scalar(mx.max(difference)) < 0.02
    assert scalar(mx.max(mx.abs(mlx_logits(base, None, TOKENS) - beside))) > 0.2


def test_quantized_again_only_the_adapted_layers_are_others(
    past: Workspace, tmp_path: Path
) -> None:
    fused(past, requantize=True).write(tmp_path / "fused")
    base, found = weights(past.models / "tiny"), weights(tmp_path / "fused")
    assert {name: (a.shape, a.dtype) for name, a in found.items()} == {
        name: (a.shape, a.dtype) for name, a in base.items()
    }
    changed = {name for name in found if not mx.array_equal(found[name], base[name])}
    layers = {name.rpartition(".")[0] for name in changed}
    assert layers == {
        f"model.layers.{block}.{path}"
        for block in (2, 3)
        for path in ("self_attn.q_proj", "mlp.up_proj")
    }


def test_in_many_files_it_is_the_same_model(past: Workspace, tmp_path: Path) -> None:
    fused(past).write(tmp_path / "one")
    fused(past).write(tmp_path / "many", shard_bytes=20_000)
    names = sorted(path.name for path in (tmp_path / "many").glob("model*.safetensors"))
    assert len(names) > 5
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    check_model(tmp_path / "many")  # reads the index
    one, other = weights(tmp_path / "one"), weights(tmp_path / "many")
    assert one.keys() == other.keys()
    assert all(mx.array_equal(one[name], other[name]) for name in one)


def test_memory_holds_one_file_at_a_time(
    past: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.CONFIG, "num_hidden_layers", 24)
    tiny.make_tiny_model(past.models / "deep")
    few = read_adapter(past.run(FIRST))
    last = {re.sub(r"(?<=layers\.)", "2", name): array for name, array in few.arrays.items()}
    deep = fused(past, model="deep", adapter=replace(few, arrays=last))
    total, rest = deep.bytes, mx.get_active_memory()
    assert rest < total / 10  # nothing was computed yet
    mx.reset_peak_memory()
    deep.write(tmp_path / "deep", shard_bytes=20_000)
    assert mx.get_peak_memory() - rest < total / 3
    assert sum(array.nbytes for array in weights(tmp_path / "deep").values()) == total


def test_what_is_not_quantized_is_not_quantized_again(past: Workspace, tmp_path: Path) -> None:
    float32_model(past.models / "tiny", past.models / "plain")
    with pytest.raises(InvalidInput, match="is not quantized"):
        fused(past, model="plain", requantize=True)
    fused(past, model="plain").write(tmp_path / "fused")
    assert weights(tmp_path / "fused")[f"{ADAPTED}.weight"].dtype == mx.float32


def test_an_adapter_of_another_model_is_refused(past: Workspace) -> None:
    adapter = read_adapter(past.run(FIRST))
    adapter.arrays.pop(f"{ADAPTED}.lora_a")
    with pytest.raises(ModelError, match="does not fit"):
        fused(past, adapter=adapter)


@pytest.mark.parametrize("form", [*FORMS, "mixed", "awq"])
def test_of_a_base_in_any_form_an_export_loads_and_computes_the_same(
    past: Workspace, tmp_path: Path, form: str
) -> None:
    base = in_form(past.models / "tiny", past.models / form, form)
    (base / "hf_quant_config.json").write_text("{}")
    beside = mlx_logits(base, past.run(FIRST).adapters, TOKENS).astype(mx.float32)
    alone = mlx_logits(base, None, TOKENS).astype(mx.float32)
    moved = scalar(mx.max(mx.abs(alone - beside)))
    for requantize, share in ((False, 0.1), (True, 0.5)):
        folder = tmp_path / f"{form}-{requantize}"
        fused(past, requantize=requantize, model=form).write(folder)
        check_model(folder)
        found = mlx_logits(folder, None, TOKENS).astype(mx.float32)
        assert scalar(mx.mean(mx.abs(found - beside))) < share * moved
        # What says how the base was stored is gone; MLX's own stands where anything is quantized.
        config = read_json(folder / "config.json")
        assert "quantization_config" not in config
        assert ("quantization" in config) == requantize
        assert not (folder / "hf_quant_config.json").exists()


def test_quantized_again_each_layer_has_the_settings_it_had(
    past: Workspace, tmp_path: Path
) -> None:
    in_form(past.models / "tiny", past.models / "mixed", "mixed")
    fused(past, requantize=True, model="mixed").write(tmp_path / "fused")
    said = read_json(tmp_path / "fused/config.json")["quantization"]
    assert said == {**MIXED, **MIXED_OTHERS}


def test_a_config_says_nothing_of_quantization_in_its_text_part_either(
    past: Workspace, tmp_path: Path
) -> None:
    path = past.models / "tiny/config.json"
    text = {"quantization_config": {"quant_method": "mxfp4"}, "hidden_size": 64}
    path.write_bytes(orjson.dumps(read_json(path) | {"text_config": text}))
    fused(past).write(tmp_path / "fused")
    assert read_json(tmp_path / "fused/config.json")["text_config"] == {"hidden_size": 64}

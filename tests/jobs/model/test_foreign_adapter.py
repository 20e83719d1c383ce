"""Adapters that others made, read to start from: they compute here what they compute there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.backend.mlx import load_model, mx, named
from jobs.errors import ExitCode, InvalidInput, ModelError
from jobs.model.adapter_fit import fitting
from jobs.model.foreign_adapter import MLX_LM, PEFT, ForeignAdapter, read_foreign
from jobs.paths import REPOSITORY
from jobs.storage.files import read_json, write_json
from tests.helpers.engines import NO_DROPOUT, Rig
from tests.helpers.exports import float32_model, mlx_logits
from tests.helpers.required import peft_python

TOKENS = [0, *range(40, 100, 3)]
KEYS = ["self_attn.q_proj", "mlp.up_proj"]
LORA = {**NO_DROPOUT, "keys": KEYS}


def logits_with(adapter: ForeignAdapter, model: Path, scratch: Path, **lora: Any) -> Any:
    """Return what training that starts from an adapter computes before its first step."""
    frozen = scratch / "frozen.safetensors"
    frozen.write_bytes(adapter.content())
    again = read_foreign(frozen)
    assert again.origin == adapter.origin
    assert again.content() == adapter.content()
    rig = Rig(model, lora={**LORA, "scale": adapter.origin.scale, **lora})
    arrays: Any = mx.load(str(frozen))
    rig.engine.adapter = fitting(arrays, rig.engine.adapter)
    rig.module.eval()
    return np.array(rig.module(mx.array([TOKENS])))[0]


def made_by_mlx_lm(model: Path, folder: Path, kind: str) -> Path:
    """Write an adapter as mlx-lm's trainer writes it, every array away from its start."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    module, _ = load_model(model)
    module.freeze()
    parameters = {"rank": 4, "scale": 10.0, "dropout": 0.0, "keys": KEYS}
    linear_to_lora_layers(module, 2, parameters, use_dora=kind == "dora")
    arrays = {
        name: array + 0.05 * mx.random.normal(array.shape, key=mx.random.key(number))
        for number, (name, array) in enumerate(named(module.trainable_parameters()).items())
    }
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), arrays)
    config = {"fine_tune_type": kind, "num_layers": 2, "lora_parameters": parameters}
    write_json(folder / "adapter_config.json", {**config, "model": "some/model", "iters": 10})
    return folder


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_mlx_lm_s_own(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    base = float32_model(tiny_model, tmp_path / "base")
    folder = made_by_mlx_lm(base, tmp_path / "theirs", kind)
    adapter = read_foreign(folder)
    assert (adapter.origin.form, adapter.origin.model) == (MLX_LM, "some/model")
    found = logits_with(adapter, base, tmp_path, kind=kind)
    expected = np.array(mlx_logits(base, folder, TOKENS))
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(found - np.array(mlx_logits(base, None, TOKENS))).max() > 0.01


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_rslora": True}, {"use_dora": True}, {"use_dora": True, "use_rslora": True}],
)
def test_peft_s_own(tmp_path: Path, tiny_model: Path, settings: dict[str, Any]) -> None:
    base, folder = float32_model(tiny_model, tmp_path / "base"), tmp_path / "theirs"
    asked = {"r": 4, "lora_alpha": 10, "target_modules": ["q_proj", "up_proj"], **settings}
    asked["layers_to_transform"] = [2, 3]
    (tmp_path / "tokens.json").write_text(json.dumps(TOKENS))
    program, target = REPOSITORY / "tests/children/peft_adapter.py", tmp_path / "logits.npy"
    done = subprocess.run(
        [peft_python(), program, base, folder, tmp_path / "tokens.json", target, json.dumps(asked)],
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    adapter = read_foreign(folder)
    assert (adapter.origin.form, adapter.origin.model) == (PEFT, str(base))
    assert adapter.origin.scale == 10 / (2 if "use_rslora" in settings else 4)
    kind = "dora" if "use_dora" in settings else "lora"
    found = logits_with(adapter, base, tmp_path, kind=kind)
    assert np.abs(found - np.load(target, allow_pickle=False)).max() < 1e-4
    assert np.abs(found - np.array(mlx_logits(base, None, TOKENS))).max() > 0.01


@pytest.fixture
def theirs(tmp_path: Path, tiny_model: Path) -> Path:
    return made_by_mlx_lm(tiny_model, tmp_path / "theirs", "lora")


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_is_read_as_it_is(theirs: Path, dtype: mx.Dtype) -> None:
    file = theirs / "adapters.safetensors"
    arrays: Any = {name: array.astype(dtype) for name, array in mx.load(str(file)).items()}  # type: ignore[union-attr]
    mx.eval(arrays)
    mx.save_safetensors(str(file), arrays)
    found = read_foreign(theirs).arrays
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name] == np.array(array.astype(mx.float32))).all()


def edited(folder: Path, **changes: Any) -> None:
    config = folder / "adapter_config.json"
    write_json(config, {**read_json(config), **changes})


def as_peft(folder: Path, **settings: Any) -> None:
    (folder / "adapters.safetensors").rename(folder / "adapter_model.safetensors")
    write_json(
        folder / "adapter_config.json", {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **settings}
    )


def pickled(folder: Path) -> None:
    (folder / "adapters.safetensors").rename(folder / "adapter_model.bin")


def cut_short(folder: Path) -> None:
    file = folder / "adapters.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def not_finite(folder: Path) -> None:
    mx.save_safetensors(str(folder / "adapters.safetensors"), {"a.lora_a": mx.array([mx.nan])})


BAD: dict[str, tuple[Any, str]] = {
    "no adapter": (lambda f: (f / "adapters.safetensors").unlink(), "There is no adapter in"),
    "a pickle": (pickled, "There is no adapter in"),
    "cut short": (cut_short, "cannot be read"),
    "no numbers": (not_finite, "a.lora_a has numbers that are not finite"),
    "no settings": (lambda f: (f / "adapter_config.json").unlink(), "No such file"),
    "no scale": (lambda f: edited(f, lora_parameters={"rank": 4}), "it lacks 'scale'"),
    "scale 0": (lambda f: edited(f, lora_parameters={"scale": 0}), "its scale is 0, no number"),
    "whole model": (lambda f: edited(f, fine_tune_type="full"), "but what mlx-lm calls 'full'"),
    "another of PEFT": (lambda f: as_peft(f, peft_type="IA3"), "but what PEFT calls 'IA3'"),
    "biases": (lambda f: as_peft(f, bias="all"), "more than farense trains: biases"),
    "head": (lambda f: as_peft(f, modules_to_save=["lm_head"]), "layers that are trained whole"),
    "other names": (as_peft, "which is no matrix of LoRA or DoRA"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_read_is_refused(theirs: Path, bad: str) -> None:
    break_it, said = BAD[bad]
    break_it(theirs)
    with pytest.raises(InvalidInput) as caught:
        read_foreign(theirs)
    assert said in caught.value.message
    assert str(theirs) in caught.value.message or isinstance(caught.value, ModelError)
    assert caught.value.exit_code == ExitCode.INVALID
    if bad == "a pickle":
        assert "adapter_model.bin may run code" in (caught.value.hint or "")


def test_a_file_of_arrays_alone_is_refused(theirs: Path) -> None:
    with pytest.raises(InvalidInput, match="what its arrays mean is not known"):
        read_foreign(theirs / "adapters.safetensors")

"""The losses before training: measured once, and the same for whoever shares them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.backend.mlx import mx
from jobs.caches import TRAINING_ONLY, TRAINING_ONLY_LORA
from jobs.config.config import LoraConfig, TrainConfig
from jobs.events import Event, Validation
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.training.session import train
from tests.helpers.runs import SETTINGS, make_run

NAMES = itertools.product("abcdefgh", repeat=4)
SHORT: dict[str, Any] = {"max_steps": 6}


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """Compiling kernels takes longer than these trainings."""
    mx.disable_compile()
    yield
    mx.enable_compile()


def trained(
    workspace: Workspace, model: Path, valid: int = 5, **settings: Any
) -> tuple[Validation, bytes]:
    """Train a job; return what it said before the first step, and its best adapter."""
    job = f"20261122-210000-tiny-{''.join(next(NAMES))}"
    run = make_run(workspace, model, job, valid=valid, **{**SHORT, **settings})
    events: list[Event] = []
    assert train(workspace, read_spec(run), events.append, lambda: None) is not None
    first = next(event for event in events if isinstance(event, Validation))
    assert first.step == 0
    return first, (run.adapters / "adapters.safetensors").read_bytes()


def lora(**settings: Any) -> dict[str, Any]:
    return {**SETTINGS["lora"], **settings}


def test_a_job_that_only_trains_otherwise_takes_what_another_has_measured(
    tmp_path: Path, tiny_model: Path
) -> None:
    shared, alone = Workspace(tmp_path / "shared"), Workspace(tmp_path / "alone")
    settings: dict[str, Any] = {
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "seed": 7,
        "eval_steps": 3,
    }
    settings["lora"] = lora(rank=8, dropout=0.0)
    measured, _ = trained(shared, tiny_model)
    recalled, adapter = trained(shared, tiny_model, **settings)
    own, adapter_alone = trained(alone, tiny_model, **settings)
    assert measured.seconds > 0
    assert recalled.seconds == 0
    assert own.seconds > 0
    assert (recalled.val_loss, recalled.train_eval_loss) == (own.val_loss, own.train_eval_loss)
    assert adapter == adapter_alone


def test_what_may_change_it_has_it_measured_anew(tmp_path: Path, tiny_model: Path) -> None:
    workspace = Workspace(tmp_path)
    trained(workspace, tiny_model)
    changes: list[dict[str, Any]] = [{"lora": lora(num_layers=1)}, {"gap_examples": 3}]
    changes += [{"prefix_cache_gb": 0.0}, {"valid": 4}]
    for settings in changes:
        assert trained(workspace, tiny_model, **settings)[0].seconds > 0, settings


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


EDITS: dict[str, tuple[str, str, str]] = {
    "what the template says": ("tokenizer_config.json", "[INST] ", "[INST] Sê breve. "),
    "the rotary embedding": ("config.json", '"rope_theta": 10000.0', '"rope_theta": 10.0'),
    "the norms": ("config.json", '"rms_norm_eps": 1e-05', '"rms_norm_eps": 0.1'),
}


@pytest.mark.parametrize("name", EDITS)
def test_another_model_with_the_same_weights_has_losses_of_its_own(
    tmp_path: Path, tiny_model: Path, name: str
) -> None:
    shared, alone = Workspace(tmp_path / "shared"), Workspace(tmp_path / "alone")
    first, _ = trained(shared, tiny_model, prompt_format="chat")
    copy = tmp_path / "edited"
    shutil.copytree(tiny_model, copy)
    file, old, new = EDITS[name]
    for folder in (shared.models / "tiny", copy):
        edit(folder / file, old, new)
    second, _ = trained(shared, tiny_model, prompt_format="chat")
    true, _ = trained(alone, copy, prompt_format="chat")
    assert second.seconds > 0
    assert second.val_loss == true.val_loss != first.val_loss


@pytest.mark.parametrize("damage", ["", "nan", "renamed"])
def test_what_is_damaged_is_measured_again(tmp_path: Path, tiny_model: Path, damage: str) -> None:
    workspace = Workspace(tmp_path)
    first, _ = trained(workspace, tiny_model)
    (file,) = workspace.baselines.iterdir()
    text = file.read_text()
    match damage:
        case "nan":
            text = text.replace(str(first.val_loss), "null")
        case "renamed":
            text = text.replace(file.stem, "0" * 64)
        case _:
            text = damage
    file.unlink()
    file.write_text(text)
    again, _ = trained(workspace, tiny_model)
    assert again.seconds > 0
    assert again.val_loss == first.val_loss


def test_every_setting_that_is_left_out_exists() -> None:
    assert set(TrainConfig.model_fields) >= TRAINING_ONLY
    assert set(LoraConfig.model_fields) >= TRAINING_ONLY_LORA

"""From a preset to a run directory: what is checked, what is frozen."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from daemon.submit.placing import place_job, plan
from jobs.config.config import Preset, load_preset
from jobs.errors import DataError, InvalidInput, ModelError, WorkspaceError
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import State, read_state
from jobs.storage.files import sha256_of


def overridden(workspace: Workspace, *settings: str) -> Preset:
    return load_preset("tiny", (workspace.configs,), settings)


def test_the_plan_counts_the_examples(workspace: Workspace, preset: Preset) -> None:
    schedule = plan(preset, workspace)
    assert (schedule.examples, schedule.steps_per_epoch, schedule.total_steps) == (11, 6, 12)
    assert list(schedule.validation_steps) == [12]


def test_an_order_is_complete_and_its_data_frozen(workspace: Workspace, preset: Preset) -> None:
    source = workspace.data / "train.jsonl"
    digest = sha256_of(source)
    spec, state = place_job(preset, workspace, name="n", priority=1)
    run = workspace.run(spec.id)
    assert read_spec(run) == spec
    assert read_state(run) == state
    assert (state.state, state.priority) == (State.QUEUED, 1)
    assert (spec.train.sha256, spec.train.examples, spec.train.source) == (
        digest, 11, "train.jsonl",
    )  # fmt: skip
    frozen = workspace.inside(spec.train.path)
    assert spec.config["data"]["train"] == spec.train.path == f"data/imported/{digest}.jsonl"
    source.write_text("something else")
    assert sha256_of(frozen) == digest
    assert not frozen.stat().st_mode & stat.S_IWUSR
    assert spec.model_fingerprint
    assert {"python", "mlx", "mlx-lm", "huey"} <= spec.versions.keys()


def test_the_same_data_are_kept_once(workspace: Workspace, preset: Preset) -> None:
    first, second = (place_job(preset, workspace)[0] for _ in range(2))
    assert first.id != second.id
    assert first.train == second.train
    assert len(list(workspace.imported.iterdir())) == 2


def test_data_may_lie_anywhere(workspace: Workspace, preset: Preset, tmp_path: Path) -> None:
    elsewhere = tmp_path / "as minhas perguntas.jsonl"
    shutil.move(workspace.data / "train.jsonl", elsewhere)
    elsewhere_link = tmp_path / "link.jsonl"
    elsewhere_link.symlink_to(elsewhere)
    spec, _ = place_job(overridden(workspace, f"data.train={elsewhere_link}"), workspace)
    assert spec.train.source == "link.jsonl"
    assert not workspace.inside(spec.train.path).is_symlink()


def test_a_job_without_validation(workspace: Workspace, preset: Preset) -> None:
    spec, _ = place_job(overridden(workspace, "data.valid=null"), workspace)
    assert spec.valid is None
    assert spec.config["data"]["valid"] is None


def refused(preset: Preset, workspace: Workspace, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        place_job(preset, workspace)
    assert list(workspace.runs.iterdir()) == []


@pytest.mark.parametrize(
    ("model_type", "words"),
    [("phi3small", "sees tokens that come later"), ("spaceship", "which mlx-lm does not have")],
)
def test_an_architecture_that_cannot_be_trained_is_refused(
    workspace: Workspace, preset: Preset, model_type: str, words: str
) -> None:
    config = workspace.inside(preset.config.model) / "config.json"
    text = config.read_text()
    config.unlink()
    config.write_text(text.replace('"mistral"', f'"{model_type}"'))
    refused(preset, workspace, ModelError, words)


def test_bad_data_are_refused_by_line(workspace: Workspace, preset: Preset) -> None:
    with (workspace.data / "valid.jsonl").open("a") as file:
        file.write('{"prompt": "sem resposta"}\n')
    refused(preset, workspace, DataError, "line 5")
    (workspace.data / "valid.jsonl").unlink()
    refused(preset, workspace, DataError, r"valid\.jsonl")


def test_a_missing_or_empty_model_is_refused(workspace: Workspace, preset: Preset) -> None:
    (workspace.models / "tiny" / "model.safetensors").unlink()
    refused(preset, workspace, ModelError, "tiny")
    shutil.rmtree(workspace.models / "tiny")
    refused(preset, workspace, ModelError, "tiny")


@pytest.mark.parametrize("model", ["../outside", "models/../../outside"])
def test_a_path_that_leads_out_of_the_workspace_is_refused(
    workspace: Workspace, preset: Preset, model: str
) -> None:
    refused(
        overridden(workspace, f"model={model}"), workspace, InvalidInput, "out of the workspace"
    )


@pytest.mark.parametrize("model", ["/etc", "models/link"])
def test_what_lies_elsewhere_has_to_be_a_model(
    workspace: Workspace, preset: Preset, tmp_path: Path, model: str
) -> None:
    (workspace.models / "link").symlink_to(tmp_path)
    refused(overridden(workspace, f"model={model}"), workspace, ModelError, "no config.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: run the tests as a user")
def test_a_workspace_that_cannot_be_written_is_told(workspace: Workspace, preset: Preset) -> None:
    workspace.runs.chmod(0o500)
    refused(preset, workspace, WorkspaceError, "No permission")


def test_a_file_in_the_way_is_told(workspace: Workspace, preset: Preset) -> None:
    workspace.runs.rmdir()
    workspace.runs.write_text("in the way")
    with pytest.raises(WorkspaceError, match="could not be written"):
        place_job(preset, workspace)


def test_latest_is_left_alone_where_it_is_a_folder(workspace: Workspace, preset: Preset) -> None:
    (workspace.runs / "latest").mkdir()
    (workspace.runs / "latest" / "mine").write_text("")
    spec, _ = place_job(preset, workspace)
    assert (workspace.runs / "latest" / "mine").exists()
    assert {path.name for path in workspace.runs.iterdir()} == {"latest", spec.id}

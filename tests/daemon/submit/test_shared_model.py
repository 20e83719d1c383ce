"""One copy of a model for several workspaces: elsewhere, read-only, and never written to."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.doctor.doctor import examine
from jobs.config.config import Preset, load_preset
from jobs.evaluation.ask import Answerer
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import State
from jobs.storage.files import read_json
from tests.daemon.worker.test_real_child import REAL
from tests.helpers.exports import exported
from tests.helpers.jobs import ended
from tests.helpers.servers import Daemons


@pytest.fixture
def read_only(tmp_path: Path, tiny_model: Path) -> Iterator[Path]:
    """A model outside the workspace, its files and folder without the right to write."""
    folder = shutil.copytree(tiny_model, tmp_path / "disk" / "tiny")
    for path in (*folder.iterdir(), folder):
        path.chmod(path.stat().st_mode & ~0o222)
    yield folder
    folder.chmod(0o755)


def content(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Return all that could change in a folder: modes, times of change, and what is in the files.

    Whoever may do everything is kept from nothing by a mode; a folder's own time tells of files
    that came and went.
    """
    found = {}
    for path in (folder, *folder.rglob("*")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (path.stat().st_mode, path.stat().st_mtime_ns, digest)
    return found


@pytest.mark.parametrize("given", ["absolute", "link"])
def test_everything_works_with_a_model_elsewhere_and_nothing_is_written_there(
    workspace: Workspace,
    preset: Preset,
    client: FarenseClient,
    daemons: Daemons,
    read_only: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
) -> None:
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")  # which takes longer than these steps
    before = content(read_only)
    shutil.rmtree(workspace.models / "tiny")
    if given == "link":
        (workspace.models / "tiny").symlink_to(read_only)
    model = "models/tiny" if given == "link" else str(read_only)
    wanted = load_preset(preset.name, (workspace.configs,), (f"model={model}", "max_steps=4"))

    found = {finding.check: finding for finding in examine(wanted, workspace)}
    assert "tiny is complete" in found["model"].found
    assert found["adapter"].status == "ok"

    job = client.enqueue(wanted)
    evaluation = client.evaluate(job.id)
    daemons.start(child=REAL)
    for job_id in (job.id, evaluation.id):
        assert ended(client, job_id).state is State.COMPLETED
    again = client.retry(job.id)
    assert ended(client, again.id).state is State.COMPLETED

    spec = read_spec(workspace.run(job.id))
    assert spec.config["model"] == "models/tiny"
    assert (workspace.models / "tiny").readlink() == read_only
    # What was kept for one is found by the other.
    entries = [path for path in workspace.prefix_cache.iterdir() if path.is_dir()]
    assert len(entries) == 2  # of the training set and the validation set

    folders = exported(workspace, job.id, fuse=True, peft=True)
    folders |= exported(workspace, job.id, fuse=True, requantize=True)
    assert set(folders) == {"adapter", "peft", "fused", "requantized"}
    adapters = workspace.run(job.id).adapters
    for folder in (adapters, Path(folders["adapter"].folder)):
        base = read_json(folder / "adapter_config.json")["model"]
        assert (workspace.root / base / "config.json").is_file()
    base = read_json(Path(folders["peft"].folder) / "adapter_config.json")[
        "base_model_name_or_path"
    ]
    assert (workspace.root / base / "config.json").is_file()
    for found_folder in folders.values():
        for file in Path(found_folder.folder).iterdir():
            assert file.stat().st_mode & 0o600 == 0o600, file

    assert list(Answerer(workspace, spec).answer("Quem?", 4))[-1].end is not None
    assert content(read_only) == before

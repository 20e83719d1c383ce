"""Folders in output/: their names, whose they are, and that none is there by half."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.errors import InvalidInput, WorkspaceError
from jobs.export.folder import (
    MARKER,
    check_name,
    check_space,
    check_target,
    export_name,
    exporting,
    free_name,
    replacing,
)
from jobs.export.kinds import ADAPTER, FUSED, SUFFIXES
from jobs.paths import Workspace
from jobs.storage.files import write_json
from jobs.storage.locks import hold


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("mistral-7b-4bit", "mistral-7b-farense-qlora-v2"),
        ("smollm2-135m-4bit", "smollm2-135m-farense-qlora-v2"),
        ("Mistral-7B-Instruct-v0.3-8-bit", "Mistral-7B-Instruct-v0.3-farense-qlora-v2"),
        ("llama_Q4_K_M", "llama-farense-qlora-v2"),
        ("phi-mxfp4", "phi-farense-qlora-v2"),
        ("qwen-14b", "qwen-14b-farense-qlora-v2"),
        (".hidden model", "hidden_model-farense-qlora-v2"),
    ],
)
def test_the_name_is_the_models_without_its_quantization(model: str, name: str) -> None:
    assert export_name(model, "v2") == name
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "..", "../data", "a/b", ".hidden", "/etc", "a b", "x" * 101])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be the name"):
        check_name(name)


def test_a_name_may_have_the_folder_before_it() -> None:
    assert check_name("output/mine/") == "mine"


def test_only_an_export_of_the_same_job_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "export"
    check_target(target, "mine", ADAPTER, force=False)
    target.mkdir()
    for force in (False, True):
        with pytest.raises(InvalidInput, match="no export of farense"):
            check_target(target, "mine", ADAPTER, force=force)
    write_json(target / MARKER, {"job": "other"})
    with pytest.raises(InvalidInput, match="another job, other"):
        check_target(target, "mine", ADAPTER, force=False)
    check_target(target, "mine", ADAPTER, force=True)
    check_target(target, "other", ADAPTER, force=False)
    # One of another kind is no earlier one: `--to mine-fused` beside `--to mine --fuse`.
    write_json(target / MARKER, {"job": "mine", "kind": FUSED})
    with pytest.raises(InvalidInput, match=r"another export of this job \(fused\)"):
        check_target(target, "mine", ADAPTER, force=False)
    check_target(target, "mine", ADAPTER, force=True)
    check_target(target, "mine", FUSED, force=False)


@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_the_usual_name_takes_no_folder_of_another_job(tmp_path: Path, suffix: str) -> None:
    def make(name: str, job: str) -> None:
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / MARKER, {"job": job})

    first, second = "20261122-210000-v2-aaaa", "20261122-210000-v2-bbbb"
    assert free_name(tmp_path, "m-v2", first) == "m-v2"
    make(f"m-v2{suffix}", first)
    assert free_name(tmp_path, "m-v2", first) == "m-v2"
    assert free_name(tmp_path, "m-v2", second) == "m-v2-bbbb"
    make(f"m-v2-bbbb{suffix}", second)
    assert free_name(tmp_path, "m-v2", second) == "m-v2-bbbb"
    shutil.rmtree(tmp_path / f"m-v2{suffix}")
    assert free_name(tmp_path, "m-v2", second) == "m-v2-bbbb"
    assert check_name(free_name(tmp_path, "m" * 100, second))


def test_what_fails_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "export"
    with replacing(target) as folder:
        (folder / "file").write_text("old")
        assert not target.exists()
    with pytest.raises(KeyboardInterrupt), replacing(target) as folder:
        (folder / "file").write_text("new")
        raise KeyboardInterrupt
    assert (target / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_export_left_is_mended_by_the_next(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    target = workspace.output / "export"
    with replacing(target) as folder:
        (folder / "file").write_text("old")
    # Killed while it wrote, and killed between its two renames.
    shutil.copytree(target, target.with_name(".export.partial"))
    target.rename(target.with_name(".export.replaced"))
    with exporting(workspace, [target]):
        assert (target / "file").read_text() == "old"
    assert list(workspace.output.iterdir()) == [target]


def test_two_do_not_write_the_same_at_a_time(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    target = workspace.output / "export"
    workspace.private.mkdir()
    with (
        hold(workspace.private / "export-export.lock"),
        pytest.raises(WorkspaceError, match="Another process is exporting"),
        exporting(workspace, [target]),
    ):
        pass


def test_a_disk_without_room_is_seen_before_anything_is_written(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(WorkspaceError, match="Not enough disk space: this export takes"):
        check_space(tmp_path / "output", free)
    check_space(tmp_path / "output", 1000)

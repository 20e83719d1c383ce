"""A disk that fills up while a run writes: what was whole stays whole, and the run can go on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from jobs.__main__ import _failure
from jobs.backend.mlx import mx
from jobs.errors import DiskFull, ExitCode, WorkspaceError
from jobs.paths import REPOSITORY, RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.state import State, read_state, write_state
from jobs.storage.files import append, whole_lines
from jobs.training.checkpoint import newest_checkpoint, save_arrays
from jobs.training.checkpoint_files import checkpoint_folders
from tests.helpers import failing_writes
from tests.helpers.runs import events, make_run, numbers, run_child

FULL = Path("/dev/full")
STORM = REPOSITORY / "tests" / "children" / "storm.py"
FULL_DISK = REPOSITORY / "tests" / "children" / "full_disk.py"
# Only Linux lets a user mount a disk that nobody else sees.
PRIVATE_MOUNTS = [shutil.which("unshare") or "", "--user", "--map-root-user", "--mount"]
LONG: dict[str, Any] = {
    "num_epochs": 20,
    "save_steps": 5,
    "log_steps": 1,
    "prefix_cache_gb": 0.0,
}


def has_private_mounts() -> bool:
    if not PRIVATE_MOUNTS[0]:
        return False
    return (
        subprocess.run([*PRIVATE_MOUNTS, "true"], capture_output=True, check=False).returncode == 0
    )


def run_on_full_disk(run: RunDirectory) -> subprocess.CompletedProcess[str]:
    """Run a job on a disk that is full from its first checkpoint on."""
    return subprocess.run(
        [*PRIVATE_MOUNTS, sys.executable, FULL_DISK, run.path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


@pytest.mark.skipif(not has_private_mounts(), reason="mounting a disk of one's own is not allowed")
def test_a_full_disk_fails_the_run_and_leaves_it_whole(
    alone: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    whole = make_run(alone, tiny_model, **LONG)
    assert run_child(whole).returncode == ExitCode.OK
    run = make_run(alone, tiny_model, "20261122-210001-tiny-abcd", **LONG)

    result = run_on_full_disk(run)
    assert result.returncode == ExitCode.DISK_FULL, result.stderr
    failed = events(alone, run)[-1]
    assert (failed["event"], failed["error"]) == ("failed", "DiskFull")
    assert "The disk is full" in failed["reason"]
    assert "Traceback" not in result.stderr

    for folder in checkpoint_folders(run):
        assert (folder / "checkpoint.json").exists()
    checkpoint = newest_checkpoint(run, warn=pytest.fail)
    assert checkpoint is not None
    mx.eval(checkpoint.adapter(), checkpoint.state())
    content = run.metrics.read_bytes()
    assert content.endswith(b"\n")
    assert [orjson.loads(line)["step"] for line in whole_lines(run.metrics)] == list(
        range(content.count(b"\n"))
    )
    for adapter in run.adapters.glob("*.safetensors"):
        mx.eval(mx.load(str(adapter)))

    write_state(run, replace(read_state(run), state=State.QUEUED))
    assert run_child(run).returncode == ExitCode.OK
    assert numbers(run) == numbers(whole)
    adapters = [(one.adapters / "adapters.safetensors").read_bytes() for one in (run, whole)]
    assert adapters[0] == adapters[1]


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_arrays_that_do_not_fit_are_told_as_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "adapters.safetensors"
    path.symlink_to(FULL)
    with pytest.raises(WorkspaceError, match="The disk is full"):
        save_arrays(path, {"a": mx.zeros((100_000,))})
    assert not path.is_symlink()


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    """As a disk that fills up, a size limit takes the beginning of a line and no error."""
    path = tmp_path / "lines"
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from jobs.errors import WorkspaceError\n"
        "from jobs.storage.files import append\n"
        "path = Path(sys.argv[1])\n"
        "append(path, b'x' * 100)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    append(path, b'y' * 100)\n"
        "except WorkspaceError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, path],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert "could not be written" in result.stdout
    assert path.read_bytes() == b"x" * 100 + b"\n"
    append(path, b"z")
    assert list(whole_lines(path)) == [b"x" * 100, b"z"]


def test_the_exit_code_tells_of_a_full_disk_where_no_word_can_be_written(
    alone: Workspace, tiny_model: Path, tmp_path: Path
) -> None:
    run = make_run(alone, tiny_model)
    switch = tmp_path / "disk_is_full"
    switch.write_text("0")
    done = subprocess.run(
        [sys.executable, "-P", STORM, tmp_path, run.path, "--attempt", "1"],
        env={**os.environ, failing_writes.SWITCH: str(switch)},
        check=False,
    )
    assert done.returncode == ExitCode.DISK_FULL
    assert alone.job_log(run.job_id).read_bytes() == b""
    assert not run.summary.exists()


def test_an_error_of_the_system_that_nobody_explained_is_told_as_a_full_disk(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model)
    spec = read_spec(run)
    full = _failure(OSError(errno.EDQUOT, "Disk quota exceeded"), run, spec, 0)
    assert isinstance(full, DiskFull)
    other = OSError(errno.EIO, "Input/output error")
    assert _failure(other, run, spec, 0) is other

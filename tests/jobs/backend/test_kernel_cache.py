"""Libraries that MLX's compiler left: which are torn, and when one may be removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.backend.kernel_cache import Kernels, is_whole
from jobs.backend.mlx import mx
from jobs.paths import Workspace
from tests.helpers.waiting import wait_until

# Its child goes on when it is gone itself, as g++ does where only its parent is killed.
COMPILING = """
import subprocess, sys
from pathlib import Path
from jobs.backend.kernel_cache import Kernels
from jobs.paths import Workspace
kernels = Kernels.of(Workspace(Path(sys.argv[1])))
compiler = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
print(compiler.pid, flush=True)
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace whose temporary folder is this process's, as a daemon's child has it."""
    workspace = Workspace(tmp_path)
    workspace.temporary.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(workspace.temporary))
    return workspace


def library(workspace: Workspace, name: str = "libA.so", content: bytes = b"") -> Path:
    path = workspace.temporary / "mlx" / "0.0" / "cpu" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="ELF files")
def test_a_library_is_whole_or_torn_wherever_it_ends(tmp_path: Path) -> None:
    whole = Path(mx.__file__).read_bytes()
    path = tmp_path / "lib.so"
    path.write_bytes(whole)
    assert is_whole(path)
    for size in (0, 3, 20, 63, 64, 4096, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert not is_whole(path), size
    path.write_bytes(bytes(len(whole)))  # as a power cut may leave it
    assert not is_whole(path)


def test_torn_libraries_are_removed_and_nothing_else(workspace: Workspace) -> None:
    torn = library(workspace)
    whole = library(workspace, "libB.so", Path(mx.__file__).read_bytes())
    source = library(workspace, "A.cpp")
    Kernels.of(workspace).remove_torn()
    assert not torn.exists()
    assert whole.exists()
    assert source.exists()


def test_a_library_that_may_be_in_the_making_is_left_alone(workspace: Workspace) -> None:
    made = library(workspace)
    done = subprocess.run(
        [sys.executable, "-P", "-c", COMPILING, workspace.root],
        stdout=subprocess.PIPE,
        check=True,
    )
    compiler = int(done.stdout)
    kernels = Kernels.of(workspace)
    try:
        kernels.remove_torn()
        assert made.exists()
    finally:
        os.kill(compiler, signal.SIGKILL)

    def removed() -> bool:
        kernels.remove_torn()
        return not made.exists()

    wait_until(removed, "the end of the compiler")


def test_the_library_that_mlx_names_is_removed(workspace: Workspace, tmp_path: Path) -> None:
    named = library(workspace, content=b"looks well")
    other = tmp_path / "libA.so"
    other.touch()
    said = "Could not load C++ shared library {}: file too short"
    kernels = Kernels.of(workspace)
    kernels.remove_named(said.format(other))
    kernels.remove_named("something else")
    assert other.exists()
    assert named.exists()
    kernels.remove_named(said.format(named))
    assert not named.exists()


def test_in_the_shared_temporary_folder_nothing_is_touched(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = library(workspace)
    monkeypatch.delenv("TMPDIR")
    Kernels.of(workspace).remove_torn()
    assert torn.exists()

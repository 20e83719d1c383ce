"""The best adapter of a job, read by processes that end soon after."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.checkpoint import save_arrays
from jobs.errors import ExitCode
from jobs.files import sha256_of
from jobs.mlx import mx
from jobs.paths import Workspace
from jobs.trained import read_adapter
from tests.helpers.past_runs import FIRST

REFUSES = """\
import sys
from pathlib import Path
from jobs.errors import InvalidInput
from jobs.paths import RunDirectory
from jobs.trained import read_adapter
read_adapter(RunDirectory(Path(sys.argv[1])))
sys.exit(InvalidInput("no").exit_code)
"""


def test_a_process_that_refuses_right_after_reading_ends_with_its_own_code(past: Workspace) -> None:
    # A thread of MLX that lets go of a Python object while Python ends would abort the process.
    command = [sys.executable, "-P", "-c", REFUSES, str(past.run(FIRST).path)]
    for _ in range(3):
        together = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
        said = [process.communicate()[1] for process in together]
        assert said == [b""] * 4
        assert {process.returncode for process in together} == {ExitCode.INVALID}


def test_arrays_and_content_are_of_one_moment(
    past: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = past.run(FIRST)
    load: Any = mx.load
    times: list[str] = []

    def load_while_training_goes_on(path: str) -> Any:
        found = load(path)
        mx.eval(found)
        if not times:  # a better adapter takes the place of what was read
            better = Path(path).with_name("better.safetensors")
            save_arrays(better, {name: array + 1 for name, array in found.items()})
            better.replace(path)
        times.append(path)
        return found

    monkeypatch.setattr(mx, "load", load_while_training_goes_on)
    adapter = read_adapter(run)
    monkeypatch.undo()
    assert len(times) == 2
    assert adapter.sha256 == sha256_of(run.adapter_weights)
    now = load(str(run.adapter_weights))
    assert all(mx.array_equal(now[name], array) for name, array in adapter.arrays.items())

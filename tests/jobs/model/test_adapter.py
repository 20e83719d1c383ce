"""The best adapter of a job, read by processes that end soon after."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.backend.mlx import mx
from jobs.errors import ExitCode, ModelError
from jobs.evaluation.ask import Answerer
from jobs.model.adapter import read_adapter
from jobs.model.adapter_fit import AdapterMismatch
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.storage.files import sha256_of
from jobs.training.checkpoint import save_arrays
from tests.helpers.engines import Rig
from tests.helpers.exports import exported
from tests.helpers.past_runs import FIRST

REFUSES = """\
import sys
from pathlib import Path
from jobs.errors import InvalidInput
from jobs.paths import RunDirectory
from jobs.model.adapter import read_adapter
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


def _without_one(arrays: dict[str, mx.array]) -> None:
    del arrays[min(arrays)]


def _with_one_more(arrays: dict[str, mx.array]) -> None:
    arrays["model.layers.0.self_attn.q_proj.lora_a"] = mx.zeros((64, 4))


def _with_another_shape(arrays: dict[str, mx.array]) -> None:
    arrays[min(arrays)] = mx.zeros((64, 5))


DAMAGES: dict[str, tuple[Callable[[dict[str, mx.array]], None], str]] = {
    "one missing": (_without_one, "it lacks model.layers.2.mlp.up_proj.lora_a"),
    "one too many": (_with_one_more, "it has model.layers.0.self_attn.q_proj.lora_a, which"),
    "another shape": (_with_another_shape, r"has the shape \(64, 5\), expected \(64, 4\)"),
}


def _export(workspace: Workspace) -> object:
    return exported(workspace, FIRST)


def _export_for_peft(workspace: Workspace) -> object:
    return exported(workspace, FIRST, peft=True)


def _fuse(workspace: Workspace) -> object:
    return exported(workspace, FIRST, fuse=True)


def _ask(workspace: Workspace) -> object:
    return Answerer(workspace, read_spec(workspace.run(FIRST)))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("use", [_export, _export_for_peft, _fuse, _ask])
def test_whoever_uses_an_adapter_looks_at_its_names_and_shapes_both_ways(
    past: Workspace, use: Callable[[Workspace], object], damage: str
) -> None:
    change, message = DAMAGES[damage]
    path = past.run(FIRST).adapter_weights
    arrays = dict(read_adapter(past.run(FIRST)).arrays)
    change(arrays)
    save_arrays(path, arrays)
    with pytest.raises(ModelError, match=f"does not fit its model and configuration: .*{message}"):
        use(past)
    assert not any(past.output.glob("*")) if past.output.exists() else True


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_is_looked_at_too(tiny_model: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    rig = Rig(tiny_model)
    arrays = dict(rig.engine.adapter)
    before = dict(rig.engine.adapter)
    change(arrays)
    with pytest.raises(AdapterMismatch, match=message):
        rig.engine.restore(arrays, rig.engine.state())
    assert rig.engine.adapter == before

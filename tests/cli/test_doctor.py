"""`farense doctor`."""

from __future__ import annotations

import json
import shutil

import pytest

from cli.commands.doctor import lines
from daemon.doctor.findings import ok, problem
from jobs.backend.device import Device
from jobs.config.config import Preset
from jobs.paths import REPOSITORY, Workspace
from tests.cli.conftest import Run

CPU = Device("CPU, libopenblas.so.0", "cpu", blas="libopenblas.so.0", lanes=2, memory=())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking MLX takes two seconds; one test here does."""
    monkeypatch.setattr("daemon.doctor.doctor.ask_device", lambda useful: CPU)


def test_a_ready_preset(farense: Run, workspace: Workspace, preset: Preset) -> None:
    before = sorted(workspace.root.rglob("*"))
    done = farense("doctor", preset.name)
    assert (done.code, done.err) == (0, "")
    for check in ("packages", "device", "queue", "model", "leakage", "memory", "disk"):
        assert any(line.split()[1:2] == [check] for line in done.out.splitlines()), check
    assert done.out.splitlines()[-1].startswith("Ready to train tiny, with 1 warning")
    assert len(done.out.splitlines()) < 40
    assert sorted(workspace.root.rglob("*")) == before


@pytest.mark.usefixtures("quick")
def test_v2_without_its_model_and_data(invoke: Run, workspace: Workspace) -> None:
    done = invoke("doctor")
    assert (done.code, done.err) == (1, "")
    assert (
        "-> Get it: farense model pull mlx-community/Mistral-7B-Instruct-v0.3-4bit "
        "--as mistral-7b-4bit"
    ) in done.out
    missing = workspace.data / "train_v3_final_complete.jsonl"
    assert f"There is no data file {missing}." in " ".join(done.out.split())
    assert done.out.splitlines()[-1].startswith("v2 cannot be trained yet: 2 problems")


@pytest.mark.usefixtures("quick")
def test_the_quickstart_brings_its_data(invoke: Run, workspace: Workspace) -> None:
    answer = json.loads(invoke("doctor", "quickstart", "--json").out)
    problems = {f["check"]: f["action"] for f in answer["findings"] if f["status"] == "problem"}
    assert problems == {"model": "Get it: farense model pull smollm2-135m"}


@pytest.mark.usefixtures("quick")
def test_json_says_the_same(invoke: Run, workspace: Workspace, preset: Preset) -> None:
    done = invoke("doctor", "tiny", "--json")
    answer = json.loads(done.out)
    assert (done.code, answer["preset"], answer["ready"]) == (0, "tiny", True)
    assert all(set(f) == {"check", "status", "found", "action"} for f in answer["findings"])
    shutil.rmtree(workspace.models / "tiny")
    done = invoke("doctor", "tiny", "--json")
    answer = json.loads(done.out)
    assert (done.code, answer["ready"]) == (1, False)
    assert "problem" in {f["status"] for f in answer["findings"] if f["check"] == "model"}


@pytest.mark.usefixtures("quick")
def test_settings_can_be_changed(invoke: Run, workspace: Workspace, preset: Preset) -> None:
    done = invoke("doctor", preset.name, "--set", "lora.num_layers=9")
    assert done.code == 1
    assert "lora.num_layers is 9" in done.out


def test_an_unknown_preset_is_the_usual_error(invoke: Run) -> None:
    done = invoke("doctor", "v9", home=REPOSITORY)
    assert (done.code, done.out) == (2, "")
    assert "There is no preset 'v9'" in done.err


def test_commands_to_copy_are_not_wrapped() -> None:
    command = "farense model pull " + "x" * 60
    found = list(lines([ok("queue", "a b " * 30), problem("model", "missing", command)], 60))
    assert all(len(line) <= 60 for line in found[:-1])
    assert found[-1].endswith(f"-> {command}")
    coloured = list(lines([ok("queue", "fine")], 60, colour=True))
    assert coloured == ["\x1b[32mok       \x1b[0mqueue      fine"]

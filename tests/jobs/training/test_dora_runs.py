"""DoRA as whole runs: stopped and resumed, with checkpointed blocks, on a CPU and a GPU's way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.backend.backend import backend
from jobs.backend.choice import AS_ACCELERATOR, CPU, VARIABLE
from jobs.backend.mlx import mx
from jobs.errors import ExitCode
from jobs.events import TrainMetrics, Warned
from jobs.paths import Workspace
from jobs.storage.files import read_json, whole_lines
from tests.helpers.attempts import attempt, evict, only, result
from tests.helpers.evaluations import make_evaluation
from tests.helpers.runs import SETTINGS, make_run, metrics, run_child

JOB = "20261122-21000{}-tiny-dora"
DORA = {**SETTINGS["lora"], "kind": "dora"}
SMALL: dict[str, Any] = {"train": 4, "valid": 2, "gap_examples": 2, "save_steps": 2}


@pytest.fixture(params=[CPU, AS_ACCELERATOR])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, request.param)
    backend.cache_clear()
    yield
    backend.cache_clear()


@pytest.mark.usefixtures("_either_way")
def test_stopped_and_resumed_it_ends_the_same(alone: Workspace, tiny_model: Path) -> None:
    whole, broken = (
        make_run(alone, tiny_model, JOB.format(n), **SMALL, lora=DORA) for n in range(2)
    )
    said = attempt(alone, whole)
    assert not only(Warned, said)
    answers = iter([None] * 3)
    attempt(alone, broken, stop=lambda: next(answers, "the test says so"))
    evict(alone)
    attempt(alone, broken)
    assert result(whole) == result(broken)
    config = read_json(whole.adapters / "adapter_config.json")
    assert config["fine_tune_type"] == "dora"


def test_it_learns_and_its_magnitudes_move(alone: Workspace, tiny_model: Path) -> None:
    lora, dora = (
        make_run(alone, tiny_model, JOB.format(n), lora={**SETTINGS["lora"], "kind": kind})
        for n, kind in enumerate(("lora", "dora"))
    )
    for run in (lora, dora):
        attempt(alone, run)
    first, *_, last = [row for row in metrics(dora) if row.get("val_loss") is not None]
    assert last["val_loss"] < first["val_loss"] - 0.1
    # What is measured first is the model itself, to the bit, whatever is to be learned.
    assert first["val_loss"] == metrics(lora)[0]["val_loss"]
    assert last["val_loss"] != metrics(lora)[-1]["val_loss"]
    arrays: Any = mx.load(str(dora.adapter_weights))
    checkpoints = sorted(dora.path.glob("checkpoint_*"))
    earlier: Any = mx.load(str(checkpoints[0] / "adapters.safetensors"))
    magnitudes = [name for name in arrays if name.endswith(".m")]
    assert len(magnitudes) == 4
    for name in magnitudes:
        assert not np.array_equal(np.array(arrays[name]), np.array(earlier[name]))


def test_checkpointed_blocks_give_the_same(alone: Workspace, tiny_model: Path) -> None:
    kept, again = (
        make_run(alone, tiny_model, JOB.format(n), **SMALL, lora=DORA, grad_checkpoint=bool(n))
        for n in range(2)
    )
    losses = [
        [event.loss for event in only(TrainMetrics, attempt(alone, run)) if event.loss is not None]
        for run in (kept, again)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(losses[0]) > 1


def test_an_evaluation_measures_and_asks_it_as_it_was_trained(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model, lora=DORA, num_epochs=4)
    attempt(alone, run)
    done = run_child(make_evaluation(alone, run, "dora"), MLX_DISABLE_COMPILE="1")
    assert done.returncode == ExitCode.OK, done.stderr
    report = read_json(run.evaluation_report)
    best, before = (read_json(run.summary)[f"{which}_val_loss"] for which in ("best", "baseline"))
    assert report["adapter"]["validation_loss"] == pytest.approx(best, abs=1e-5)
    assert report["base"]["validation_loss"] == pytest.approx(before, abs=1e-5)
    assert best < before
    answers = [json.loads(line) for line in whole_lines(run.evaluation / "answers.jsonl")]
    assert any(row["answer"] != row["base_answer"] for row in answers)

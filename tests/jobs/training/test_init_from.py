"""Training that starts from an adapter: of ours, mlx-lm's or PEFT's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.backend.mlx import mx
from jobs.errors import ExitCode, ModelError
from jobs.events import CheckpointSaved, Started
from jobs.model.foreign_adapter import FARENSE
from jobs.paths import RunDirectory, Workspace
from jobs.storage.files import read_json
from tests.helpers.attempts import attempt, only, result
from tests.helpers.exports import exported
from tests.helpers.runs import SETTINGS, make_run, metrics
from tests.helpers.starting import start_from

JOB = "20261122-21000{}-tiny-init"
KINDS = pytest.mark.parametrize("kind", ["lora", "dora"])


def lora(kind: str) -> dict[str, Any]:
    return {**SETTINGS["lora"], "kind": kind}


def trained(workspace: Workspace, model: Path, kind: str = "lora", **settings: Any) -> RunDirectory:
    run = make_run(workspace, model, JOB.format(0), lora=lora(kind), **settings)
    attempt(workspace, run)
    return run


def started_from(
    workspace: Workspace, model: Path, folder: Path, number: int = 1, **settings: Any
) -> RunDirectory:
    run = make_run(workspace, model, JOB.format(number), **{"seed": 7, **settings})
    start_from(workspace, run, folder)
    return run


def first_loss(run: RunDirectory) -> float:
    row = metrics(run)[0]
    assert row["step"] == 0
    loss: float = row["val_loss"]
    return loss


def best_loss(run: RunDirectory) -> float:
    loss: float = read_json(run.summary)["best_val_loss"]
    return loss


@KINDS
def test_before_the_first_step_it_is_the_adapter_to_the_bit(
    alone: Workspace, tiny_model: Path, kind: str
) -> None:
    source = trained(alone, tiny_model, kind)
    run = started_from(alone, tiny_model, source.path, lora=lora(kind))
    (started,) = only(Started, attempt(alone, run))
    assert started.init_from == source.job_id
    assert first_loss(run) == best_loss(source) != first_loss(source)
    assert best_loss(run) < first_loss(run)
    # Another adapter to start from is another loss before training: none is taken for another.
    fresh = make_run(alone, tiny_model, JOB.format(2), lora=lora(kind))
    attempt(alone, fresh)
    assert first_loss(fresh) == first_loss(source)


@KINDS
def test_its_forms_for_others_start_alike(alone: Workspace, tiny_model: Path, kind: str) -> None:
    source = trained(alone, tiny_model, kind)
    written = exported(alone, source.job_id, peft=True)
    folders = [source.adapters, *(Path(written[form].folder) for form in ("adapter", "peft"))]
    for number, folder in enumerate(folders, 1):
        run = started_from(alone, tiny_model, folder, number, lora=lora(kind))
        attempt(alone, run)
        assert first_loss(run) == pytest.approx(best_loss(source), abs=1e-4)


@KINDS
def test_stopped_at_any_step_it_ends_the_same_without_its_source(
    alone: Workspace, tiny_model: Path, kind: str
) -> None:
    source = trained(alone, tiny_model, kind)
    whole, before, inside = (
        started_from(alone, tiny_model, source.path, number, lora=lora(kind))
        for number in (1, 2, 3)
    )
    shutil.rmtree(source.path)
    attempt(alone, whole)
    for run, asked in ((before, 0), (inside, 3)):
        answers = iter([None] * asked)
        attempt(alone, run, stop=stopper(answers))
        attempt(alone, run)
        assert result(run) == result(whole)


def stopper(answers: Any) -> Callable[[], str | None]:
    return lambda: next(answers, "the test says so")


def test_a_rollback_can_go_back_to_it(alone: Workspace, tiny_model: Path) -> None:
    source = trained(alone, tiny_model)
    run = started_from(alone, tiny_model, source.path, on_divergence="rollback")
    kept: list[dict[str, Any]] = []

    def look(event: Any) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 0:
            found: Any = mx.load(str(Path(event.path) / "adapters.safetensors"))
            kept.append({name: np.array(array) for name, array in found.items()})

    attempt(alone, run, on_event=look)
    own: Any = mx.load(str(source.adapter_weights))
    assert len(kept) == 1
    assert all((kept[0][name] == np.array(array)).all() for name, array in own.items())


def test_what_it_started_from_is_told(alone: Workspace, tiny_model: Path) -> None:
    source = trained(alone, tiny_model)
    run = started_from(alone, tiny_model, source.path)
    attempt(alone, run)
    told = read_json(run.summary)["init_from"]
    assert (told["source"], told["job"], told["form"]) == (source.job_id, source.job_id, FARENSE)
    assert read_json(source.summary)["init_from"] is None
    card = (Path(exported(alone, run.job_id)["adapter"].folder) / "README.md").read_text()
    assert f"started from the adapter of job `{source.job_id}`" in card
    assert told["adapter_sha256"] in card
    assert "before training (of the adapter that it started from)" in card


def test_one_that_was_damaged_meanwhile_is_refused(alone: Workspace, tiny_model: Path) -> None:
    source = trained(alone, tiny_model)
    run = started_from(alone, tiny_model, source.path)
    (frozen,) = alone.imported.glob("*.safetensors")
    frozen.chmod(0o600)
    frozen.write_bytes(frozen.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(
        ModelError, match=f"{source.job_id} that this job starts from was"
    ) as caught:
        attempt(alone, run)
    assert caught.value.exit_code == ExitCode.INVALID
    frozen.unlink()
    with pytest.raises(ModelError, match="damaged or removed after the job was queued"):
        attempt(alone, run)

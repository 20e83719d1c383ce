"""`farense compare`: from two names to a decision."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.client import FarenseClient
from daemon.queue.embedded_server import EmbeddedServer
from jobs.config.config import Preset
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.state import JobState, State, write_state
from jobs.storage.files import read_json
from tests.cli.conftest import Run
from tests.helpers.past_runs import FIRST, SECOND
from tests.helpers.runs import SETTINGS, make_run, questions, run_child
from tests.helpers.sides import write_older_run

THIRD = "20261124-210000-third-cccc"


def trained(past: Workspace, tiny_model: Path, code: int = 0, **settings: Any) -> RunDirectory:
    """Return a third run on the validation set of the others."""
    rows = [
        {**row, "metadata": {"tipo": "golos" if number % 3 else "data"}}
        for number, row in enumerate(questions(6, first=100))
    ]
    run = make_run(past, tiny_model, THIRD, **{"valid_rows": rows, **settings})
    assert run_child(run, MLX_DISABLE_COMPILE="1").returncode == code
    return run


def test_two_runs_without_a_queue(invoke: Run, past: Workspace) -> None:
    done = invoke("compare", "first", "second")
    assert done.code == 0, done.err
    assert "The queue of this workspace is not running" in done.err
    assert not EmbeddedServer(past).socket.exists()
    for text in (FIRST, SECOND, "lora.rank", "Best validation loss", "Token F1", "ROUGE-L", "chrF"):
        assert text in done.out
    assert "ANSWERS to 6 questions" in done.out
    summary = read_json(past.run(FIRST).summary)
    assert f"{summary['best_val_loss']:.4f}" in done.out
    report = read_json(past.run(FIRST).evaluation / "evaluation_report.json")
    assert f"not met: {report['token_f1']:.3f}" in done.out
    assert done.out.index("SUCCESS CRITERIA") < done.out.index("DECISION: ")
    assert "\x1b" not in done.out


@pytest.mark.parametrize("width", [60, 80, 100])
def test_it_fits_the_terminal(invoke: Run, past: Workspace, width: int) -> None:
    done = invoke("compare", "first", "second", COLUMNS=str(width))
    assert max(len(line) for line in done.out.splitlines()) <= width


def test_one_object(invoke: Run, past: Workspace) -> None:
    values = json.loads(invoke("compare", "first", "second", "--json").out)
    assert (values["a"]["name"], values["b"]["name"]) == (FIRST, SECOND)
    (f1,) = (score for score in values["scores"] if score["metric"] == "token_f1")
    assert f1["low"] <= f1["difference"] <= f1["high"]
    assert 0 < f1["p"] <= 1
    verdict = "better" if f1["low"] > 0 else "worse" if f1["high"] < 0 else "similar"
    assert values["decision"]["verdict"] == verdict
    assert values["decision"]["basis"] == "token_f1"
    assert len(values["criteria"]) == 6
    assert values["same_validation_set"] is True


def test_the_command_to_train_again_repeats_the_run_but_for_the_changes(
    invoke: Run, past: Workspace
) -> None:
    """What the preset says already is left out; the data are those of the run."""
    worse, better = sorted((FIRST, SECOND), key=lambda job_id: f1_of(past, job_id))
    spec = read_spec(past.run(worse))
    preset = {**SETTINGS, "data": {"train": "data/t.jsonl", "valid": "data/v.jsonl"}}
    shutil.copy(past.root / spec.train.path, past.data / "t.jsonl")
    (past.configs / "tiny.yaml").write_text(yaml.safe_dump(preset))
    values = json.loads(invoke("compare", better, worse, "--json").out)
    assert values["decision"]["action"] == "keep A"
    command = values["train_again"].split()
    assert command[:3] == ["farense", "enqueue", "tiny"]
    assert "data.train" not in values["train_again"]
    assert spec.valid is not None
    assert f"data.valid={spec.valid.path}" in command

    shown = json.loads(invoke("config", "show", "tiny", *command[3:], "--json").out)["config"]
    changes = {c["setting"]: c["to"] for finding in values["advice"] for c in finding["changes"]}
    assert changes
    for dotted, to in changes.items():
        group, _, key = dotted.rpartition(".")
        assert (shown[group] if group else shown)[key] == to
    kept = set(spec.config) - {"lora", "data"} - set(changes)
    assert {key: shown[key] for key in kept} == {key: spec.config[key] for key in kept}


def f1_of(past: Workspace, job_id: str) -> float:
    return float(read_json(past.run(job_id).evaluation / "evaluation_report.json")["token_f1"])


@pytest.mark.parametrize("bare", [True, False])
def test_a_folder_of_an_older_run(invoke: Run, past: Workspace, bare: bool) -> None:
    """Relative to where the command is typed; a bare name is one where no job is called so."""
    rows = '[{"step": 6, "loss": 0.5, "val_loss": 9.5}, {"step": 12, "loss": 0.1, "val_loss": NaN}]'
    write_older_run(past.root / "v1_backup", rows)
    done = invoke("compare", "v1_backup" if bare else "./v1_backup/", "second")
    assert done.code == 0, done.err
    assert "A  v1_backup  (not made by farense, 12 steps)" in done.out
    assert "SETTINGS of A are not known" in done.out
    assert "The validation set of A is not known" in done.out
    assert "A: job.json is not there" in done.out
    assert "The gap of A is rough" in done.out
    assert "DECISION: use B (B is better)" in done.out


def test_what_cannot_be_compared_is_refused(invoke: Run, past: Workspace, tiny_model: Path) -> None:
    make_run(past, tiny_model, THIRD, valid=4)
    (past.root / "empty").mkdir()
    refusals = {
        ("first", "third"): "validated on different data",
        ("first", "first"): "A and B are the same run",
        ("first", "nobody"): "There is no job 'nobody'",
        ("first", "./nobody"): "There is no folder ./nobody",
        ("first", "2026"): "names 5 jobs",
        ("first", "./empty"): "does not look like a run",
    }
    for arguments, message in refusals.items():
        done = invoke("compare", *arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert message in done.err
    done = invoke("compare", "first", "third")
    assert f"A {FIRST}: 6.jsonl" in done.err
    assert f"B {THIRD}: 4.jsonl" in done.err


def test_an_evaluation_stands_for_what_it_evaluates(invoke: Run, past: Workspace) -> None:
    done = invoke("compare", "first", "eval_tiny-bbbb", "--json")
    assert json.loads(done.out)["b"]["name"] == SECOND
    assert f"evaluates {SECOND}: that one is taken" in done.err


def test_a_run_that_failed(invoke: Run, past: Workspace, tiny_model: Path) -> None:
    lora = {**SETTINGS["lora"], "scale": 1e30}
    run = trained(past, tiny_model, code=4, learning_rate=1.0, lora=lora)
    done = invoke("compare", "first", "third")
    assert done.code == 0, done.err
    assert "NaN or infinite at step" in done.out
    assert "not met: failed: diverged" in done.out
    assert "DECISION: keep A (B is worse)" in done.out
    assert "B has no adapter: it failed." in done.out
    assert "--set learning_rate=0.5   (was 1)" in done.out
    # The same with a NaN among its losses, and with the words of the daemon.
    write_state(run, JobState(State.FAILED, failure="disk_full", reason="The disk is full."))
    values = json.loads(invoke("compare", "first", "third", "--json").out)
    assert values["b"]["failure"] == "disk_full"
    with run.metrics.open("ab") as file:
        file.write(b'{"step": 3, "loss": "NaN", "val_loss": "NaN"}\n')
    values = json.loads(invoke("compare", "first", "third", "--json").out)
    assert values["b"]["curve"]["not_finite"] == 3
    assert values["b"]["curve"]["best_val_loss"] is None
    assert math.isnan(float(values["b"]["curve"]["last_val_loss"]))
    assert "DECISION: keep A" in invoke("compare", "first", "third").out


def test_a_run_with_one_validation(invoke: Run, past: Workspace, tiny_model: Path) -> None:
    trained(past, tiny_model, eval_steps=100)
    done = invoke("compare", "first", "third")
    assert done.code == 0, done.err
    assert "1 validation cannot show where the best step was" in done.out
    assert "(farense evaluate" in done.out
    assert "--set eval_steps=1   (was 100)" in done.out


def test_a_run_without_validations(invoke: Run, past: Workspace, tiny_model: Path) -> None:
    trained(past, tiny_model, valid_rows=None, valid=None)
    done = invoke("compare", "first", "third")
    assert done.code == 0, done.err
    assert "B has no validation set." in done.out
    assert "DECISION: none" in done.out
    assert "--set data.valid=data/imported/" in done.out
    assert "farense evaluate" not in done.out
    back = invoke("compare", "third", "first")
    assert "DECISION: none" in back.out
    text = " ".join(back.out.split())
    assert "A has no validation set, so it cannot be evaluated" in text
    assert "train it anew with --set data.valid=data/imported/" in text
    assert "farense evaluate" not in text
    # It is not B that lacks anything.
    assert "WHAT TO CHANGE IN B" not in text


def test_jobs_in_the_queue(invoke: Run, client: FarenseClient, preset: Preset) -> None:
    """What has not begun has no figures; nothing breaks, and nothing is decided."""
    first, second = client.enqueue(preset), client.enqueue(preset)
    done = invoke("compare", first.id, "latest")
    assert done.code == 0, done.err
    assert done.err == ""
    assert f"B  {second.id}  (preset tiny, queued)" in done.out
    assert "SETTINGS are the same" in done.out
    assert "DECISION: none" in done.out
    shutil.rmtree(client.workspace.run(second.id).path)
    gone = invoke("compare", first.id, second.id)
    assert gone.code == 2
    assert "are not in this workspace" in gone.err

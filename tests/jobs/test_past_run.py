"""Reading what a run left, whole or not."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import orjson
import pytest

from jobs.errors import InvalidInput
from jobs.past_run import read_run
from jobs.paths import Workspace
from tests.helpers.past_runs import FIRST


def test_a_run_of_farense_is_read_whole(past: Workspace) -> None:
    run = read_run(past.run(FIRST).path)
    assert run.spec is not None
    assert run.name == run.spec.id == FIRST
    assert run.missing == ()
    assert run.config["learning_rate"] == run.spec.config["learning_rate"]
    assert run.validations[0]["step"] == 0
    assert run.summary["best_val_loss"] == min(row["val_loss"] for row in run.validations)
    assert run.report is not None
    assert run.report["questions"] == len(run.answers) == 6


def test_a_run_that_was_not_evaluated(past: Workspace) -> None:
    shutil.rmtree(past.run(FIRST).evaluation)
    run = read_run(past.run(FIRST).path)
    assert (run.report, run.answers) == (None, ())
    assert run.missing == (
        "evaluation/evaluation_report.json is not there",
        "evaluation/answers.jsonl is not there",
    )


def test_a_folder_of_an_older_run_has_rows_alone(tmp_path: Path) -> None:
    (tmp_path / "training_metrics.json").write_text('[{"step": 1, "loss": NaN, "val_loss": 2.5}]')
    run = read_run(tmp_path)
    assert run.spec is None
    assert run.config == {}
    assert math.isnan(run.rows[0]["loss"])
    assert [row["val_loss"] for row in run.validations] == [2.5]
    assert "job.json is not there" in run.missing
    assert "training_summary.json is not there" in run.missing


def test_what_is_damaged_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "training_metrics.jsonl").write_bytes(b'{"step": 1, "loss": "Infinity"}\n{"st')
    (tmp_path / "training_summary.json").write_bytes(b"[1]")
    (tmp_path / "job.json").write_bytes(orjson.dumps({"id": 3}))
    run = read_run(tmp_path)
    assert run.rows == ({"step": 1, "loss": math.inf},)
    told = "\n".join(run.missing)
    assert "training_summary.json cannot be read: it is no object" in told
    assert "job.json" in told


def test_a_record_with_a_bad_line_gives_way_to_the_list(past: Workspace) -> None:
    run = past.run(FIRST)
    whole = read_run(run.path).rows
    with run.metrics.open("ab") as file:
        file.write(b"garbage\n")
    found = read_run(run.path)
    assert found.rows == whole
    assert found.missing[0].startswith("training_metrics.jsonl cannot be read")


def test_a_backup_under_another_name_is_the_same_run(past: Workspace) -> None:
    backup = past.root / "checkpoints_qlora_v1_backup"
    shutil.copytree(past.run(FIRST).path, backup)
    found = read_run(backup)
    assert (found.name, found.missing) == (backup.name, ())
    assert found.spec is not None
    assert found.spec.id == FIRST


def test_a_folder_without_a_run_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not look like a run"):
        read_run(tmp_path)
    with pytest.raises(InvalidInput, match="There is no folder"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "training_metrics.json").write_text('{"no": "list"}')
    with pytest.raises(InvalidInput, match="it is no list of rows"):
        read_run(tmp_path)

"""`data.valid: 10%`: a share of the training file, chosen once when a job is accepted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon.lifecycle.transitions import place
from daemon.submit.checks import SubmitChecks
from daemon.submit.placing import place_job, plan
from daemon.submit.retry import changed_request, place_again
from daemon.sweep.start import begin_sweep
from jobs.config.config import Preset, load_preset
from jobs.data.examples import read_examples
from jobs.errors import ConfigError, DataError
from jobs.paths import Workspace
from jobs.spec import JobSpec
from jobs.state import JobState, State
from jobs.storage.files import read_json
from jobs.training.session import train
from tests.helpers.data_forms import write_form
from tests.helpers.runs import questions, write_rows

SWEEP = """
preset: tiny
set: {data.valid: 20%}
space: {learning_rate: [1e-3, 2e-3]}
sampler: grid
seeds_per_trial: 2
"""


@pytest.fixture
def data(workspace: Workspace) -> Path:
    return write_rows(workspace.data / "train.jsonl", [{**it, "metadata": {"tipo": "v"}}
                      for it in questions(40)])  # fmt: skip


def shared(workspace: Workspace, *settings: str, valid: str = "20%") -> Preset:
    return load_preset("tiny", (workspace.configs,), (f"data.valid={valid}", *settings))


def rows_of(workspace: Workspace, spec: JobSpec) -> tuple[list[Any], list[Any]]:
    assert spec.valid is not None
    return tuple(  # type: ignore[return-value]
        read_examples(workspace.inside(file.path)) for file in (spec.train, spec.valid)
    )


def end(workspace: Workspace, spec: JobSpec) -> None:
    place(workspace, [(spec, JobState(State.CANCELLED))])


def test_a_job_gets_two_files_that_say_what_they_are(
    workspace: Workspace, preset: Preset, data: Path
) -> None:
    assert plan(shared(workspace), workspace).examples == 32
    spec, _ = place_job(shared(workspace), workspace)
    assert spec.valid is not None
    assert (spec.train.source, spec.train.examples) == ("80% of train.jsonl", 32)
    assert (spec.valid.source, spec.valid.examples) == ("20% of train.jsonl", 8)
    assert spec.config["data"] == {"train": spec.train.path, "valid": spec.valid.path}
    trained, held = rows_of(workspace, spec)
    lines = sorted(row.origin.line for row in (*trained, *held))
    assert lines == list(range(1, 41))
    # Each has the number of its line in the file of its owner.
    whole = data.read_text().splitlines()
    for row in (*trained, *held):
        assert json.loads(whole[row.origin.line - 1])["completion"] == row.completion
    assert list(workspace.temporary.glob("split-*")) == []


def test_a_retry_and_another_machine_have_the_same_split(
    workspace: Workspace, preset: Preset, data: Path, tmp_path: Path
) -> None:
    first, _ = place_job(shared(workspace), workspace)
    end(workspace, first)
    write_rows(data, questions(60))
    again, _ = place_again(first.id, workspace, SubmitChecks(workspace))
    assert (again.train, again.valid) == (first.train, first.valid)
    changed = changed_request(first.id, workspace, ["learning_rate=1e-4"])
    assert changed.preset.config.data.valid == first.config["data"]["valid"]
    write_rows(data, [{**it, "metadata": {"tipo": "v"}} for it in questions(40)])
    other = tmp_path / "elsewhere" / "train.jsonl"
    write_rows(other, [json.loads(line) for line in data.read_text().splitlines()])
    second, _ = place_job(shared(workspace, f"data.train={other}"), workspace)
    assert second.valid == first.valid
    third, _ = place_job(shared(workspace, "seed=7"), workspace)
    assert third.valid != first.valid


def test_such_a_job_trains_and_validates(workspace: Workspace, preset: Preset, data: Path) -> None:
    spec, _ = place_job(shared(workspace, "eval_steps=6", "max_steps=6"), workspace)
    said: list[Any] = []
    assert train(workspace, spec, said.append, lambda: None) is not None
    started = next(event for event in said if event.kind == "started")
    assert (started.train_examples, started.valid_examples) == (32, 8)
    assert started.valid_data == "20% of train.jsonl"
    told = read_json(workspace.run(spec.id).summary)["data"]["valid"]
    assert (told["source"], told["examples"]) == ("20% of train.jsonl", 8)


def test_a_job_on_another_form_is_told_what_to_type(workspace: Workspace, preset: Preset) -> None:
    file = write_form("array of Alpaca", workspace.data)
    with pytest.raises(DataError, match="one JSON array of Alpaca rows") as found:
        place_job(load_preset("tiny", (workspace.configs,), (f"data.train={file}",)), workspace)
    assert found.value.hint == f"Import it: farense data import {file}"


def test_all_trials_of_a_sweep_have_one_split(
    workspace: Workspace, preset: Preset, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    begun = begin_sweep(file, workspace, (workspace.configs,))
    spec, _ = place_job(shared(workspace), workspace)
    assert spec.valid is not None
    assert begun.spec.base.data.valid == spec.valid.path
    assert begun.schedule.examples == 32
    file.write_text(SWEEP.replace("learning_rate: [1e-3, 2e-3]", "data.train: [a.jsonl, b.jsonl]"))
    with pytest.raises(ConfigError, match="each file would be validated on a part of its own"):
        begin_sweep(file, workspace, (workspace.configs,))


@pytest.mark.parametrize("valid", ["0%", "60%", "100%", "1.2.3%"])
def test_a_share_that_cannot_be_is_a_fault_of_the_config(
    workspace: Workspace, preset: Preset, valid: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{valid} is no share for validation") as found:
        shared(workspace, valid=valid)
    assert found.value.exit_code == 2


def test_too_few_examples_are_refused_at_once(workspace: Workspace, preset: Preset) -> None:
    write_rows(workspace.data / "train.jsonl", questions(2))
    with pytest.raises(DataError, match="20% of 2 examples would leave none") as found:
        place_job(shared(workspace), workspace)
    assert str(workspace.data / "train.jsonl") in found.value.message
    assert found.value.exit_code == 2
    assert list(workspace.runs.iterdir()) == []


def test_faults_and_remarks_name_the_file_of_the_owner(
    workspace: Workspace, preset: Preset, data: Path
) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows: list[Mapping[str, Any]] = [*questions(20), {"messages": [*turns, *turns]}]
    write_rows(data, rows)
    checks = SubmitChecks(workspace)
    for way in (
        lambda: place_job(shared(workspace), workspace),
        lambda: checks.look(shared(workspace).config),
    ):
        with pytest.raises(DataError) as found:
            way()
        assert f"{data}, line 21: expected one user" in found.value.message
    write_rows(data, [{"prompt": "a", "completion": "b " * 300}, *questions(20)])
    config = shared(workspace, "max_seq_length=64").config
    from daemon.submit.checks import Wanted

    ((said, *_),) = SubmitChecks(workspace).check([Wanted(config)])
    assert str(data) in said
    assert "split-" not in said

"""`farense evaluate` and `enqueue --evaluate`: from the command to the scores."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from daemon.client import FarenseClient
from daemon.file_client import FileClient
from jobs.config.config import Preset
from jobs.paths import RunDirectory, Workspace
from jobs.state import State, read_state, write_state
from jobs.storage.files import read_json
from tests.cli.conftest import Run
from tests.helpers.made_up_adapter import put_made_up_adapter
from tests.helpers.runs import write_rows
from tests.helpers.servers import Daemons

pytestmark = pytest.mark.usefixtures("preset")

REAL = (sys.executable, "-P", "-m", "jobs")


def ended(client: FarenseClient, preset: Preset, state: State = State.COMPLETED) -> RunDirectory:
    """Return the run of a job that has ended, with an adapter that nobody has trained."""
    run = client.workspace.run(client.enqueue(preset).id)
    client.cancel(run.job_id)
    old = read_state(run)
    write_state(run, type(old)(state, attempt=1))
    put_made_up_adapter(run)
    return run


def test_a_job_is_evaluated_once_it_has_ended_well(
    invoke: Run, client: FarenseClient, daemons: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    daemons.start(child=REAL)
    done = invoke("enqueue", "tiny", "--evaluate", "--watch")
    assert done.code == 0, done.err
    evaluation, training = client.jobs()
    assert f"Waiting {evaluation.id}: starts after {training.id}" in done.out
    assert f"EVALUATION of {training.id}: 4 questions" in done.out
    assert [job.state for job in (evaluation, training)] == [State.COMPLETED] * 2

    folder = client.workspace.run(training.id).evaluation
    report = read_json(folder / "evaluation_report.json")
    values = json.loads(invoke("status", evaluation.id, "--json").out)
    assert values["token_f1"] == report["token_f1"]
    assert (values["kind"], values["step"], values["total_steps"]) == ("evaluate", 8, 8)
    assert values["val_loss"] == report["validation_loss"] == training.best_val_loss
    details = invoke("status", evaluation.id).out
    assert f"Evaluates      {training.id}" in details
    assert "Answers        8/8" in details
    assert "evaluate tiny" in invoke("status").out

    # An evaluation has no adapter: the newest job is still the one that was trained.
    assert json.loads(invoke("status", "latest", "--json").out)["id"] == training.id
    link = client.workspace.runs / "latest"
    assert link.readlink().name == training.id


def test_a_job_that_waits_is_evaluated_later(
    invoke: Run, client: FarenseClient, preset: Preset
) -> None:
    training = client.enqueue(preset)
    done = invoke("evaluate", "latest", "--json", "--max-new-tokens", "9", "--ignore-accents")
    assert done.code == 0, done.err
    assert "Start one: farense daemon" in done.err
    values = json.loads(done.out)
    assert (values["state"], values["after"]) == ("waiting", training.id)
    spec = read_json(client.workspace.run(values["id"]).job)
    assert spec["evaluation"] == {
        "job": training.id,
        "max_new_tokens": 9,
        "batch_size": 16,
        "ignore_accents": True,
    }
    again = invoke("evaluate", values["id"])
    assert again.code == 2
    assert f"It evaluates {training.id}" in again.err


@pytest.mark.parametrize(
    ("arguments", "after_any"),
    [
        (("enqueue", "tiny", "--evaluate"), False),
        (("enqueue", "tiny", "--evaluate-any"), True),
        (("enqueue", "tiny", "--evaluate", "--evaluate-any"), True),
    ],
)
def test_an_evaluation_follows_a_run_that_has_not_learned_only_where_that_is_asked(
    invoke: Run, client: FarenseClient, preset: Preset, arguments: tuple[str, ...], after_any: bool
) -> None:
    assert preset.name == "tiny"
    values = json.loads(invoke(*arguments, "--json").out)
    evaluation = client.job(values["evaluation"])
    assert (evaluation.after, evaluation.after_any) == (values["id"], after_any)
    later = json.loads(invoke("evaluate", values["id"], "--after-any", "--json").out)
    assert (later["after"], later["after_any"]) == (values["id"], True)


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
def test_a_job_with_an_adapter_is_evaluated_however_it_ended(
    invoke: Run, client: FarenseClient, preset: Preset, state: State
) -> None:
    run = ended(client, preset, state)
    assert json.loads(invoke("evaluate", run.job_id, "--json").out)["state"] == "queued"


def lose_adapter(workspace: Workspace, run: RunDirectory) -> None:
    shutil.rmtree(run.adapters)


def lose_model(workspace: Workspace, run: RunDirectory) -> None:
    shutil.rmtree(workspace.models / "tiny")


def change_model(workspace: Workspace, run: RunDirectory) -> None:
    config = workspace.models / "tiny" / "config.json"
    config.write_text(config.read_text().replace("10000.0", "20000.0"))


def lose_data(workspace: Workspace, run: RunDirectory) -> None:
    shutil.rmtree(workspace.imported)


def lose_files(workspace: Workspace, run: RunDirectory) -> None:
    shutil.rmtree(run.path)


@pytest.mark.parametrize(
    ("lose", "message"),
    [
        (lose_adapter, "has no adapter: it is completed"),
        (lose_model, "There is no model folder"),
        (change_model, "has changed since"),
        (lose_data, "are gone"),
        (lose_files, "are not in this workspace"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_queued(
    invoke: Run, client: FarenseClient, preset: Preset, lose: object, message: str
) -> None:
    run = ended(client, preset)
    assert callable(lose)
    lose(client.workspace, run)
    done = invoke("evaluate", run.job_id)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(client.jobs()) == 1


@pytest.mark.parametrize("numbers", [("--batch-size", "0"), ("--max-new-tokens", "5000")])
def test_numbers_that_make_no_sense_are_refused(
    invoke: Run, client: FarenseClient, preset: Preset, numbers: tuple[str, str]
) -> None:
    run = ended(client, preset)
    done = invoke("evaluate", run.job_id, *numbers)
    assert (done.code, done.out) == (2, "")
    assert f"Invalid value for '{numbers[0]}': {numbers[1]} is not in the range" in done.err


def test_without_questions_nothing_is_queued(
    invoke: Run, client: FarenseClient, preset: Preset
) -> None:
    no_set = ("--set", "data.valid=null")
    job_id = json.loads(invoke("enqueue", "tiny", *no_set, "--json").out)["id"]
    for arguments in (("enqueue", "tiny", *no_set, "--evaluate"), ("evaluate", job_id)):
        done = invoke(*arguments)
        assert (done.code, done.out) == (2, "")
        assert "--set data.valid=data/valid.jsonl" in done.err
    write_rows(client.workspace.data / "texts.jsonl", [{"text": "O Farense joga em Faro."}])
    texts = ("--set", "data.valid=data/texts.jsonl")
    done = invoke("enqueue", "tiny", *texts, "--evaluate")
    assert (done.code, done.out) == (2, "")
    assert "no questions" in done.err
    assert len(client.jobs()) == 1


def test_an_evaluation_is_retried_as_one(
    invoke: Run, client: FarenseClient, preset: Preset
) -> None:
    run = ended(client, preset)
    first = client.evaluate(run.job_id)
    client.cancel(first.id)
    again = client.retry(first.id)
    assert (again.kind, again.evaluates) == ("evaluate", run.job_id)
    assert "-eval_tiny-" in again.id
    link = client.workspace.runs / "latest"
    assert link.readlink().name == run.job_id
    link.unlink()
    assert client.job("latest").id == FileClient(client.workspace).job("latest").id == run.job_id
    # The job that an unfinished evaluation needs stays, however many are pruned.
    pruned = invoke("prune", "--keep", "0", "--yes")
    assert pruned.code == 0, pruned.err
    assert run.path.exists()
    assert not client.workspace.run(first.id).path.exists()

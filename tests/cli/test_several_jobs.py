"""`cancel`, `pause`, `resume`, `start` and `retry` of several jobs, and `retry --set`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from daemon.client import FarenseClient
from jobs.config.config import Preset
from jobs.errors import InvalidInput
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import State, read_state
from tests.cli.conftest import Run
from tests.helpers.jobs import ended
from tests.helpers.servers import Daemons

LATER = timedelta(hours=8)


@pytest.fixture
def later(client: FarenseClient, preset: Preset) -> Callable[[], str]:
    """A function that enqueues a job for tonight and returns its id."""
    return lambda: client.enqueue(preset, schedule=datetime.now(UTC) + LATER).id


def test_each_job_is_answered_on_a_line_of_its_own(
    invoke: Run, client: FarenseClient, preset: Preset
) -> None:
    first, second = client.enqueue(preset).id, client.enqueue(preset).id
    done = invoke("pause", first, second, first)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"Paused {first}.\nPaused {second}.\n"
    done = invoke("resume", second, first, "--json")
    assert done.code == 0
    assert [(job["id"], job["state"]) for job in json.loads(done.out)] == [
        (second, "queued"), (first, "queued")
    ]  # fmt: skip
    done = invoke("cancel", first, second)
    assert (done.code, done.out) == (0, f"Cancelled {first}.\nCancelled {second}.\n")
    assert {client.job(job).state for job in (first, second)} == {State.CANCELLED}


def test_one_that_cannot_be_changed_keeps_none_of_the_others(
    invoke: Run, client: FarenseClient, preset: Preset
) -> None:
    first, second = client.enqueue(preset).id, client.enqueue(preset).id
    done = invoke("cancel", "nobody", second)
    assert (done.code, done.out) == (2, f"Cancelled {second}.\n")
    assert "Error: There is no job 'nobody'." in done.err
    done = invoke("pause", first, second, "--json")
    assert done.code == 2
    paused, refused = json.loads(done.out)
    assert (paused["id"], paused["state"]) == (first, "paused")
    assert refused == {
        "job": second,
        "error": f"{second} is cancelled already.",
        "hint": f"Queue it once more: farense retry {second}",
    }
    assert f"Error: {second} is cancelled already." in done.err


def test_latest_means_what_it_meant_when_it_was_typed(
    invoke: Run, client: FarenseClient, preset: Preset
) -> None:
    first, second = client.enqueue(preset).id, client.enqueue(preset).id
    invoke("cancel", first, second)
    done = invoke("retry", first, "latest", "--json")
    assert done.code == 0
    assert len(json.loads(done.out)) == 2
    assert len(client.jobs(all=True)) == 4


def test_jobs_that_wait_are_started_now(
    invoke: Run,
    client: FarenseClient,
    preset: Preset,
    later: Callable[[], str],
    workspace: Workspace,
) -> None:
    scheduled, paused = later(), later()
    waiting = client.enqueue(preset, after=scheduled).id
    invoke("pause", paused)
    done = invoke("start", scheduled, waiting, paused)
    assert done.code == 0
    assert done.out.splitlines() == [
        f"{scheduled} is queued now, number 1 of 1.",
        f"{waiting} is queued now, number 2 of 2.",
        f"{paused} is queued now, number 2 of 3.",
    ]
    assert done.err == "No daemon works on this queue. Start one: farense daemon\n"
    for job in (scheduled, waiting, paused):
        state = read_state(workspace.run(job))
        assert (state.state, state.schedule, state.after) == (State.QUEUED, None, None)
        record = client.job(job)
        assert (record.state, record.schedule, record.after) == (State.QUEUED, None, None)
    assert invoke("start", waiting).out == f"{waiting} is queued already, number 3 of 3.\n"


def test_what_cannot_be_started_is_refused(
    invoke: Run, client: FarenseClient, later: Callable[[], str]
) -> None:
    job = later()
    evaluation = client.evaluate(job).id
    done = invoke("start", evaluation)
    assert (done.code, done.out) == (2, "")
    assert f"{evaluation} evaluates {job}, which is scheduled." in done.err
    done = invoke("resume", job)
    assert done.code == 2
    assert f"farense start {job}" in done.err
    invoke("cancel", job)
    done = invoke("start", job)
    assert done.code == 2
    assert f"farense retry {job}" in done.err


def test_a_started_job_runs_before_its_time(
    client: FarenseClient, later: Callable[[], str], daemons: Daemons
) -> None:
    job = later()
    daemons.start()
    client.start(job)
    assert ended(client, job).state is State.COMPLETED


def test_a_job_is_retried_with_other_settings(
    invoke: Run, client: FarenseClient, preset: Preset, workspace: Workspace
) -> None:
    job = client.enqueue(preset, name="slower").id
    before = workspace.run(job).job.read_bytes()
    client.cancel(job)
    # What was frozen counts, not what stands in the files now.
    (workspace.data / "train.jsonl").write_text("changed since\n")
    done = invoke("retry", job, "--set", "lora.rank=2", "--set", "num_epochs=1")
    assert done.code == 0
    new = client.jobs()[0].id
    assert done.out == f"Queued {new}: {job} with lora.rank=2, num_epochs=1\n"
    old, spec = read_spec(workspace.run(job)), read_spec(workspace.run(new))
    lora = {**old.config["lora"], "rank": 2}
    assert spec.config == {**old.config, "num_epochs": 1, "lora": lora}
    assert (spec.train, spec.valid) == (old.train, old.valid)
    assert spec.train.source == "train.jsonl"
    assert spec.total_steps == old.total_steps // 2
    assert (spec.made_from, spec.preset, spec.name) == ([job], old.preset, None)
    assert workspace.run(job).job.read_bytes() == before
    client.cancel(new)
    third = client.retry(new, overrides=("lora.rank=3",))
    assert read_spec(workspace.run(third.id)).made_from == [new, job]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "lora.rnk=2"], "Did you mean lora.rank?"),
        (["--set", "lora.rank=0"], "lora.rank: input should be greater than or equal to 1"),
        (["--set", "model=models/none"], "There is no model folder"),
        (["--set", "lora.keys=[nothing]"], "nothing"),
        (
            ["--set", "seed=1", "--from-checkpoint"],
            "--from-checkpoint cannot be combined",
        ),
        (["--set", "seed=1", "--anywhere"], "--set and --anywhere cannot be combined"),
        (
            ["--from-checkpoint", "--anywhere"],
            "--anywhere cannot be combined",
        ),
    ],
)
def test_settings_that_a_retry_cannot_have(
    invoke: Run, client: FarenseClient, preset: Preset, options: list[str], said: str
) -> None:
    job = client.enqueue(preset).id
    client.cancel(job)
    done = invoke("retry", job, *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(client.jobs(all=True)) == 1


def test_only_a_training_that_has_ended_has_settings_to_change(
    invoke: Run, client: FarenseClient, preset: Preset
) -> None:
    job = client.enqueue(preset).id
    evaluation = client.evaluate(job).id
    done = invoke("retry", job, "--set", "seed=1")
    assert done.code == 2
    assert "only a job that has ended can be retried" in done.err
    client.cancel(evaluation)
    with pytest.raises(InvalidInput, match="an evaluation, which has no settings of its own"):
        client.retry(evaluation, overrides=("seed=1",))


def test_a_retried_job_stands_on_the_queue_of_the_old_one(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    with FarenseClient.connect(workspace, queue="night") as night:
        job = night.enqueue(preset)
        night.cancel(job.id)
        assert [night.retry(job.id, overrides=changes).queue for changes in ((), ("seed=1",))] == [
            "night", "night"
        ]  # fmt: skip

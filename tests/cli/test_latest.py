"""`latest` is the newest training job that ran; to a command, the newest that it can use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from daemon import latest
from daemon.client import FarenseClient
from daemon.file_client import FileClient
from daemon.latest import Use
from daemon.queue.broker import Broker
from daemon.settings import Settings
from jobs.errors import UnknownJob
from jobs.paths import Workspace
from jobs.spec import DataFile, EvaluationSpec, read_spec
from jobs.state import State
from jobs.verdict import NOT_LEARNED
from tests.cli.conftest import Run
from tests.helpers.ended import job_id, put_adapter, put_job, record_of
from tests.helpers.specs import write_spec

COMPLETED, PAUSED, CANCELLED, QUEUED, EVALUATION = 1, 2, 3, 4, 5


@pytest.fixture
def broker(workspace: Workspace, client: FarenseClient) -> Iterator[Broker]:
    broker = Broker(workspace, Settings())
    yield broker
    broker.close()


@pytest.fixture
def jobs(workspace: Workspace, broker: Broker) -> None:
    """One job of each kind, the newest last; those that were cancelled and wait have not run."""
    run = put_job(workspace, COMPLETED, days_ago=9)
    put_adapter(run)
    write_spec(run, replace(read_spec(run), valid=DataFile("data/v.jsonl", "0", 1, "v.jsonl")))
    put_job(workspace, PAUSED, State.PAUSED, days_ago=8)
    put_job(workspace, CANCELLED, State.CANCELLED, days_ago=7, attempt=0)
    put_job(workspace, QUEUED, State.QUEUED, days_ago=6, attempt=0)
    evaluation = put_job(workspace, EVALUATION, days_ago=5)
    spec = replace(
        read_spec(evaluation), kind="evaluate", evaluation=EvaluationSpec(job_id(COMPLETED))
    )
    write_spec(evaluation, spec)
    for number in range(COMPLETED, EVALUATION + 1):
        broker.store.restore(record_of(workspace, number))


@pytest.mark.usefixtures("jobs")
@pytest.mark.parametrize(
    ("use", "number"),
    [
        (latest.RAN, PAUSED),
        (latest.LEFT, PAUSED),
        (latest.SPEAKS, QUEUED),
        (latest.NEWEST, QUEUED),
        (latest.ADAPTER, COMPLETED),
        (latest.EVALUATED, COMPLETED),
        (latest.CHECKPOINT, COMPLETED),
        (latest.FINISHED, CANCELLED),
        (latest.UNFINISHED, QUEUED),
        (latest.WAITS, QUEUED),
        (latest.TO_PAUSE, QUEUED),
        (latest.PAUSED, PAUSED),
        (latest.FOLLOWED, QUEUED),
    ],
)
def test_each_use_takes_the_newest_training_that_will_do(
    workspace: Workspace, client: FarenseClient, use: Use, number: int
) -> None:
    for reader in (client, FileClient(workspace)):
        found = reader.latest(use)
        assert (found.job.id, found.newest.id) == (job_id(number), job_id(QUEUED))
        assert (found.remark is None) == (number == QUEUED)
        assert reader.job("latest", use).id == job_id(number)


def test_a_good_job_is_found_behind_any_number_of_others(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    put_job(workspace, 1, days_ago=50)
    for number in range(2, 30):
        put_job(workspace, number, State.CANCELLED, days_ago=40 - number, attempt=0)
    for number in range(1, 30):
        broker.store.restore(record_of(workspace, number))
    for reader in (client, FileClient(workspace)):
        assert reader.job("latest").id == job_id(1)
        assert reader.latest().newest.id == job_id(29)


def test_where_nothing_will_do_it_is_the_newest_and_nothing_is_said(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    for reader in (client, FileClient(workspace)):
        with pytest.raises(UnknownJob, match="There are no jobs yet"):
            reader.job("latest")
    for number, days in ((1, 4), (2, 3)):
        put_job(workspace, number, State.QUEUED, days_ago=days, attempt=0)
        broker.store.restore(record_of(workspace, number))
    for reader in (client, FileClient(workspace)):
        found = reader.latest(latest.ADAPTER)
        assert (found.job.id, found.remark) == (job_id(2), None)


def test_another_job_does_not_wait_for_one_that_ended_badly_or_has_not_learned(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    put_job(workspace, 1, days_ago=9)
    put_job(workspace, 2, days_ago=8)
    put_job(workspace, 3, State.FAILED, days_ago=7)
    unlearned = {2: {"gap_status": NOT_LEARNED}}
    for number in (1, 2, 3):
        broker.store.restore(record_of(workspace, number, **unlearned.get(number, {})))
    assert client.job("latest", latest.FOLLOWED).id == job_id(1)
    assert client.job("latest", latest.NEWEST).id == job_id(3)


def remark(number: int, lacks: str, state: str = "queued") -> str:
    """Return what is said where a job is taken that is not the newest."""
    newer = f"{job_id(QUEUED)} is newer, but {lacks} (it is {state})"
    return f"`latest` is {job_id(number)} here: {newer}.\n"


@pytest.mark.usefixtures("jobs")
def test_commands_say_which_job_they_took(invoke: Run, workspace: Workspace) -> None:
    shown = invoke("status", "latest", "--json")
    assert json.loads(shown.out)["id"] == job_id(PAUSED)
    assert remark(PAUSED, "has not run") in shown.err

    workspace.job_stderr(job_id(PAUSED)).write_bytes(b"of its process")
    assert invoke("logs", "latest", "--stderr").out == "of its process"
    assert remark(PAUSED, "has not run") in invoke("logs").err
    for command in (("ask", "latest", "Quem?"), ("export", "latest")):
        assert remark(COMPLETED, "has no adapter here") in invoke(*command).err
    assert remark(PAUSED, "has left nothing here") in invoke("report", "latest").err
    assert invoke("status", job_id(QUEUED)).err.count("`latest`") == 0

    assert remark(PAUSED, "is not paused") in invoke("resume", "latest").err


@pytest.mark.usefixtures("jobs")
def test_cancel_takes_what_has_not_ended_the_newest_first(
    invoke: Run, client: FarenseClient
) -> None:
    first = invoke("cancel", "latest")
    assert (first.out, "`latest`" in first.err) == (f"Cancelled {job_id(QUEUED)}.\n", False)
    second = invoke("cancel", "latest")
    assert second.out == f"Cancelled {job_id(PAUSED)}.\n"
    assert remark(PAUSED, "has ended", "cancelled") in second.err
    third = invoke("cancel", "latest")
    assert third.out == f"{job_id(QUEUED)} is cancelled already.\n"
    assert client.job(job_id(COMPLETED)).state is State.COMPLETED

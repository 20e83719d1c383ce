"""`farense prune`: what a person types and sees."""

from __future__ import annotations

import json
import os
import pty
import subprocess

import pytest

from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.runs.files import job_ids, record_from_files
from daemon.settings import Settings
from jobs.paths import Workspace
from jobs.state import State
from tests.cli.conftest import FARENSE, Run, environment
from tests.helpers.ended import job_id, put_adapter, put_job

AWAY = "redis://127.0.0.1:1/0"


@pytest.fixture
def jobs(workspace: Workspace) -> Workspace:
    """Two jobs that ended, each on data of its own, and one that waits."""
    put_adapter(put_job(workspace, 1, State.FAILED, data="d" * 50_000, days_ago=3))
    put_adapter(put_job(workspace, 2, data="e" * 50_000))
    put_job(workspace, 3, State.QUEUED, data="f")
    return workspace


def in_redis(workspace: Workspace) -> list[str]:
    """Return the ids that Redis has, after putting those of the workspace there."""
    broker = Broker(workspace, Settings())
    for job in job_ids(workspace):
        record = record_from_files(workspace, job)
        assert record is not None
        broker.store.create_many([record])
    ids = broker.store.ids()
    broker.close()
    return ids


def test_it_asks_what_to_remove(invoke: Run, jobs: Workspace) -> None:
    done = invoke("prune", "--yes")
    assert (done.code, done.out) == (2, "")
    assert "Which jobs should be removed?" in done.err
    assert "--older-than 30d" in done.err
    assert len(job_ids(jobs)) == 3


@pytest.mark.parametrize(
    "arguments", [["--older-than", "soon"], ["--keep", "-1"], ["--state", "running"]]
)
def test_what_cannot_be_meant_is_refused(
    invoke: Run, jobs: Workspace, arguments: list[str]
) -> None:
    done = invoke("prune", *arguments, "--yes")
    assert (done.code, done.out) == (2, "")
    assert arguments[1] in done.err
    assert len(job_ids(jobs)) == 3


def test_a_dry_run_shows_and_changes_nothing(invoke: Run, jobs: Workspace) -> None:
    done = invoke("prune", "--keep", "0", "--dry-run")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split()[:2] == [job_id(2), "completed"]
    assert lines[1].split()[:2] == [job_id(1), "failed"]
    data = sorted(
        f"{path.stem[:23]}…" for path in jobs.imported.iterdir() if path.stat().st_size > 1
    )
    assert [line.split() for line in lines[2:4]] == [[name, "data", "0.1", "MB"] for name in data]
    assert lines[-1] == "Would remove 2 jobs and 2 data files, 0.1 MB."
    planned = json.loads(invoke("prune", "--keep", "0", "--dry-run", "--json").out)
    assert planned["dry_run"] is True
    assert [job["id"] for job in planned["jobs"]] == [job_id(2), job_id(1)]
    assert [file["bytes"] for file in planned["data"]] == [50_000, 50_000]
    assert planned["bytes"] == sum(thing["bytes"] for thing in planned["jobs"] + planned["data"])
    assert len(job_ids(jobs)) == 3
    assert not jobs.private.exists()  # no server was started for it


def test_what_was_chosen_is_removed(invoke: Run, jobs: Workspace, server: EmbeddedServer) -> None:
    assert len(in_redis(jobs)) == 3
    done = invoke("prune", "--state", "failed", "--older-than", "2d", "--yes")
    assert done.code == 0
    assert done.out == "Removed 1 job and 1 data file, 0.1 MB.\n"
    assert job_id(1) in done.err
    assert job_id(2) not in done.err
    assert job_ids(jobs) == in_redis(jobs) == [job_id(3), job_id(2)]
    removed = json.loads(invoke("prune", "--keep", "0", "--yes", "--json").out)
    assert [job["id"] for job in removed["jobs"]] == [job_id(2)]
    assert removed["data"][0]["bytes"] == 50_000
    assert (removed["dry_run"], removed["records_left"]) == (False, 0)
    done = invoke("prune", "--keep", "0", "--yes")
    assert (done.code, done.out, done.err) == (0, "", "There is nothing to remove.\n")
    assert job_ids(jobs) == [job_id(3)]


def test_checkpoints_alone(invoke: Run, jobs: Workspace, server: EmbeddedServer) -> None:
    done = invoke("prune", "--checkpoints-only", "--yes")
    assert (done.code, done.out) == (0, "Removed the checkpoints of 2 jobs, 0.0 MB.\n")
    assert len(job_ids(jobs)) == 3
    assert not list(jobs.runs.glob("*/checkpoint_*"))
    assert len(list(jobs.runs.glob("*/adapters/adapters.safetensors"))) == 2


def test_nothing_is_removed_where_nobody_can_be_asked(farense: Run, jobs: Workspace) -> None:
    done = farense("prune", "--keep", "0", "--json")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-2:] == [
        "Error: There is no terminal to confirm the removal of 2 jobs and 2 data files, 0.1 MB.",
        "Hint: Type: farense prune --keep 0 --json --yes",
    ]
    assert len(job_ids(jobs)) == 3


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 3), ("y", 0, 1)])
def test_a_person_is_asked(
    jobs: Workspace, server: EmbeddedServer, answer: str, code: int, left: int
) -> None:
    person, terminal = pty.openpty()
    os.write(person, f"{answer}\n".encode())
    done = subprocess.run(
        [FARENSE, "prune", "--keep", "0"],
        env=environment(jobs.root),
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(person)
    os.close(terminal)
    assert done.returncode == code
    assert "Remove 2 jobs and 2 data files, 0.1 MB? [y/N]" in done.stderr
    assert len(job_ids(jobs)) == left


def test_with_redis_away_the_files_go_and_a_warning_says_what_is_left(
    invoke: Run, jobs: Workspace, server: EmbeddedServer
) -> None:
    assert len(in_redis(jobs)) == 3
    done = invoke("prune", "--keep", "0", "--yes", FARENSE_REDIS_URL=AWAY)
    assert done.code == 0
    assert done.out.startswith("Removed 2 jobs and 2 data files")
    assert "Redis is away and still lists 2 removed jobs" in done.err
    assert job_ids(jobs) == [job_id(3)]
    done = invoke("prune", "--keep", "0", "--yes")
    assert done.code == 0
    assert "Warning" not in done.err
    assert in_redis(jobs) == [job_id(3)]


def test_what_stays_is_named(invoke: Run, jobs: Workspace, server: EmbeddedServer) -> None:
    put_job(jobs, 4, State.WAITING, after=job_id(2))
    done = invoke("prune", "--keep", "0", "--yes")
    assert done.code == 0
    assert done.err.splitlines()[0] == f"{job_id(2)} is kept: {job_id(4)} needs it."
    assert job_id(2) in job_ids(jobs)

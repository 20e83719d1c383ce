"""What the daemon says on its terminal."""

from __future__ import annotations

import os
import signal

import pytest

from daemon.client import FarenseClient
from daemon.store.records import JobRecord
from daemon.worker.terminal import end_line, start_line
from jobs.config.config import Preset
from jobs.state import State
from jobs.storage.locks import is_held
from tests.helpers.jobs import ended, running
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

ID = "20251122-220104-v2-kqzd"


def record(state: State, **values: object) -> JobRecord:
    return JobRecord(**{"id": ID, "preset": "v2", "state": state, "run_dir": "x", **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("job", "line"),
    [
        (
            record(State.RUNNING, name="noite", attempt=1, total_steps=1272),
            f"{ID} starts: v2 (noite), 1,272 steps",
        ),
        (
            record(State.RUNNING, attempt=2, total_steps=12, checkpoint_step=7),
            f"{ID} starts: v2, 12 steps, attempt 2, from the checkpoint of step 7",
        ),
        (
            record(State.RUNNING, attempt=1, evaluates="20251122-210104-v2-aaaa", total_steps=8),
            f"{ID} starts: evaluates 20251122-210104-v2-aaaa",
        ),
    ],
)
def test_a_start_is_told_in_a_line(job: JobRecord, line: str) -> None:
    assert start_line(job) == line


RAN = {"attempt_started_at": "2025-11-22T22:01:04+00:00", "ran_seconds": 3725.0}


@pytest.mark.parametrize(
    ("job", "line"),
    [
        (
            record(
                State.EARLY_STOPPED, best_val_loss=0.265, overfitting_gap=0.084,
                gap_status="BOM", **RAN,
            ),
            f"{ID} early_stopped after 1h 02m: best val loss 0.2650, gap 0.084 BOM",
        ),
        (
            record(
                State.COMPLETED, best_val_loss=84.68, overfitting_gap=0.0,
                gap_status="SEM APRENDIZAGEM", **RAN,
            ),
            f"{ID} completed after 1h 02m: best val loss 84.6800, SEM APRENDIZAGEM",
        ),
        (
            record(State.COMPLETED, evaluates="x", token_f1=0.53, exact_match=0.25, **RAN),
            f"{ID} completed after 1h 02m: token F1 0.530, exact match 0.250",
        ),
        (
            record(State.FAILED, reason="It ran out of memory.", **RAN),
            f"{ID} failed after 1h 02m: It ran out of memory. More: farense logs {ID}",
        ),
        (
            record(State.QUEUED, reason="the daemon was stopped", **RAN),
            f"{ID} is back in the queue: the daemon was stopped",
        ),
        (record(State.CANCELLED), f"{ID} cancelled"),
    ],
)  # fmt: skip
def test_an_end_is_told_in_a_line(job: JobRecord, line: str) -> None:
    assert end_line(job) == line


def test_the_terminal_says_what_starts_and_ends_and_nothing_else(
    client: FarenseClient, daemons: Daemons, preset: Preset
) -> None:
    good, bad = client.enqueue(preset), client.enqueue(preset)
    daemon = daemons.start()
    assert ended(client, good.id).state is State.COMPLETED
    client.cancel(bad.id)
    ended(client, bad.id)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == os.EX_OK
    assert daemon.stderr is not None
    lines = daemon.stderr.read().decode().splitlines()
    words = [line.split("  ", 1)[1] for line in lines]
    assert words[0].startswith(f"{good.id} starts: tiny")
    assert words[1].startswith(f"{good.id} completed after ")
    assert all(line.startswith(bad.id) for line in words[2:])


def test_the_terminal_tells_of_a_job_that_ended_while_no_daemon_was_there(
    client: FarenseClient, daemons: Daemons, preset: Preset
) -> None:
    job = client.enqueue(preset, name="endless")
    killed = daemons.start("as_named")
    running(client, job.id)
    killed.kill()
    killed.wait()
    wait_until(lambda: not is_held(client.workspace.run(job.id).lock), "the child's end")
    daemon = daemons.start("as_named", max_attempts=1)
    assert ended(client, job.id).state is State.FAILED
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == os.EX_OK
    assert daemon.stderr is not None
    lines = [line.split("  ", 1)[1] for line in daemon.stderr.read().decode().splitlines()]
    assert len(lines) == 1
    assert lines[0].startswith(f"{job.id} failed after ")
    assert "Given up after 1 lost attempt" in lines[0]

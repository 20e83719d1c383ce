"""The training child as a process of its own: signals, lock, pipe, exit codes, and by hand."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from jobs.backend.mlx import mx
from jobs.errors import ExitCode
from jobs.paths import RunDirectory, Workspace
from jobs.state import State, read_state, write_state
from jobs.storage.files import read_json
from tests.helpers.processes import without_reader
from tests.helpers.runs import CHILD, events, make_run, metrics, numbers, run_child
from tests.helpers.waiting import wait_until

LONG: dict[str, Any] = {"num_epochs": 2000, "save_steps": 1_000_000, "eval_steps": 100}


@contextmanager
def child(
    run: RunDirectory, *arguments: str, fds: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A running child; killed at the end if need be."""
    process = subprocess.Popen(
        [*CHILD, str(run.path), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=fds,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def has_trained(run: RunDirectory, steps: int = 3) -> bool:
    return run.metrics_json.exists() and any(row["step"] >= steps for row in metrics(run))


def adapter_bytes(run: RunDirectory) -> dict[str, bytes]:
    arrays = mx.load(str(run.adapters / "adapters.safetensors"))
    assert isinstance(arrays, dict)
    return {name: np.array(value).tobytes() for name, value in arrays.items()}


def test_by_hand_it_prints_for_a_person_and_keeps_the_state(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model)
    result = run_child(run)
    assert result.returncode == ExitCode.OK, result.stderr
    assert "ANÁLISE FINAL" in result.stdout
    assert "Epoch 2/2" in result.stdout
    state = read_state(run)
    assert (state.state, state.attempt) == (State.COMPLETED, 1)
    kinds = [event["event"] for event in events(alone, run)]
    assert (kinds[0], kinds[-1]) == ("started", "finished")
    again = run_child(run)
    assert again.returncode == ExitCode.INVALID
    assert "is completed already" in again.stderr


def test_by_hand_it_goes_on_when_nobody_reads_what_it_prints(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model)
    done = without_reader([*CHILD, str(run.path)])
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert read_state(run).state is State.COMPLETED


def test_sigterm_means_checkpoint_and_stop(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model, **LONG)
    with child(run) as process:
        wait_until(lambda: has_trained(run), "the first steps")
        process.terminate()
        assert process.wait(30) == ExitCode.STOPPED
    last = events(alone, run)[-1]
    assert last["event"] == "checkpoint_saved"
    assert last["reason"] == "asked to stop by SIGTERM"
    assert read_state(run).state is State.QUEUED
    assert [path.name for path in run.path.glob("checkpoint_*")] == [Path(last["path"]).name]


def test_the_end_of_the_pipe_means_stop(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model, **LONG)
    reading, writing = os.pipe()
    with child(run, "--attempt", "1", "--pipe", str(reading), fds=(reading,)) as process:
        os.close(reading)
        wait_until(lambda: has_trained(run), "the first steps")
        os.close(writing)
        assert process.wait(30) == ExitCode.STOPPED
    assert events(alone, run)[-1]["reason"] == "the worker is gone"


def test_killed_and_started_again_it_ends_with_the_same_bits(
    alone: Workspace, tiny_model: Path
) -> None:
    settings: dict[str, Any] = {"num_epochs": 8, "save_steps": 5}
    whole = make_run(alone, tiny_model, **settings)
    assert run_child(whole).returncode == ExitCode.OK
    broken = make_run(alone, tiny_model, "20261122-210001-tiny-abcd", **settings)
    for steps in (4, 17):
        with child(broken) as process:
            wait_until(lambda steps=steps: has_trained(broken, steps), f"step {steps}")  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert run_child(broken).returncode == ExitCode.OK
    assert numbers(broken) == numbers(whole)
    assert adapter_bytes(broken) == adapter_bytes(whole)
    assert read_state(broken).attempt == 3


def test_a_reader_in_a_loop_never_sees_an_invalid_file(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model, num_epochs=20, log_steps=1, eval_steps=4)
    reads = 0
    with child(run) as process:
        while process.poll() is None:
            for path in (run.metrics_json, run.training_state, run.state):
                if path.exists():
                    orjson.loads(path.read_bytes())
                    reads += 1
        assert process.returncode == ExitCode.OK
    assert reads > 100
    assert len(metrics(run)) == 121


def test_a_second_process_of_the_same_job_is_refused(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model)
    with run.lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = run_child(run)
    assert result.returncode == ExitCode.LOCKED
    assert "Another process holds" in result.stderr
    assert not run.metrics.exists()


def test_an_attempt_that_a_newer_one_replaced_writes_nothing(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model)
    write_state(run, replace(read_state(run), state=State.RUNNING, attempt=3))
    result = run_child(run, "--attempt", "2")
    assert result.returncode == ExitCode.SUPERSEDED
    assert not run.metrics.exists()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 99}', b"\xff"])
def test_a_damaged_order_is_one_clear_line(
    alone: Workspace, tiny_model: Path, content: bytes
) -> None:
    run = make_run(alone, tiny_model)
    run.job.write_bytes(content)
    result = run_child(run)
    assert result.returncode == ExitCode.INVALID
    assert "job.json" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("key", "value"), [("model", "../outside"), ("model", "/etc"), ("data", "../../x.jsonl")]
)
def test_an_order_cannot_lead_out_of_the_workspace(
    alone: Workspace, tiny_model: Path, key: str, value: str
) -> None:
    run = make_run(alone, tiny_model)
    spec = json.loads(run.job.read_text())
    if key == "model":
        spec["config"]["model"] = value
    else:
        spec["train"]["path"] = value
    run.job.write_text(json.dumps(spec))
    result = run_child(run)
    assert result.returncode == ExitCode.INVALID
    assert "leads out of the workspace" in result.stderr + result.stdout
    assert read_json(run.summary)["state"] == "failed"
    assert read_state(run).state is State.FAILED

"""The whole way of a job with nothing in the place of anything: queue, daemon, training child."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from daemon.client import FarenseClient
from daemon.queue.broker import Broker
from daemon.settings import Settings
from jobs.config.config import Preset, load_preset
from jobs.events import BestModel, Envelope, Finished, Started
from jobs.paths import Workspace
from jobs.state import State, read_state
from jobs.storage.files import read_json
from tests.helpers.jobs import ended, running
from tests.helpers.runs import metrics, numbers
from tests.helpers.servers import Daemons

REAL = (sys.executable, "-P", "-m", "jobs")


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling kernels for a fresh workspace takes longer than these trainings."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


def with_settings(preset: Preset, workspace: Workspace, *settings: str) -> Preset:
    return load_preset(preset.name, (workspace.configs,), settings)


def first(envelopes: list[Envelope], kind: type) -> Envelope:
    return next(envelope for envelope in envelopes if isinstance(envelope.event, kind))


def test_record_message_child_and_files_agree(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    job_id = client.enqueue(preset).id
    assert client.job(job_id).state is State.QUEUED
    broker = Broker(workspace, Settings.from_environment())
    assert broker.queue().job_ids() == {job_id}
    broker.close()

    daemon = daemons.start(child=REAL)
    record = ended(client, job_id)
    assert record.state is State.COMPLETED, record.reason
    said = list(client.follow(job_id))
    started, finished = first(said, Started).event, first(said, Finished).event
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert started.pid not in (daemon.pid, os.getpid())

    run = workspace.run(job_id)
    assert read_state(run).state is State.COMPLETED
    assert read_json(run.summary)["best_val_loss"] == record.best_val_loss
    assert metrics(run)[-1]["step"] == record.step == 12
    assert (run.adapters / "adapters.safetensors").exists()
    assert first(said, BestModel).job == job_id


def test_a_killed_child_is_resumed_and_ends_as_if_it_had_not_been(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    settings = ("num_epochs=12", "save_steps=7", "log_steps=2", "eval_steps=30")
    long = with_settings(preset, workspace, *settings)
    daemons.start(child=REAL)
    whole, broken = client.enqueue(long), client.enqueue(long)
    assert ended(client, whole.id).state is State.COMPLETED
    pid = running(client, broken.id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    record = ended(client, broken.id)
    assert (record.state, record.attempt) == (State.COMPLETED, 2)
    runs = [workspace.run(job.id) for job in (whole, broken)]
    assert numbers(runs[0]) == numbers(runs[1])
    adapters = [(run.adapters / "adapters.safetensors").read_bytes() for run in runs]
    assert adapters[0] == adapters[1]


def test_a_model_that_changed_since_enqueue_is_refused(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    job_id = client.enqueue(preset).id
    config = workspace.models / "tiny" / "config.json"
    config.write_text(config.read_text().replace("10000.0", "20000.0"))
    daemons.start(child=REAL)
    record = ended(client, job_id)
    assert record.state is State.FAILED
    assert record.reason is not None
    assert "has changed since this job was enqueued" in record.reason

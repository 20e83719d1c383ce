"""Children that run out of memory, under a real daemon."""

from __future__ import annotations

import sys

import pytest

from daemon.client import FarenseClient
from daemon.store.records import JobRecord
from jobs.backend.choice import AS_ACCELERATOR, VARIABLE
from jobs.config.config import Preset, load_preset
from jobs.paths import Workspace
from jobs.state import JobState, State, read_state
from tests.children.child import METAL_OOM
from tests.helpers.jobs import ended
from tests.helpers.runs import write_rows
from tests.helpers.servers import Daemons

# The real child, with 3 GB of address space, and with MLX's own attention.
LIMITED = (
    *("sh", "-c"),
    f'ulimit -v 3000000; export {VARIABLE}={AS_ACCELERATOR}; exec "$0" -P -m jobs "$@"',
    sys.executable,
)


def outcome(
    client: FarenseClient, preset: Preset, workspace: Workspace, *settings: str
) -> tuple[JobRecord, JobState]:
    """Enqueue a job and wait for its end."""
    job = client.enqueue(load_preset(preset.name, (workspace.configs,), settings))
    record = ended(client, job.id, 150)
    return record, read_state(workspace.run(job.id))


def test_a_metal_abort_ends_the_job_with_its_reason(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    daemons.start("metal_oom")
    record, state = outcome(client, preset, workspace)
    assert (record.state, record.attempt, state.splits) == (State.FAILED, 1, 0)
    assert "ran out of memory and was ended by SIGABRT" in (record.reason or "")
    assert METAL_OOM.strip().rstrip(".") in (record.reason or "")
    assert "Lower batch_size" in (record.reason or "")


def test_the_next_attempt_is_smaller(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    daemons.start("metal_oom_once")
    record, state = outcome(client, preset, workspace, "on_oom=retry_smaller")
    assert (record.state, record.attempt) == (State.COMPLETED, 2)
    assert (state.splits, state.lost_attempts) == (1, 0)


@pytest.mark.parametrize("behaviour", ["metal_oom", "allocator_oom"])
def test_it_gets_no_smaller_than_a_row(
    client: FarenseClient,
    daemons: Daemons,
    preset: Preset,
    workspace: Workspace,
    behaviour: str,
) -> None:
    daemons.start(behaviour)
    record, state = outcome(client, preset, workspace, "on_oom=retry_smaller", "batch_size=3")
    assert (record.state, record.attempt, state.splits) == (State.FAILED, 3, 2)
    assert "ut of memory" in (record.reason or "")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not limit address space")
def test_a_real_allocation_that_fails_is_told_as_such(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    """An attention matrix of some 40,000 x 40,000 for each of four heads."""
    row = {"prompt": "Quem?", "completion": "".join(map(str, range(10_000)))}
    write_rows(workspace.data / "train.jsonl", [row])
    daemons.start(child=LIMITED, max_attempts=1)
    record, _ = outcome(client, preset, workspace, "max_seq_length=60000", "data.valid=null")
    assert record.state is State.FAILED
    assert "memory" in (record.reason or "")
    assert "Lower batch_size, max_seq_length" in (record.reason or "")

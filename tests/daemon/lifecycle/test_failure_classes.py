"""Children that die in ways of their own, under a real daemon, and what the user is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.show.render import job_details
from daemon.client import FarenseClient
from daemon.runs.files import record_from_files
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.files import read_json
from tests.daemon.conftest import fill
from tests.helpers.jobs import ended
from tests.helpers.servers import Daemons

Queue = tuple[FarenseClient, Workspace, Preset]


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Queue]:
    """A workspace whose daemon works through jobs that behave as they are named."""
    workspace = Workspace(tmp_path_factory.mktemp("queue"))
    preset = fill(workspace, tiny_model)
    daemons = Daemons(workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FARENSE_REDIS_URL", raising=False)
        daemons.start("as_named")
        with FarenseClient.connect(workspace) as client:
            yield client, workspace, preset
        daemons.close()


@pytest.mark.parametrize(
    ("behaviour", "state", "failure", "classes", "lost"),
    [
        ("gpu_timeout_once", State.COMPLETED, None, ["gpu_timeout"], 1),
        ("gpu_timeout_always", State.FAILED, "gpu_timeout", ["gpu_timeout"] * 3, 3),
        ("gpu_timeouts_on_the_way", State.COMPLETED, None, ["gpu_timeout"] * 4, 0),
        ("leaking", State.COMPLETED, None, ["resource_limit"] * 4, 0),
        ("killed_always", State.FAILED, "killed", ["killed"] * 3, 3),
    ],
)
def test_the_way_it_died_decides_and_is_told(
    queue: Queue, behaviour: str, state: State, failure: str | None, classes: list[str], lost: int
) -> None:
    client, workspace, preset = queue
    job = client.enqueue(preset, name=behaviour)
    record = ended(client, job.id)
    assert (record.state, record.failure) == (state, failure)
    assert [entry["class"] for entry in record.history] == classes
    assert record.attempt == len(classes) + (failure is None)
    kept = read_json(workspace.run(job.id).state)
    assert (kept["failure"], kept["history"]) == (failure, record.history)
    assert kept["lost_attempts"] == lost
    # Without Redis the files tell the same.
    found = record_from_files(workspace, job.id)
    assert found is not None
    assert (found.failure, found.history) == (record.failure, record.history)
    shown = "\n".join(job_details(record))
    assert ("Failure" in shown) == (failure is not None)
    assert ("History" in shown) == (len(classes) > 1)

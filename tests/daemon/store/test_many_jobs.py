"""Many jobs: none is lost, none runs twice, and the daemon does not grow with them.

`python -m benchmarks.queue_load` does the same with a thousand.
"""

from __future__ import annotations

import sys

import pytest

from daemon.client import FarenseClient
from daemon.lifecycle.transitions import Lifecycle
from daemon.queue.broker import Broker
from daemon.recovery import survey as facts
from daemon.recovery.recovery import Recovery
from daemon.settings import Settings
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State, read_state
from tests.helpers.load import quick_child, verdict
from tests.helpers.processes import footprint
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

MEGABYTE = 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_jobs_leave_the_daemon_as_it_was(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    daemon = daemons.start(child=quick_child(2, 0))
    ids: list[str] = []

    def run(count: int) -> None:
        ids.extend(record.id for record in client.enqueue_many([preset] * count))
        wait_until(lambda: not client._store.unfinished(), f"the end of {count} jobs")

    run(20)
    before = footprint(daemon.pid)
    run(40)
    after = footprint(daemon.pid)
    assert verdict([workspace], client, ids) == ""
    # What the last job's end still held open when it was looked at is closed by and by.
    wait_until(lambda: footprint(daemon.pid).files <= before.files, "no more files than before")
    assert after.private_mb < before.private_mb * 1.05 + MEGABYTE
    last = client.job(ids[-1])
    assert (last.step, last.total_steps) == (2, 2)
    assert [envelope.event.kind for envelope in client.follow(ids[-1])] == [
        "started",
        *("progress", "train_metrics") * 2,
        "finished",
    ]


def test_of_very_many_jobs_each_has_its_turn(
    workspace: Workspace, preset: Preset, client: FarenseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "LOOKS", 2)
    jobs = client.enqueue_many([preset] * 5)
    client.cancel(jobs[1].id)
    broker = Broker(workspace, Settings())
    broker.queue().storage.flush_queue()
    mending = Recovery(Lifecycle(workspace, broker), Settings())
    found = []
    for _ in range(3):
        assert mending.run(thorough=False)
        found.append(len(broker.queue().job_ids()))
    assert found == [2, 4, 4]
    # The fifth look comes round to the first again; a cancelled job is not run.
    assert broker.queue().job_ids() == {job.id for job in jobs} - {jobs[1].id}
    assert read_state(workspace.run(jobs[1].id)).state is State.CANCELLED
    broker.close()

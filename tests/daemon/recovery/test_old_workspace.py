"""A workspace that an older farense left is taken over: nothing is lost, everything ends.

``old_workspace.tar.xz`` was made before the packages were laid out anew, when Huey's messages named
the task's old module. In it are a job that has ended with its evaluation, one whose daemon and
child were killed after a checkpoint, two that are queued, one that waits for the second, one
scheduled in 300 days, and a sweep with one of three trials done. ``names.json`` tells which is
which.
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.sweep.view import view_sweep
from jobs.paths import Workspace
from jobs.state import State, read_state
from jobs.sweep.folder import find_sweep
from tests.helpers.jobs import ended
from tests.helpers.runs import numbers
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

ARCHIVE = Path(__file__).with_name("old_workspace.tar.xz")
REAL = (sys.executable, "-P", "-m", "jobs")


@pytest.mark.timeout(400)
def test_it_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    monkeypatch.setenv("FARENSE_PLOTS", "off")
    workspace = Workspace(tmp_path / "workspace")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(workspace.root, filter="data")
    names = json.loads((workspace.root / "names.json").read_text())
    broken, queued = names["running"], names["queued"]
    daemons = Daemons(workspace)
    try:
        with FarenseClient.connect(workspace) as client:
            known = {record.id: record.state for record in client.jobs(all=True)}
            assert {known[job] for job in queued} == {State.QUEUED}
            assert (known[broken], known[names["waiting"]]) == (State.RUNNING, State.WAITING)
            daemons.start(child=REAL)
            for job in (broken, *queued, names["waiting"]):
                assert ended(client, job, 120).state is State.COMPLETED, client.job(job).reason
            assert client.job(broken).attempt == 2
            sweep = find_sweep(workspace)
            wait_until(lambda: not view_sweep(sweep).state.active, "the end of the sweep", 200)
            assert [trial.state for trial in view_sweep(sweep).trials] == [State.COMPLETED] * 3
            assert client.job(names["scheduled"]).state is State.SCHEDULED
            assert client.job(names["finished"]).token_f1 is not None
    finally:
        daemons.close()
    assert read_state(workspace.run(names["evaluation"])).state is State.COMPLETED
    # Another processor may round otherwise than that on which the first half was computed.
    runs = [numbers(workspace.run(names[name])) for name in ("reference", "running")]
    assert len(runs[0]) == len(runs[1])
    for one, other in zip(*runs, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert other[key] == (pytest.approx(value, rel=1e-2) if type(value) is float else value)

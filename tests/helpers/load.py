"""Many jobs whose child trains nothing, and whether each of them was done, and done once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import orjson

from daemon.client import FarenseClient
from jobs.paths import REPOSITORY, Workspace
from jobs.state import State, read_state
from jobs.storage.files import whole_lines

QUICK = REPOSITORY / "tests" / "children" / "quick.py"


def quick_child(steps: int, pace: float) -> tuple[str, ...]:
    """Return the command of a child that takes ``steps`` steps, ``pace`` seconds apart."""
    return (sys.executable, "-S", "-P", str(QUICK), str(steps), str(pace))


def verdict(workspaces: Sequence[Workspace], client: FarenseClient, ids: Sequence[str]) -> str:
    """Return "" where each job was done, and done once; else what is wrong, in a line."""
    records = {record.id: record for record in client.jobs(all=True)}
    complaints: Counter[str] = Counter()
    for job_id in ids:
        record = records.get(job_id)
        if record is None:
            complaints["lost"] += 1
        elif (record.state, record.attempt) != (State.COMPLETED, 1):
            reason = str(record.reason).replace(job_id, "JOB")
            complaints[f"{record.state} in attempt {record.attempt}: {reason}"] += 1
        homes = [workspace for workspace in workspaces if workspace.run(job_id).state.exists()]
        if State.COMPLETED not in [read_state(home.run(job_id)).state for home in homes]:
            complaints["not completed on disk"] += 1
        said = Counter(kind for workspace in workspaces for kind in _said(workspace, job_id))
        if (said["started"], said["finished"]) != (1, 1):
            complaints[f"started {said['started']}, finished {said['finished']} times"] += 1
    return "; ".join(f"{count} jobs: {what}" for what, count in complaints.most_common())


def _said(workspace: Workspace, job_id: str) -> list[str]:
    log = workspace.job_log(job_id)
    if not log.exists():
        return []
    return [str(orjson.loads(line)["event"]) for line in whole_lines(log)]

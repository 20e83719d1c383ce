"""Removing what a plan of :mod:`daemon.prune.plan` names; a crash leaves nothing half-valid.

A run directory is first renamed, under the locks of its job, to a name that no listing takes for a
job; from then on the job is gone. Its logs, its files and its record in Redis follow, and the
folder itself last: its name is the note that something is left to do. Where Redis is away the empty
folder stays for the next prune. A record without files never becomes a job again meanwhile:
recovery goes by the run directories, and a message about it finds nothing to claim.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis.exceptions import RedisError

from daemon.prune.plan import (
    PRUNED,
    Plan,
    freed,
    jobs_to_keep,
    leftovers,
    paths_of,
    unnamed_data,
)
from daemon.runs.files import newest_training
from daemon.runs.private_folder import private_folder
from daemon.runs.snapshot import snapshot_of
from daemon.runs.workspace_locks import changing, freezing
from jobs.errors import WorkspaceError
from jobs.paths import JOB_ID, RunDirectory, Workspace
from jobs.state import FINISHED
from jobs.storage.files import explain, sync_folder
from jobs.storage.locks import FileLock

Forget = Callable[[str], None]

GONE_ON = "it has changed in the meantime"


@dataclass
class Removed:
    """What was removed.

    Attributes:
        kept: the id of each job that was in the plan and has to stay after all, and why.
        records_left: jobs whose record could not be removed: Redis is away.
    """

    jobs: list[str] = field(default_factory=list)
    data: list[Path] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    records_left: int = 0


def carry_out(workspace: Workspace, plan: Plan, forget: Forget | None) -> Removed:
    """Remove what a plan names, as far as it still may be removed.

    Args:
        forget: removes the record of a job; None where Redis is away.

    Raises:
        WorkspaceError: a file cannot be removed, or another prune is under way. What is left goes
            with the next prune.
    """
    with _alone(workspace):
        return _Removal(workspace, plan, forget).run()


class _Removal:
    """One prune: set everything aside, measure, remove."""

    def __init__(self, workspace: Workspace, plan: Plan, forget: Forget | None) -> None:
        self.workspace = workspace
        self.plan = plan
        self.forget = forget
        self.removed = Removed()

    def run(self) -> Removed:
        self._clear()  # what was left over: its names may be needed again
        stay = jobs_to_keep(self.workspace)
        for job in self.plan.jobs:
            reason = stay.get(job.id) or self._set_aside(job.id)
            if reason is not None:
                self.removed.kept[job.id] = reason
            else:
                self.removed.jobs.append(job.id)
        point_latest_to_newest(self.workspace)
        self._clear()
        if not self.plan.checkpoints_only:
            self._remove_data()
        self.removed.records_left = len(self._jobs_aside())
        return self.removed

    def _clear(self) -> None:
        """Remove all that is set aside."""
        aside = leftovers(self.workspace)
        logs = [path for job_id in self._jobs_aside() for path in self._logs(job_id)]
        self.removed.bytes += freed([*aside, *logs])
        for path in aside:
            self._remove(path)

    def _jobs_aside(self) -> list[str]:
        return [job_id for path in leftovers(self.workspace) if (job_id := self._job_of(path))]

    def _set_aside(self, job_id: str) -> str | None:
        """Rename what is to go, where the job still may be touched; else return why not."""
        run = self.workspace.run(job_id)
        with changing(self.workspace):
            state = snapshot_of(self.workspace, job_id).state
            if state is None or state.state not in FINISHED or run.path.is_symlink():
                return GONE_ON
            # Held, not just looked at: a child that starts late must not find its directory going.
            lock = FileLock.acquire(run.lock)
            if lock is None:
                return "its process still runs"
            with lock:
                self._rename(run)
        return None

    def _rename(self, run: RunDirectory) -> None:
        whole = not self.plan.checkpoints_only
        paths = [run.path] if whole else paths_of(self.workspace, run.job_id, checkpoints_only=True)
        for path in paths:
            try:
                path.rename(path.with_name(f"{PRUNED}{path.name}"))
            except OSError as error:
                raise explain(error, path) from error
        sync_folder(self.workspace.runs if whole else run.path)

    def _remove(self, path: Path) -> None:
        """Remove something set aside; of a run directory also what lies or stands elsewhere."""
        job_id = self._job_of(path)
        try:
            if job_id is not None:
                for log in self._logs(job_id):
                    log.unlink(missing_ok=True)
                for inside in path.iterdir():
                    _delete(inside)
                if not self._forgotten(job_id):
                    return
            _delete(path)
        except OSError as error:
            raise explain(error, path) from error

    def _job_of(self, path: Path) -> str | None:
        """Return the job whose run directory was set aside as ``path``.

        None where it is something else, or somebody has put the job's directory back.
        """
        job_id = path.name.removeprefix(PRUNED)
        if path.parent != self.workspace.runs or not JOB_ID.fullmatch(job_id):
            return None
        return None if self.workspace.run(job_id).path.exists() else job_id

    def _logs(self, job_id: str) -> list[Path]:
        logs = (self.workspace.job_log(job_id), self.workspace.job_stderr(job_id))
        return [path for path in logs if path.exists()]

    def _forgotten(self, job_id: str) -> bool:
        if self.forget is None:
            return False
        try:
            self.forget(job_id)
        except (RedisError, OSError):
            # Not asked again: each time could take seconds.
            self.forget = None
            return False
        return True

    def _remove_data(self) -> None:
        planned = set(self.plan.data)
        with freezing(self.workspace):
            for path in unnamed_data(self.workspace):
                if path in planned:
                    self.removed.bytes += freed([path])
                    try:
                        path.unlink(missing_ok=True)
                    except OSError as error:
                        raise explain(error, path) from error
                    self.removed.data.append(path)


def point_latest_to_newest(workspace: Workspace) -> None:
    """Let ``checkpoints_qlora/latest`` name the newest run that is left, if it names none."""
    link, temporary = workspace.runs / "latest", workspace.runs / ".latest-pruned"
    if not link.is_symlink() or link.exists():
        return
    pointed = None
    # A job enqueued meanwhile points it to itself: look again after each change.
    while (newest := newest_training(workspace)) != pointed:
        temporary.unlink(missing_ok=True)
        if newest is not None:
            temporary.symlink_to(newest)
            temporary.replace(link)
        pointed = newest
    if pointed is None:
        link.unlink(missing_ok=True)


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    lock = FileLock.acquire(private_folder(workspace) / "prune.lock")
    if lock is None:
        raise WorkspaceError(
            "Another prune of this workspace is running.", "Wait until it has finished."
        )
    with lock:
        yield


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

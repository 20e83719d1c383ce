"""Where it is kept which jobs are to be forwarded, and how far each tracker is."""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from daemon.runs.private_folder import private_folder
from jobs.errors import ExitCode, FarenseError, WorkspaceError
from jobs.paths import JOB_ID, RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.storage.files import explain, read_json, write_json
from jobs.storage.values import well_typed


@dataclass(frozen=True)
class Cursor:
    """How far a tracker is with a job.

    Attributes:
        step: of the last row that was sent; -1 for none.
        timestamp: of that row, by which it is known again.
        rows: how many were sent.
        course: 1; one more for each time that rows which were sent have been trained again.
        ended: all rows and the summary were sent.
        evaluation: the evaluation that was sent, by the time of its report; 0 for none.
        why: why it did not go on, in few words; empty where it did.
    """

    step: int = -1
    timestamp: str = ""
    rows: int = 0
    course: int = 1
    ended: bool = False
    evaluation: int = 0
    why: str = ""


def cursor_file(run: RunDirectory, tracker: str) -> Path:
    """Return the file of a cursor: beside what it is about, and removed with that."""
    return run.path / "trackers" / f"{tracker}.json"


def read_cursor(run: RunDirectory, tracker: str) -> Cursor:
    """Return how far a tracker is; a damaged one counts as none: trackers are asked, too."""
    with suppress(OSError, ValueError, TypeError):
        found = Cursor(**read_json(cursor_file(run, tracker)))
        if well_typed(found):
            return found
    return Cursor()


def write_cursor(run: RunDirectory, tracker: str, cursor: Cursor) -> None:
    """Keep how far a tracker is.

    Raises:
        WorkspaceError: the disk is full, or the job was removed.
    """
    write_json(cursor_file(run, tracker), asdict(cursor))


def why_behind(code: int, cursor: Cursor) -> str:
    """Return why a courier that ended with a code did not send all; empty where it did."""
    if code == ExitCode.OK:
        return ""
    if code == -signal.SIGALRM:
        return "its library did not come back"
    return cursor.why or f"its process ended with code {code}"


def track_folder(workspace: Workspace) -> Path:
    """Return the private folder of marks, locks and what the libraries say, made if missing.

    Raises:
        WorkspaceError: it cannot be made.
    """
    folder = private_folder(workspace) / "track"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise explain(error, folder) from error
    return folder


def mark(workspace: Workspace, job_id: str) -> None:
    """Note that a job has something to forward.

    Raises:
        WorkspaceError: the disk is full, say.
    """
    path = track_folder(workspace) / job_id
    try:
        path.touch()
    except OSError as error:
        raise explain(error, path) from error


def unmark(workspace: Workspace, job_id: str) -> None:
    """Note that all of a job was forwarded, or that it was removed."""
    with suppress(OSError):
        (workspace.private / "track" / job_id).unlink(missing_ok=True)


def marked(workspace: Workspace) -> list[str]:
    """Return the jobs that have something to forward, oldest first."""
    try:
        names = [path.name for path in (workspace.private / "track").iterdir()]
    except OSError:
        return []
    return sorted(name for name in names if JOB_ID.fullmatch(name))


def trackers_of(workspace: Workspace, job_id: str) -> tuple[str, ...]:
    """Return the trackers that a training job names; none of an evaluation, or where it is gone."""
    with suppress(FarenseError, WorkspaceError, TypeError):
        spec = read_spec(workspace.run(job_id))
        if spec.evaluation is None:
            return tuple(map(str, spec.config.get("trackers") or ()))
    return ()

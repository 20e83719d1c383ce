"""Making a damaged ``state.json`` again. What stood there is kept beside it for a person."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from daemon.runs.location import DAMAGED, GONE, Damaged, Here, location_of
from daemon.runs.workspace_id import is_home
from daemon.store.records import JobRecord, state_from
from jobs.errors import WorkspaceError
from jobs.paths import Workspace
from jobs.state import JobState, write_state

log = logging.getLogger(__name__)


def own_or_rebuilt(workspace: Workspace, record: JobRecord) -> JobState | None:
    """Return the state of a job of this workspace, made again from the record where it is damaged.

    None of a job that is elsewhere, or whose run directory is gone.

    Raises:
        WorkspaceError: its file cannot be read or written for now.
    """
    location = location_of(workspace, record.id, record)
    if isinstance(location, Damaged) and is_home(record.home, workspace):
        return rewrite(workspace, record.id, state_from(record))
    return location.state if isinstance(location, Here) else None


def rewrite_if_damaged(workspace: Workspace, job_id: str, state: JobState) -> None:
    """Write ``state`` where the file of the attempt under way is damaged; raises as above."""
    location = location_of(workspace, job_id)
    if isinstance(location, Damaged):
        log.warning("%s while it ran: it is made again", location.reason)
        rewrite(workspace, job_id, state)


def rewrite(workspace: Workspace, job_id: str, state: JobState) -> JobState:
    """Write ``state`` in place of a damaged file, and return it.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    run = workspace.run(job_id)
    set_aside(run.state)
    write_state(run, state)
    return state


def set_aside(state: Path) -> None:
    """Give a ``state.json`` that cannot be read another name beside it: nothing is destroyed.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    name = f"{state.name}{DAMAGED}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    try:
        state.rename(state.with_name(name))
    except GONE:
        return
    except OSError as error:
        raise WorkspaceError(f"{state} is damaged and cannot be renamed: {error}") from error

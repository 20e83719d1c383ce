"""Runs that a command names: a job by its id, or the folder of an older run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cli.output import note
from cli.reading import job_named
from daemon.as_shown import as_found
from daemon.latest import LEFT
from daemon.runs.snapshot import Where, snapshot_of
from daemon.runs.workspace_id import shown
from jobs.errors import InvalidInput, UnknownJob

if TYPE_CHECKING:
    from daemon.file_client import FileClient
    from daemon.reader import QueueReader
    from jobs.past_run import PastRun


def past_run(argument: str, reader: QueueReader | FileClient) -> PastRun:
    """Return what is left of the run that ``argument`` names.

    That is a job (an id, a unique part of one, ``latest``), or a folder: relative to where the
    command is typed, else to the workspace. Where a name means one job and a folder, it is the
    job; ``./name`` is the folder. An evaluation stands for the job that it evaluates.

    Raises:
        UnknownJob: there is no such job, and no such folder.
        InvalidInput: its files are elsewhere, or there are none.
    """
    from jobs.past_run import read_run  # noqa: PLC0415 - loads NumPy

    folder = _folder(argument, reader.workspace.root)
    if folder is not None and "/" in argument:
        return read_run(folder)
    try:
        record = job_named(reader, argument, LEFT)
    except UnknownJob as error:
        if folder is not None:
            return read_run(folder)
        if "/" in argument:
            raise InvalidInput(f"There is no folder {argument}.") from error
        raise
    if record.evaluates:
        note(f"{record.id} evaluates {record.evaluates}: that one is taken.")
        record = reader.job(record.evaluates)
    seen = snapshot_of(reader.workspace, record.id, record).known()
    if seen.where in (Where.MISSING, Where.ELSEWHERE):
        raise InvalidInput(
            f"The files of {record.id} are not in this workspace.",
            f"They are in {shown(record.home) or 'another one, unknown'}.",
        )
    run = read_run(reader.workspace.run(record.id).path)
    return as_found(run, record)


def _folder(argument: str, root: Path) -> Path | None:
    """Return the folder of this name; None where there is none."""
    given = Path(argument).expanduser()
    for path in (given, root / given):
        try:
            if argument and path.is_dir():
                return path.resolve()
        except OSError:  # a name longer than any file's
            continue
    return None

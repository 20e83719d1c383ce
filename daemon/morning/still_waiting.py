"""What still waits and for what: from Redis where it answers, else from the files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import orjson

from daemon.as_shown import as_shown
from daemon.file_client import FileClient
from daemon.morning.facts import WaitingJob
from daemon.reader import open_reader
from daemon.runs.files import job_ids, record_shown
from daemon.standstill import held_lines
from daemon.store.overview import MOST_WAITING, Overview
from daemon.store.records import JobRecord
from jobs.errors import FarenseError, QueueUnreachable
from jobs.paths import Workspace, end_of_id
from jobs.state import FINISHED, IDLE, State
from jobs.storage.formatting import local
from jobs.storage.values import printable


@dataclass(frozen=True)
class Waiting:
    """Jobs that wait, how many more do, why nothing starts, and whether Redis has said so."""

    jobs: list[WaitingJob]
    more: int
    held: list[str]
    queue_answers: bool


def still_waiting(workspace: Workspace) -> Waiting:
    """Return what waits; nothing is started for that."""
    reader, _ = open_reader(workspace)
    with reader:
        if not isinstance(reader, FileClient):
            with suppress(QueueUnreachable):
                seen = reader.overview()
                return _told(seen, held_lines(reader, seen.records), queue_answers=True)
    files, seen = FileClient(workspace), _in_files(workspace)
    return _told(seen, held_lines(files, seen.records), queue_answers=False)


def _in_files(workspace: Workspace) -> Overview:
    """Return the jobs that have not ended, the first to wait first.

    Of ten thousand jobs those that have ended are told by a glance at ``state.json`` alone.
    """
    runs = str(workspace.runs)
    ids = [job_id for job_id in reversed(job_ids(workspace)) if _may_wait(f"{runs}/{job_id}")]
    records = []
    for job_id in ids[:MOST_WAITING]:
        with suppress(FarenseError, OSError):
            record = record_shown(workspace, job_id)
            if record is not None and not record.finished:
                records.append(as_shown(record, workspace))
    return Overview(records, max(0, len(ids) - MOST_WAITING))


def _may_wait(run: str) -> bool:
    try:
        # A Path for each takes as long again.
        with open(f"{run}/state.json", "rb") as file:  # noqa: PTH123
            return orjson.loads(file.read())["state"] not in FINISHED
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _told(seen: Overview, held: list[str], *, queue_answers: bool) -> Waiting:
    order = {state: place for place, state in enumerate(IDLE)}
    waiting = [r for r in seen.records if r.state in order or r.interrupted]
    waiting.sort(key=lambda record: (order.get(record.state, -1), record.created_at))
    found = [WaitingJob(r.id, r.state, _waits_for(r), r.interrupted) for r in waiting]
    return Waiting(found, seen.more_waiting, held, queue_answers)


def _waits_for(record: JobRecord) -> str:
    if record.state is State.SCHEDULED and record.schedule:
        return f"its time, {local(record.schedule)}"
    if record.state is State.WAITING and record.after:
        return f"the end of {end_of_id(record.after)}"
    if record.interrupted:
        return "`farense daemon`: nothing runs it"
    if record.state is State.PAUSED:
        return f"`farense resume {end_of_id(record.id)}`"
    if record.reason and record.state is not State.QUEUED:
        return printable(" ".join(record.reason.split()))
    return "its turn"

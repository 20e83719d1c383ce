"""What still waits and for what: from Redis where it answers, else from the files."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.morning.facts import WaitingJob
from daemon.reader import open_reader
from daemon.standstill import held_lines
from daemon.store.records import JobRecord
from jobs.errors import QueueUnreachable
from jobs.paths import Workspace, end_of_id
from jobs.state import IDLE, State
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
    reader, warning = open_reader(workspace)
    with reader:
        try:
            seen = reader.overview()
            held = held_lines(reader, seen.records)
        except QueueUnreachable:
            return Waiting([], 0, [], queue_answers=False)
    order = {state: place for place, state in enumerate(IDLE)}
    waiting = [r for r in seen.records if r.state in order or r.interrupted]
    waiting.sort(key=lambda record: (order.get(record.state, -1), record.created_at))
    found = [WaitingJob(r.id, r.state, _waits_for(r)) for r in waiting]
    return Waiting(found, seen.more_waiting, held, queue_answers=warning is None)


def _waits_for(record: JobRecord) -> str:
    if record.state is State.SCHEDULED and record.schedule:
        return f"its time, {local(record.schedule)}"
    if record.interrupted:
        return "`farense daemon`: nothing runs it"
    if record.state is State.PAUSED:
        return f"`farense resume {end_of_id(record.id)}`"
    if record.reason:
        return printable(" ".join(record.reason.split()))
    return "its turn"

"""What ``latest`` means: the newest training job that ran; to a command, the newest it can use.

So a job that was queued or cancelled after a good one does not stand in its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from daemon.runs.snapshot import Where, snapshot_of
from daemon.store.records import JobRecord
from jobs.errors import FarenseError, UnknownJob
from jobs.kinds import kind_of
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import FINISHED_BADLY, PENDING, State
from jobs.verdict import NOT_LEARNED

LATEST = "latest"


@dataclass(frozen=True)
class Use:
    """What somebody wants a job for.

    Attributes:
        can: tells whether a job will do, in a workspace.
        lacks: what is said of one that will not: ``has not run``.
    """

    can: Callable[[JobRecord, Workspace], bool]
    lacks: str


@dataclass(frozen=True)
class Latest:
    """The job that ``latest`` means, and the newest one, which may be another.

    Attributes:
        lacks: why the newest was passed over; None where it is the one.
    """

    job: JobRecord
    newest: JobRecord
    lacks: str | None

    @property
    def remark(self) -> str | None:
        """Which job was taken where another is newer, for a person; None where none is."""
        if self.lacks is None:
            return None
        newer = f"{self.newest.id} is newer, but {self.lacks} (it is {self.newest.state})"
        return f"`latest` is {self.job.id} here: {newer}."


def latest(
    workspace: Workspace, use: Use, sources: Sequence[Callable[[], list[JobRecord]]]
) -> Latest:
    """Return the newest training job that can be used; where none can, the newest.

    What is wanted of that one is then refused as of any other, with the reason.

    Args:
        sources: each returns jobs, one after the other more of them: the next is asked where the
            jobs of those before do not do.

    Raises:
        UnknownJob: there are no jobs.
    """
    newest = None
    for source in sources:
        records = sorted(source(), key=lambda record: record.created_at, reverse=True)
        trainings = [record for record in records if kind_of(record).trains] or records
        found = next((record for record in trainings if use.can(record, workspace)), None)
        newest = next(iter(trainings), None)
        if found is not None and newest is not None:
            return Latest(found, newest, None if found is newest else use.lacks)
    if newest is None:
        raise UnknownJob("There are no jobs yet.", "Queue one: farense enqueue v2")
    return Latest(newest, newest, None)


def _has_run(record: JobRecord, _: Workspace) -> bool:
    return record.attempt > 0


def _is_here(record: JobRecord, workspace: Workspace) -> bool:
    seen = snapshot_of(workspace, record.id, record).known()
    return seen.where in (Where.HERE, Where.DAMAGED)


def _has_left_something(record: JobRecord, workspace: Workspace) -> bool:
    return _has_run(record, workspace) and _is_here(record, workspace)


def _has_adapter(record: JobRecord, workspace: Workspace) -> bool:
    there = workspace.run(record.id).adapter_weights.is_file()
    return there and _is_here(record, workspace)


def _can_be_evaluated(record: JobRecord, workspace: Workspace) -> bool:
    will_have = not record.finished and _is_here(record, workspace)
    with suppress(FarenseError):
        asked = read_spec(workspace.run(record.id)).valid is not None
        return asked and (will_have or _has_adapter(record, workspace))
    return False


def _waits(record: JobRecord, _: Workspace) -> bool:
    return not record.finished and record.state is not State.RUNNING


def _can_be_paused(record: JobRecord, _: Workspace) -> bool:
    ending = record.finished or record.cancel_requested
    return not ending and record.state is not State.PAUSED


def _is_paused(record: JobRecord, _: Workspace) -> bool:
    return record.state is State.PAUSED or record.pause_requested


def _is_delayed(record: JobRecord, _: Workspace) -> bool:
    return record.state in PENDING or record.state is State.PAUSED


def _has_checkpoint(record: JobRecord, workspace: Workspace) -> bool:
    return record.finished and workspace.run(record.id).newest_checkpoint_step() is not None


def _starts_others(record: JobRecord, _: Workspace) -> bool:
    return record.state not in FINISHED_BADLY and record.gap_status != NOT_LEARNED


def _speaks(record: JobRecord, workspace: Workspace) -> bool:
    return not record.finished or _has_run(record, workspace)


RAN = Use(_has_run, "has not run")
LEFT = Use(_has_left_something, "has left nothing here")
ADAPTER = Use(_has_adapter, "has no adapter here")
EVALUATED = Use(_can_be_evaluated, "cannot be evaluated")
UNFINISHED = Use(lambda record, _: not record.finished, "has ended")
FINISHED = Use(lambda record, _: record.finished, "has not ended")
CHECKPOINT = Use(_has_checkpoint, "has no checkpoint to go on from")
WAITS = Use(_waits, "does not wait")
PAUSED = Use(_is_paused, "is not paused")
DELAYED = Use(_is_delayed, "is neither scheduled, waiting for another nor paused")
TO_PAUSE = Use(_can_be_paused, "cannot be paused")
FOLLOWED = Use(_starts_others, "starts no other")
SPEAKS = Use(_speaks, "never ran")
NEWEST = Use(lambda _, __: True, "")

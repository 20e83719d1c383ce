"""Reading jobs from the files alone, for when Redis is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from daemon.as_shown import as_shown
from daemon.joblog import LogReader
from daemon.latest import LATEST, RAN, Latest, Use, latest
from daemon.runs.files import job_ids, record_shown
from daemon.runs.snapshot import snapshot_of
from daemon.standstill import daemon_runs
from daemon.store.overview import Overview, overview_of
from daemon.store.records import JobRecord
from daemon.store.workers import no_daemon
from jobs.errors import UnknownJob
from jobs.events import Envelope
from jobs.paths import Workspace, end_of_id
from jobs.state import FINISHED
from jobs.suggest import did_you_mean

NEWEST = 20
FOLLOW_SECONDS = 0.2


class FileClient:
    """The read methods of :class:`daemon.client.FarenseClient`, over run directories and logs."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def jobs(self, *, all: bool = False) -> list[JobRecord]:
        """Return the 20 newest jobs and all unfinished ones, newest first; or all of them."""
        ids = job_ids(self.workspace)
        shown = ids if all else [*ids[:NEWEST], *filter(self._unfinished, ids[NEWEST:])]
        return [record for job_id in shown if (record := self._record(job_id))]

    def overview(self) -> Overview:
        """Return the newest jobs, those under way, and the first of very many that wait."""
        return overview_of(self.jobs())

    def latest(self, use: Use = RAN) -> Latest:
        """Return the newest training job that can be used, and the newest one.

        Raises:
            UnknownJob: there are no jobs.
        """
        return latest(self.workspace, use, (self.jobs, lambda: self.jobs(all=True)))

    def job(self, argument: str, use: Use = RAN) -> JobRecord:
        """Return the job that an id, a unique part of one, a name, or ``latest`` means.

        Args:
            use: what ``latest`` has to be good for: it is the newest training job of that kind.

        Raises:
            UnknownJob: it names none, or several.
        """
        if argument == LATEST:
            return self.latest(use).job
        ids = job_ids(self.workspace)
        job_id = matching(argument, ids, lambda: self.jobs(all=True))
        record = self._record(job_id)
        if record is None:
            raise UnknownJob(f"{job_id} was never queued: its run directory has no state.json.")
        return record

    def follow(
        self, job_id: str, *, follow: bool = True, idle: Callable[[], object] = lambda: None
    ) -> Iterator[Envelope]:
        """Yield the events of a job so far; with ``follow``, go on until the job has ended.

        Args:
            idle: called time and again while nothing happens.
        """
        reader = LogReader(self.workspace.job_log(job_id))
        while True:
            # Looked at first: what was written before the end is then still read.
            ended = not follow or not self._unfinished(job_id)
            while lines := reader.read():
                yield from lines.events
            if ended:
                return
            idle()
            time.sleep(FOLLOW_SECONDS)

    def why_nothing_starts(self, queue: str) -> list[str]:
        """Return why none of the queued jobs starts, as far as that can be known without Redis."""
        return self.without_daemon(queue) or [
            "The daemon of this workspace runs, and starts nothing until its queue answers again."
        ]

    def without_daemon(self, queue: str) -> list[str]:
        """Return that no daemon runs in this workspace; of others only Redis knows."""
        return [] if daemon_runs(self.workspace) else [no_daemon(queue)]

    def power_lines(self) -> list[str]:
        """Return nothing: only the daemons know, and they tell Redis."""
        return []

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> FileClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _record(self, job_id: str) -> JobRecord | None:
        record = record_shown(self.workspace, job_id)
        return record and as_shown(record, self.workspace)

    def _unfinished(self, job_id: str) -> bool:
        state = snapshot_of(self.workspace, job_id).state
        return state is not None and state.state not in FINISHED


def matching(argument: str, ids: list[str], records: Callable[[], list[JobRecord]]) -> str:
    """Return the id that ``argument`` names among ``ids``, newest first.

    That is an id, a part that only one of them has (``v2`` means no ``eval_v2``), or the name that
    somebody gave a job.

    Args:
        records: returns all jobs; asked for their names only where the ids do not tell.

    Raises:
        UnknownJob: it names none, or several.
    """
    found = [argument] if argument in ids else []
    if argument and not found:
        found = [job_id for job_id in ids if argument in job_id]
        words = [job_id for job_id in found if argument in job_id.split("-")]
        found = words if len(words) == 1 else found
        if len(found) != 1:
            found = [record.id for record in records() if record.name == argument] or found
    if len(found) == 1:
        return found[0]
    if not found:
        hint = (_meant(argument, ids, records()), "`farense status --all` lists all jobs.")
        raise UnknownJob(f"There is no job {argument!r}.", " ".join(filter(None, hint)))
    shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    raise UnknownJob(f"{argument!r} names {len(found)} jobs: {shown}", "Type more of the id.")


def _meant(argument: str, ids: list[str], records: list[JobRecord]) -> str:
    """Return the question whether a name, or the end of an id, like ``argument`` is meant."""
    names = [record.name for record in records if record.name]
    return did_you_mean(end_of_id(argument), ["latest", *names, *map(end_of_id, ids)])

"""What is known of the jobs with a run directory, gathered before anything is decided of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import islice

import structlog

from daemon.host import boot_id
from daemon.queue.broker import Broker
from daemon.runs.files import job_ids, last_attempt, last_word
from daemon.runs.snapshot import JobSnapshot, Where, snapshot_of, spec_damage
from daemon.store.records import JobRecord
from jobs.paths import JOB_ID, Workspace
from jobs.state import FINISHED, JobState, State
from jobs.storage.locks import is_held
from jobs.summary_head import SummaryHead, summary_head

log = structlog.get_logger(__name__)

FRESH_SECONDS = 60.0
# Looked at in one go where nothing was lost: with many thousands waiting, a daemon would do little
# else. A look costs some 0.2 ms.
LOOKS = 1_000
# Records asked for in one exchange.
BATCH = 100


class Survey:
    """Looks at the jobs of a workspace, time and again, and at very many of them in turn.

    Attributes:
        foreign: after :meth:`snapshots`, the unfinished jobs without files here, or with copies
            alone.
    """

    def __init__(self, workspace: Workspace, broker: Broker) -> None:
        self.workspace = workspace
        self.broker = broker
        self.foreign: set[str] = set()
        # Jobs of other workspaces that have files here too.
        self._copies: set[str] = set()
        self._last_look = ""
        self._looked_at = 0
        # What was said of jobs whose files cannot be read for now: not said again.
        self._told: dict[str, str] = {}

    def snapshots(
        self, busy_with: str | None, unsettled: Collection[str], *, thorough: bool
    ) -> Iterator[JobSnapshot]:
        """Yield the jobs that may need something: not those that ended on disk and in Redis.

        Not even the lock of the job under way is looked at: its child may be about to take it.

        Args:
            busy_with: the job under way.
            unsettled: jobs to look at again whosever turn it is.
            thorough: take nothing for granted; else see
                :meth:`daemon.recovery.recovery.Recovery.run`.

        Raises:
            RedisError: the server is away.
        """
        known, unfinished = set(self.broker.store.ids()), self.broker.store.unfinished()
        here = list(reversed(job_ids(self.workspace)))
        self._copies &= set(here)
        foreign = (unfinished - set(here)) | (unfinished & self._copies)
        self.foreign = {job_id for job_id in foreign - {busy_with} if JOB_ID.fullmatch(job_id)}
        messages = cache(self.broker.pointed_to)
        ended = [job_id for job_id in here if job_id in known and job_id not in unfinished]
        done = set(ended) - self._unreadable(ended, thorough=thorough)
        wanted = here
        if not thorough:
            open_ones = [i for i in here if i not in done or i in self._copies]
            wanted = self._next(open_ones, unsettled)
        states = self._states(wanted, done, busy_with)
        while batch := dict(islice(states, BATCH)):
            records = {record.id: record for record in self.broker.store.get_many(batch)}
            self.broker.store.index(r for i, r in records.items() if i not in known)
            for job_id, state in batch.items():
                record = records.get(job_id)
                # A record is stored together with its place in the index.
                new = record is None and job_id not in known and not thorough
                if new and state is not None and _is_fresh(state):
                    continue
                if found := self._found(job_id, record, messages):
                    yield found

    def _found(
        self, job_id: str, record: JobRecord | None, messages: Callable[[str], set[str]]
    ) -> JobSnapshot | None:
        """Return what is known of a job; None of one that is none, or cannot be read for now."""
        seen = self._read(job_id, record)
        if seen.where in (Where.MISSING, Where.UNREADABLE):
            return None
        elsewhere, state = seen.where is Where.ELSEWHERE, seen.state
        (self._copies.add if elsewhere else self._copies.discard)(job_id)
        known = state or record
        summary = summary_head(self.workspace.run(job_id))
        running = state is not None and state.state is State.RUNNING
        if state is not None and running and not summary.is_of_attempt(state):
            summary = SummaryHead()  # of an attempt before, which came to its end and was killed
        ended_at = None
        if running:
            ended_at = summary.finished_at or last_word(self.workspace, job_id)
        return replace(
            seen,
            message=known is not None and job_id in messages(known.queue),
            summary=summary.state,
            pruned_by=summary.pruned_by,
            ended_at=ended_at,
            boot=boot_id(),
            spec_damage=spec_damage(self.workspace, job_id) if not (state and record) else None,
            last_attempt=last_attempt(self.workspace, job_id) if state is None else 0,
        )

    def _read(self, job_id: str, record: JobRecord | None) -> JobSnapshot:
        """Return how a job stands, and whether a process lives; says what cannot be read, once."""
        seen = snapshot_of(self.workspace, job_id, record)
        if seen.where is not Where.MISSING:
            try:
                seen = replace(seen, alive=is_held(self.workspace.run(job_id).lock))
            except OSError as error:
                seen = replace(seen, where=Where.UNREADABLE, damage=f"{error.filename}: {error}")
        if seen.where is not Where.UNREADABLE:
            self._told.pop(job_id, None)
        elif self._told.get(job_id) != seen.damage:
            log.error("job_not_readable", job=job_id, reason=seen.damage)
            self._told[job_id] = seen.damage or ""
        return seen

    def _states(
        self, wanted: Iterable[str], ended: set[str], busy_with: str | None
    ) -> Iterator[tuple[str, JobState | None]]:
        """Yield the jobs to be looked at, with what ``state.json`` says where it can be read."""
        for job_id in wanted:
            if job_id == busy_with:
                continue
            state = snapshot_of(self.workspace, job_id).state
            if state is not None and state.state in FINISHED and job_id in ended:
                self._copies.discard(job_id)
            else:
                yield job_id, state

    def _next(self, wanted: list[str], unsettled: Collection[str]) -> list[str]:
        """Return the jobs whose turn it is: all, or where they are very many the next of them.

        Args:
            wanted: in the order of their ids.
        """
        if len(wanted) <= LOOKS:
            return wanted
        first = bisect_right(wanted, self._last_look)
        chosen = (wanted[first:] + wanted[:first])[:LOOKS]
        self._last_look = chosen[-1]
        return sorted({*unsettled, *chosen})

    def _unreadable(self, ended: list[str], *, thorough: bool) -> set[str]:
        """Return the jobs whose records cannot be read, of those that have ended: a part a time."""
        if not thorough:
            begin = self._looked_at if self._looked_at < len(ended) else 0
            self._looked_at = begin + BATCH
            ended = ended[begin : self._looked_at]
        return set(ended) - {record.id for record in self.broker.store.get_many(ended)}


def _is_fresh(state: JobState) -> bool:
    """Tell whether a client may still be telling Redis of the job, which it does before it runs."""
    if state.attempt > 0:
        return False
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(state.updated_at)
    except (ValueError, TypeError):
        return False
    return abs(age.total_seconds()) < FRESH_SECONDS

"""A trial's jobs as they are now: on this machine or another, in Redis or in the files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from redis.exceptions import RedisError

from daemon.client import FarenseClient
from daemon.joblog import LogReader
from daemon.runs.files import job_ids, record_from_files
from daemon.runs.workspace_id import is_home
from daemon.store.job_store import JobStore
from daemon.store.records import JobRecord
from jobs.errors import FarenseError, QueueUnreachable, UnknownJob
from jobs.events import Envelope, Progress, Started, TrainMetrics, Validation, parse_event
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import FINISHED, State
from jobs.sweep.trial import Curve, Trial, curve_of, lowest


@dataclass(frozen=True)
class Followed:
    """A trial and the job it is at.

    Attributes:
        trial: with all that its jobs have said so far.
        record: of its newest job.
        training: that job is a training, and no evaluation of one.
        best: the best validation loss of that training.
    """

    trial: Trial
    record: JobRecord
    training: bool
    best: float | None


class Follower:
    """Follows the jobs of a sweep's trials."""

    def __init__(self, client: FarenseClient) -> None:
        self._client = client
        self._listeners: dict[str, Listener] = {}
        self._ran: dict[str, float] = {}

    def look(self, trial: Trial) -> Followed | None:
        """Return where a trial's newest job has come to; None where there is no such job any more.

        Raises:
            QueueUnreachable: the queue is away.
        """
        training = len(trial.evaluations) < len(trial.jobs)
        job = trial.newest_job
        record = None if job is None else self.record(job)
        if record is None:
            return None
        listeners = [self._listen(job, record) for job in trial.jobs]
        now = listeners[-1]
        curves: list[Curve] = [curve_of(found.losses) for found in listeners]
        seconds = sum(self._seconds(job, record) for job in (*trial.jobs, *trial.evaluations))
        trial = replace(
            trial,
            curves=_longer(curves, trial.curves),
            step=now.step if now.total_steps else trial.step,
            total_steps=now.total_steps or trial.total_steps,
            seconds=round(seconds, 3) or trial.seconds,
            state=_open_state(record),
            baseline_val_loss=_baseline(listeners, record, trial),
        )
        return Followed(trial, record, training, lowest(trial.curves[-1]) if trial.curves else None)

    def record(self, job_id: str) -> JobRecord | None:
        """Return the record of a job, from the files where Redis has lost it.

        Raises:
            QueueUnreachable: the queue is away.
        """
        try:
            return self._client.job(job_id)
        except UnknownJob:
            return record_from_files(self._client.workspace, job_id)

    def end_early(self, found: Followed, by: str) -> None:
        """Have a job end early: a running training keeps what it has, what has not begun goes.

        It is asked again until it has: a request to an attempt that was killed is lost with it.

        Raises:
            QueueUnreachable: the queue is away.
        """
        record = found.record
        if found.training and record.state is State.RUNNING:
            if record.prune_requested is None:
                self._client.end_early(record.id, by)
        elif by == "time" and not record.cancel_requested:
            self._client.cancel(record.id)

    def evaluation_of(self, job_id: str) -> str | None:
        """Return the newest evaluation of a job that was not given up; None without one."""
        workspace = self._client.workspace
        for found in job_ids(workspace):
            try:
                spec = read_spec(workspace.run(found))
            except FarenseError:
                continue
            if spec.evaluation is not None and spec.evaluation.job == job_id:
                record = self.record(found)
                if record and record.state not in (State.FAILED, State.CANCELLED):
                    return found
        return None

    def _listen(self, job_id: str, record: JobRecord) -> Listener:
        listener = self._listeners.get(job_id)
        if listener is None:
            store = self._client.store
            listener = self._listeners[job_id] = Listener(self._client.workspace, store, job_id)
        if job_id == record.id or not listener.losses:
            own = record if job_id == record.id else self.record(job_id)
            if own is not None:
                self._take_in(listener, own)
        return listener

    def _seconds(self, job_id: str, record: JobRecord) -> float:
        """Return the duration of a job, as every screen has it; 0 where it is not known."""
        known = self._ran.get(job_id)
        if known is not None:
            return known
        own = record if job_id == record.id else self.record(job_id)
        seconds = (own.duration_seconds if own else None) or 0.0
        if own is not None and own.finished:
            self._ran[job_id] = seconds
        return seconds

    def _take_in(self, listener: Listener, record: JobRecord) -> None:
        try:
            listener.listen(record)
        except RedisError as error:
            raise QueueUnreachable(f"The queue went away: {error}") from error


def _open_state(record: JobRecord) -> State:
    """Return the state of a trial whose job is at ``record``: its end is not yet the trial's."""
    return State.RUNNING if record.state in FINISHED else record.state


def _longer(new: list[Curve], old: list[Curve]) -> list[Curve]:
    """Return the curves, of each the one that knows more: what is on disk here may be a copy."""
    padded = [*old, *([[]] * max(0, len(new) - len(old)))]
    return [a if len(a) >= len(b) else b for a, b in zip(new, padded, strict=False)]


def _baseline(listeners: list[Listener], record: JobRecord, trial: Trial) -> float | None:
    """Return the validation loss before training; the same for all seeds of a trial."""
    heard = (listener.losses[0] for listener in listeners if 0 in listener.losses)
    known = trial.baseline_val_loss
    return next(heard, record.baseline_val_loss if known is None else known)


class Listener:
    """Follows one job.

    Attributes:
        losses: validation losses by step, the baseline of step 0 among them.
        step, total_steps: of the run.
    """

    def __init__(self, workspace: Workspace, store: JobStore, job_id: str) -> None:
        self._workspace, self._store, self._job_id = workspace, store, job_id
        self._log = LogReader(workspace.job_log(job_id))
        self._last = "0"
        self.losses: dict[int, float] = {}
        self.step = 0
        self.total_steps: int | None = None

    def listen(self, record: JobRecord) -> None:
        """Take in what is new.

        Raises:
            RedisError: the job is on another machine, and the server is away.
        """
        here = is_home(record.home, self._workspace)
        for envelope in self._from_log() if here else self._from_stream():
            self._add(envelope)

    def _from_log(self) -> Iterable[Envelope]:
        while lines := self._log.read():
            yield from lines.events

    def _from_stream(self) -> Iterable[Envelope]:
        while entries := self._store.events.after(self._job_id, self._last, None):
            self._last = entries[-1][0]
            yield from (found for _, line in entries if (found := parse_event(line)))

    def _add(self, envelope: Envelope) -> None:
        match envelope.event:
            case Started() as event:
                self.step, self.total_steps = event.resumed_step, event.total_steps
            case Progress() as event:
                self.step, self.total_steps = event.step, event.total_steps
            case TrainMetrics() as event:
                self.step = event.step
            case Validation() as event:
                self.losses[event.step] = event.val_loss

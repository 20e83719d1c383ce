"""The worker: claim a job, look after its child, record how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from shutil import disk_usage
from threading import Event

import structlog
from redis.exceptions import RedisError

from daemon.host import keep_awake
from daemon.joblog import LogReader, events_at_end, failure_said, last_lines, text_at_end
from daemon.lifecycle.claims import Claims
from daemon.lifecycle.failures import Ending, StopReason, made_progress
from daemon.lifecycle.outcome import Outcome, outcome_of, outcome_of_error
from daemon.lifecycle.takeover import DeferredJobs
from daemon.lifecycle.transitions import Lifecycle
from daemon.lifecycle.waiting import Pending
from daemon.queue.broker import Broker
from daemon.queue.index_repair import put_right
from daemon.queue.reconnect import MAX_DELAY, RedisLink
from daemon.recovery.recovery import Recovery
from daemon.runs.files import record_from_files
from daemon.runs.snapshot import snapshot_of
from daemon.settings import Settings
from daemon.store.progress import LOADING, phase
from daemon.store.records import Claim, JobRecord
from daemon.store.workers import Announcer, own_name
from daemon.sweep.keeper import SweepKeeper
from daemon.worker.admission import Admission
from daemon.worker.child import Child
from daemon.worker.log_mirror import LogMirror
from daemon.worker.terminal import Tell, end_line, start_line
from daemon.worker.watchdog import Watchdog, watchdog_of
from jobs.errors import DiskFull, ExitCode, FarenseError, WorkspaceError
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import JobState, State
from jobs.storage.files import end_torn_line
from jobs.storage.locks import is_held
from jobs.summary_head import summary_head

log = structlog.get_logger(__name__)

# From the kill of a child that a daemon left behind until its lock is free.
LOCK_MARGIN = 30.0
RECHECK_SECONDS = 0.5
# Of a job's log, in which its last checkpoints are looked for.
LOG_BYTES = 4 << 20


class Worker:
    """Runs jobs, one at a time, until ``stop`` is set (with checkpoints) or ``kill`` (at once).

    Args:
        tell: is given a line for a person where a job starts, and where it ends.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        broker: Broker,
        link: RedisLink,
        stop: Event,
        kill: Event,
        tell: Tell = lambda line: None,
    ) -> None:
        self.workspace = workspace
        self.settings = settings
        self.tell = tell
        self.broker = broker
        self.link = link
        self.stop = stop
        self.kill = kill
        self.lifecycle = Lifecycle(workspace, broker, self._job_ended)
        self.claims = Claims(self.lifecycle)
        self.recovery = Recovery(self.lifecycle, settings)
        self.left = DeferredJobs(broker.store, settings.queue)
        self.pending = Pending(self.lifecycle)
        self.admission = Admission(workspace, settings)
        self.sweeps = SweepKeeper(workspace, settings)
        self._job: str | None = None
        self._recheck_at = 0.0
        self.name = own_name()
        self.announcer = Announcer(broker.redis, self.name, workspace, settings)

    def mend(self) -> None:
        """Bring files, records and queue together, where something may have been lost and now and
        then; queue the jobs whose time has come; look after sweeps."""
        self.sweeps.tick()
        lost = self.link.lost_something
        if lost:
            self.link.call(lambda: put_right(self.broker, self.settings.queue))
        self.link.call(self.pending.tick)
        self.link.call(lambda: self.announcer.tell(self._job, self.admission.closed_because))
        lost |= self.link.lost_something
        if not lost and time.monotonic() < self._recheck_at:
            return
        settled = self.link.call(lambda: self.recovery.run(busy_with=self._job, thorough=lost))
        if settled is not None:
            self.link.lost_something = False
            again = self.settings.reconcile_seconds if settled else RECHECK_SECONDS
            self.left.look_again()
            self._recheck_at = time.monotonic() + again
            for job_id in self.recovery.pending:
                self.pending.add(job_id)

    def closed(self) -> bool:
        """Tell whether no job may be started now."""
        return self.admission.look() is not None

    def run_deferred(self) -> bool:
        """Look at a job that another daemon has left; False where there is none to look at.

        Raises:
            RedisError: the server is away.
        """
        job_id = self.left.next()
        if job_id is not None:
            self.run(job_id)
        return job_id is not None

    def leave(self) -> None:
        """Take leave of the queue."""
        self.sweeps.close()
        self.link.call(self.announcer.leave)

    def run(self, job_id: str) -> None:
        """Look at a job that a message points to, and run it where that is ours to do."""
        with structlog.contextvars.bound_contextvars(job=job_id):
            try:
                claim = self._claim(job_id)
            except RedisError as error:
                self.link.lost(error)
                return
            except FarenseError as error:
                log.error("job_not_taken", reason=error.message)
                if isinstance(error, DiskFull):
                    self.admission.disk_is_full()
                return
            if claim is not None:
                self._job = job_id
                try:
                    self._run_claimed(claim)
                finally:
                    self._job = None

    def _claim(self, job_id: str) -> Claim | None:
        if self.stop.is_set() or not self._child_of_before_is_gone(job_id):
            state = snapshot_of(self.workspace, job_id).state
            queue = self.broker.queue(self.settings.queue)
            queue.push(job_id, state.priority if state else 0, resumed=True)
            return None
        claim = self.claims.claim(job_id, self.name)
        if claim is None:
            self.pending.add(job_id)
            # What another machine has to run is looked at again and again.
            log.debug("message_dropped", reason="the job is not queued here")
        return claim

    def _child_of_before_is_gone(self, job_id: str) -> bool:
        """Wait for the child of a daemon that died: it is writing its last checkpoint."""
        lock, waited = self.workspace.run(job_id).lock, 0.0
        orphans = self.recovery.orphans
        while is_held(lock):
            orphans.look(job_id, lock)
            if waited > orphans.patience + LOCK_MARGIN or self.stop.wait(
                self.settings.poll_seconds
            ):
                return False
            waited += self.settings.poll_seconds
        return True

    def _run_claimed(self, claim: Claim) -> None:
        log.info("job_started", attempt=claim.attempt)
        self._tell(start_line, claim.job_id)
        mirror = self._mirror(claim)
        try:
            outcome = self._attempt(claim, mirror)
        except FarenseError as error:
            outcome = self._not_run(claim, error.exit_code, error.message)
        except Exception as error:
            # A mistake of ours must not leave the job running for ever.
            log.exception("supervision_failed", attempt=claim.attempt)
            reason = f"The daemon failed: {error!r}. See logs/daemon.jsonl."
            outcome = self._not_run(claim, ExitCode.FAILED, reason)
        if outcome.hold:
            self.admission.disk_is_full()
        self._record(claim, mirror, outcome)

    def _not_run(self, claim: Claim, code: ExitCode, reason: str) -> Outcome:
        state = snapshot_of(self.workspace, claim.job_id).state or claim.state
        return outcome_of_error(claim.job_id, code, reason, state, self.settings.max_attempts)

    def _mirror(self, claim: Claim) -> LogMirror:
        reader = LogReader(self.workspace.job_log(claim.job_id), claim.log_offset)
        return LogMirror(
            claim,
            reader,
            self.broker.store,
            self.link,
            self.settings.lease_seconds,
            restore=lambda: self.lifecycle.publish(claim.job_id, claim),
        )

    def _attempt(self, claim: Claim, mirror: LogMirror) -> Outcome:
        run = self.workspace.run(claim.job_id)
        state, spec = claim.state, read_spec(run)
        log_path = self.workspace.job_log(claim.job_id)
        stderr = self.workspace.job_stderr(claim.job_id)
        said_before = stderr.stat().st_size if stderr.exists() else 0
        end_torn_line(log_path)
        with Child.start(self.workspace, self.settings, claim.job_id, claim.attempt) as child:
            log.info("child_started", attempt=claim.attempt, pid=child.pid)
            mirror.renewed = child.beat
            mirror.note(pid=child.pid, eta_seconds=None, **phase(LOADING))
            keep_awake(child.pid)
            before = events_at_end(log_path, LOG_BYTES)
            watchdog = watchdog_of(spec.config, before, time.monotonic())
            returncode, verdict = self._look_after(child, mirror, watchdog)
        summary = summary_head(run)
        ending = Ending(
            job=claim.job_id,
            returncode=returncode,
            attempt=claim.attempt,
            stderr=stderr.relative_to(self.workspace.root).as_posix(),
            summary_state=summary.state,
            pruned_by=summary.pruned_by,
            failure=failure_said(log_path, claim.attempt) or last_lines(stderr, said_before),
            stop_requested=self.stop.is_set(),
            cancel_requested=mirror.cancel_requested,
            kill_requested=mirror.kill_requested,
            pause_requested=mirror.pause_requested,
            held_because=self.admission.closed_because,
            queue_away=self.link.away,
            verdict=verdict,
            killed=child.killed,
            said=text_at_end(stderr, said_before),
            killed_for_memory=child.killed_for_memory,
            progressed=made_progress(events_at_end(log_path, LOG_BYTES), claim.attempt),
            disk_free=disk_usage(self.workspace.root).free,
            kind=spec.kind,
            config=spec.config,
            splits=state.splits,
        )
        log.info("child_ended", attempt=claim.attempt, pid=child.pid, code=returncode)
        return outcome_of(ending, state, self.settings.max_attempts)

    def _look_after(
        self, child: Child, mirror: LogMirror, watchdog: Watchdog
    ) -> tuple[int, StopReason | None]:
        """Return the exit code, and why the watchdog had the child stopped, if it had."""
        verdict: StopReason | None = None
        while (returncode := child.wait(self.settings.poll_seconds)) is None:
            verdict = verdict or watchdog.look(time.monotonic(), mirror.log_size)
            if verdict is not None:
                child.stop()
            mirror.sync()
            self.mend()
            child.end_early(mirror.prune_requested)
            if self.kill.is_set() or mirror.kill_requested:
                child.kill()
            wanted = mirror.cancel_requested or mirror.pause_requested or mirror.superseded
            if wanted or self.stop.is_set() or self.closed():
                child.stop()
        mirror.sync()
        return returncode, verdict

    def _record(self, claim: Claim, mirror: LogMirror, outcome: Outcome) -> None:
        """Write the end into ``state.json``, then into Redis, which may be away for now."""
        sent = mirror.carry()
        state = self._conclude(claim, outcome)
        if state is None:
            if self.workspace.run(claim.job_id).path.is_dir():
                log.warning("attempt_superseded", attempt=claim.attempt)
            else:
                log.warning("run_directory_gone", attempt=claim.attempt)
                # The record is all that is left of it: recovery lets it say so.
                self.link.lost_something = True
            return
        log.info("job_ended", attempt=claim.attempt, state=state.state, reason=state.reason)
        if not state.finished:  # else it is told already
            self._tell(end_line, claim.job_id)
        while not mirror.superseded:
            sent = sent or mirror.carry()
            if sent and self._published(claim, state):
                return
            if self.stop.wait(max(self.link.seconds_to_next_try, 0.05)) and self.link.away:
                log.warning("job_not_in_redis", reason="the next daemon brings it there")
                return

    def _job_ended(self, job_id: str, _: JobState) -> None:
        self._tell(end_line, job_id)

    def _tell(self, line: Callable[[JobRecord], str], job_id: str) -> None:
        """Say on the terminal what the files tell of a job: Redis may be away, or behind."""
        with suppress(FarenseError, OSError):  # no job is lost for a line
            record = record_from_files(self.workspace, job_id)
            if record is not None:
                self.tell(line(record))

    def _conclude(self, claim: Claim, outcome: Outcome) -> JobState | None:
        """Write the end down; where the disk is full, wait until it is not."""
        delay = 1.0
        while True:
            try:
                return self.lifecycle.conclude(claim, outcome)
            except WorkspaceError as error:
                log.error("state_not_written", reason=error.message, retry_in=delay)
                if self.stop.wait(delay):
                    raise
                delay = min(delay * 2, MAX_DELAY)

    def _published(self, claim: Claim, state: JobState) -> bool:
        self.link.call(lambda: self.lifecycle.publish(claim.job_id))
        if self.link.away:
            return False
        if state.state is State.QUEUED:
            self._push_again(claim)
        return not self.link.away

    def _push_again(self, claim: Claim) -> None:
        queue = self.broker.queue(self.settings.queue)
        self.link.call(lambda: queue.push(claim.job_id, claim.priority, resumed=True))

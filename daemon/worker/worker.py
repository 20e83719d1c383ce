"""The worker: claim a job, look after its child, record how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event

import structlog
from redis.exceptions import RedisError

from daemon.lifecycle.claims import Claims
from daemon.lifecycle.takeover import DeferredJobs
from daemon.lifecycle.transitions import Lifecycle
from daemon.lifecycle.waiting import Pending
from daemon.night.night import Night
from daemon.notify.happening import What
from daemon.notify.keeper import Notifier
from daemon.notify.lookout import Left, Lookout
from daemon.queue.broker import Broker
from daemon.queue.index_repair import put_right
from daemon.queue.reconnect import RedisLink
from daemon.recovery.recovery import Recovery
from daemon.runs.files import record_from_files
from daemon.runs.snapshot import snapshot_of
from daemon.settings import Settings
from daemon.store.records import Claim, JobRecord
from daemon.store.workers import Announcer, own_name
from daemon.sweep.keeper import SweepKeeper
from daemon.track.keeper import Tracking
from daemon.worker.admission import Admission
from daemon.worker.attempt import Attempts
from daemon.worker.terminal import Tell, end_line
from jobs.errors import DiskFull, FarenseError
from jobs.paths import Workspace
from jobs.state import JobState, State
from jobs.storage.locks import holder, is_held

log = structlog.get_logger(__name__)

# From the kill of a child that a daemon left behind until its lock is free.
LOCK_MARGIN = 30.0
RECHECK_SECONDS = 0.5
# How old may be what others are told of the power.
TOLD_POWER_SECONDS = 30.0


class Worker:
    """Runs jobs, one at a time, until ``stop`` is set (with checkpoints) or ``kill`` (at once).

    Args:
        tell: is given a line for a person where a job starts, and where it ends.
        night: what is done around jobs on this machine.
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
        night: Night | None = None,
    ) -> None:
        self.workspace = workspace
        self.settings = settings
        self.tell = tell
        self.night = night or Night()
        self.broker = broker
        self.link = link
        self.stop = stop
        self.kill = kill
        self.lifecycle = Lifecycle(workspace, broker, self._job_ended)
        self.claims = Claims(self.lifecycle)
        self.recovery = Recovery(self.lifecycle, settings)
        self.left = DeferredJobs(broker.store, settings.queue)
        self.pending = Pending(self.lifecycle)
        self.admission = Admission(workspace, settings, self.night.settings, power=self.night.power)
        self.attempts = Attempts(
            self.lifecycle,
            settings,
            link,
            self.admission,
            stop=stop,
            kill=kill,
            meanwhile=self.mend,
            tell=self._tell,
            night=self.night,
        )
        self.sweeps = SweepKeeper(workspace, settings, on_end=self._sweep_ended)
        self.tracking = Tracking(workspace)
        on_event = self.night.settings.on_event
        self.notifier = Notifier(workspace, on_event, settings.notice_seconds)
        self.lookout = Lookout(
            self.notifier.happened, self._left_to_do, settings.notice_seconds, settings.window
        )
        self._job: str | None = None
        # The job for which the machine rests: afterwards it goes on before all others.
        self._rested: str | None = None
        self._recheck_at = 0.0
        self._failed_with = ""
        self.name = own_name()
        self.announcer = Announcer(broker.redis, self.name, workspace, settings)

    def mend(self) -> None:
        """Bring files, records and queue together, where something may have been lost and now and
        then; queue the jobs whose time has come; look after sweeps; notice what a person should be
        told.

        Whatever is wrong with them is the end neither of the job under way nor of the daemon.
        """
        for duty in (self._mend, self._notice, self.tracking.tick):
            try:
                duty()
            except Exception as error:
                if repr(error) != self._failed_with:
                    log.exception("duties_failed")
                self._failed_with = repr(error)

    def _notice(self) -> None:
        self.notifier.tick()
        if self.notifier.wanted:
            closed, away = self.admission.closed_because, self.link.away
            self.lookout.look(busy=self._job is not None, closed=closed, away=away)
        else:
            self.lookout.forget()

    def _mend(self) -> None:
        self.sweeps.tick()
        lost = self.link.lost_something
        if lost:
            self.link.call(lambda: put_right(self.broker, self.settings.queue))
        self.link.call(self.pending.tick)
        held, power = self.admission.closed_because, self.night.power.look(TOLD_POWER_SECONDS)
        self.link.call(lambda: self.announcer.tell(self._job, held, power.noteworthy))
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
        """Look at a job that goes on after a rest, or that another daemon has left; False where
        there is none to look at.

        Raises:
            RedisError: the server is away.
        """
        job_id, self._rested = self._rested or self.left.next(), None
        if job_id is not None:
            self.run(job_id)
        return job_id is not None

    def leave(self) -> None:
        """Take leave of the queue."""
        self.sweeps.close()
        self.notifier.close()
        self.tracking.close()
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
                self.tracking.began(job_id)
                try:
                    self.attempts.run(claim)
                finally:
                    self._job, self._rested = None, self.attempts.rested

    def _claim(self, job_id: str) -> Claim | None:
        if self._runs_by_hand(job_id):
            log.info("message_dropped", reason="somebody runs the job by hand")
            return None  # recovery pushes it again where it is queued afterwards
        if self.stop.is_set() or not self._child_of_before_is_gone(job_id):
            state = snapshot_of(self.workspace, job_id).state
            own = JobState(State.QUEUED, queue=self.settings.queue)
            self.lifecycle.push(job_id, state or own, first=True)
            return None
        claim = self.claims.claim(job_id, self.name)
        if claim is None:
            self.pending.add(job_id)
            # What another machine has to run is looked at again and again.
            log.debug("message_dropped", reason="the job is not queued here")
        return claim

    def _runs_by_hand(self, job_id: str) -> bool:
        found = holder(self.workspace.run(job_id).lock)
        return found is not None and found.by_hand

    def _child_of_before_is_gone(self, job_id: str) -> bool:
        """Wait for the child of a daemon that died: it is writing its last checkpoint."""
        lock, waited = self.workspace.run(job_id).lock, 0.0
        orphans = self.recovery.orphans
        while is_held(lock):
            orphans.look(job_id, lock)
            self.mend()  # a person may not want to wait for it
            if waited > orphans.patience + LOCK_MARGIN or self.stop.wait(
                self.settings.poll_seconds
            ):
                return False
            waited += self.settings.poll_seconds
        return True

    def _job_ended(self, job_id: str, state: JobState) -> None:
        self._tell(end_line, job_id)
        self.tracking.ended(job_id)
        if state.state is not State.CANCELLED:  # a person who cancels it knows
            self.notifier.ended(job_id, state)
            self.lookout.job_ended(state)

    def _sweep_ended(self, sweep: str) -> None:
        self.notifier.happened(What.SWEEP_ENDED, sweep)

    def _left_to_do(self) -> Left | None:
        """Return what is left to do on the queue of this daemon; None where Redis is away."""
        return self.link.call(self._count_left)

    def _count_left(self) -> Left:
        waiting = self.broker.queue(self.settings.queue).pending_count()
        if waiting:
            return Left(waiting, 0, 0)
        found = self.broker.store.get_many(self.broker.store.unfinished())
        states = [record.state for record in found if record.queue == self.settings.queue]
        paused = states.count(State.PAUSED)
        return Left(0, len(states) - paused + len(self.sweeps.sweeps), paused)

    def _tell(self, line: Callable[[JobRecord], str], job_id: str) -> None:
        """Say on the terminal what the files tell of a job: Redis may be away, or behind."""
        with suppress(FarenseError, OSError):  # no job is lost for a line
            record = record_from_files(self.workspace, job_id)
            if record is not None:
                self.tell(line(record))

"""One attempt of a job: its child started, looked after, and what it came to written down."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from shutil import disk_usage
from threading import Event

import structlog

from daemon.host import keep_awake
from daemon.joblog import LogReader, events_at_end, failure_said, last_lines, text_at_end
from daemon.lifecycle.failures import Ending, StopReason, made_progress
from daemon.lifecycle.outcome import Outcome, outcome_of, outcome_of_error
from daemon.lifecycle.transitions import Lifecycle
from daemon.night.night import Night
from daemon.night.rest import RestWatch, has_stepped
from daemon.queue.position import QueueOrder
from daemon.queue.reconnect import MAX_DELAY, RedisLink
from daemon.runs.snapshot import snapshot_of
from daemon.settings import Settings
from daemon.store.progress import LOADING, phase
from daemon.store.records import Claim, JobRecord
from daemon.worker.admission import Admission
from daemon.worker.child import Child
from daemon.worker.log_mirror import LogMirror
from daemon.worker.terminal import end_line, note_line, start_line
from daemon.worker.watchdog import Watchdog, watchdog_of
from jobs.errors import ExitCode, FarenseError, WorkspaceError
from jobs.kinds import kind_of
from jobs.spec import read_spec
from jobs.state import JobState, State
from jobs.storage.files import end_torn_line
from jobs.summary_head import summary_head

log = structlog.get_logger(__name__)

# Of a job's log, in which its last checkpoints are looked for.
LOG_BYTES = 4 << 20
TellOf = Callable[[Callable[[JobRecord], str], str], None]


class Attempts:
    """Carries out the attempts that a daemon has claimed, one at a time.

    Args:
        stop: set where the daemon is to end, after a checkpoint; ``kill`` where at once.
        meanwhile: the daemon's other duties, called again and again while a child runs.
        tell: called with a function that formats a record as one line, and the id of the job.
        night: what is done around jobs on this machine.

    Attributes:
        rested: the job whose child ended for a rest of the machine, if the last one did: it goes on
            before all others.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        settings: Settings,
        link: RedisLink,
        admission: Admission,
        *,
        stop: Event,
        kill: Event,
        meanwhile: Callable[[], None],
        tell: TellOf,
        night: Night,
    ) -> None:
        self.lifecycle, self.settings = lifecycle, settings
        self.workspace, self.broker = lifecycle.workspace, lifecycle.broker
        self.link, self.admission = link, admission
        self.stop, self.kill = stop, kill
        self._meanwhile, self._tell, self._night = meanwhile, tell, night
        self.rested: str | None = None
        # A job that came no further before its last rest: it runs without one until it does.
        self._restless: str | None = None
        # Bytes, when the last child had ended: what judges its end says when there is space again.
        self._disk_free: int | None = None

    def run(self, claim: Claim) -> None:
        """Run the child of an attempt to its end, and write that down."""
        log.info("job_started", attempt=claim.attempt)
        self._tell(start_line, claim.job_id)
        mirror, self._disk_free, self.rested = self._mirror(claim), None, None
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
            self.admission.disk_is_full(self._disk_free)
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
        held = self._prepare(claim)
        with Child.start(
            self.workspace, self.settings, claim.job_id, claim.attempt, self._night.environment
        ) as child:
            log.info("child_started", attempt=claim.attempt, pid=child.pid)
            mirror.renewed = child.beat
            mirror.note(pid=child.pid, eta_seconds=None, **phase(LOADING + held))
            keep_awake(child.pid)
            before = events_at_end(log_path, LOG_BYTES)
            watchdog = watchdog_of(spec.config, before, time.monotonic())
            rest = self._rest_watch(claim)
            returncode, stopped_because, rests = self._look_after(child, mirror, watchdog, rest)
        until = self._night.resting() if rests else None
        self._disk_free = disk_usage(self.workspace.root).free
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
            held_because=self.admission.closed_because or until,
            queue_away=self.link.away,
            stopped_because=stopped_because,
            killed=child.killed,
            said=text_at_end(stderr, said_before),
            killed_for_memory=child.killed_for_memory,
            progressed=made_progress(events_at_end(log_path, LOG_BYTES), claim.attempt),
            disk_free=self._disk_free,
            kind=kind_of(spec),
            config=spec.config,
            splits=state.splits,
        )
        log.info("child_ended", attempt=claim.attempt, pid=child.pid, code=returncode)
        outcome = outcome_of(ending, state, self.settings.max_attempts)
        self._rest(ending, outcome, until)
        return outcome

    def _prepare(self, claim: Claim) -> str:
        """Prepare the machine; return what is to be said beside the name of the first phase."""
        lines = self._night.prepare()
        for line in lines:
            self._tell(partial(note_line, line), claim.job_id)
        return f" ({'; '.join(lines)})" if lines else ""

    def _rest_watch(self, claim: Claim) -> RestWatch:
        log_path = self.workspace.job_log(claim.job_id)
        return RestWatch(
            None if self._restless == claim.job_id else self._night.settings.rest,
            time.monotonic(),
            lambda: has_stepped(events_at_end(log_path, LOG_BYTES), claim.attempt),
        )

    def _rest(self, ending: Ending, outcome: Outcome, until: str | None) -> None:
        """Let the machine rest where a child has ended for that, and its job is to go on.

        Args:
            until: says when the rest is over; None where the child has not ended for one.
        """
        rest = self._night.settings.rest
        if ending.progressed:
            self._restless = None
        if rest is None or until is None or outcome.state is not State.QUEUED:
            return
        if not ending.progressed:
            # Killed before it had written its checkpoint: it would begin there for ever.
            log.warning("rest_cost_progress", reason="the job now runs without one for a while")
            self._restless = ending.job
        self.rested = ending.job
        self.admission.rest(until, rest.minutes)

    def _look_after(
        self, child: Child, mirror: LogMirror, watchdog: Watchdog, rest: RestWatch
    ) -> tuple[int, StopReason | None, bool]:
        """Return the exit code, why the watchdog had the child stopped, if it had, and whether it
        was stopped for a rest.
        """
        stopped_because: StopReason | None = None
        rests = False
        while (returncode := child.wait(self.settings.poll_seconds)) is None:
            stopped_because = stopped_because or watchdog.look(time.monotonic(), mirror.log_size)
            if stopped_because is not None:
                child.stop()
            mirror.sync()
            self._meanwhile()
            child.end_early(mirror.prune_requested)
            if self.kill.is_set() or mirror.kill_requested:
                child.kill()
            wanted = mirror.cancel_requested or mirror.pause_requested or mirror.superseded
            if wanted or self.stop.is_set() or self.admission.look() is not None:
                child.stop()
            if not child.stop_requested and rest.due(time.monotonic()):
                rests = True
                child.stop()
        mirror.sync()
        return returncode, stopped_because, rests

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
            self.link.call(lambda: self._push(claim.job_id, state))
        return not self.link.away

    def _push(self, job_id: str, state: JobState) -> None:
        if self.rested is None:
            self.lifecycle.push(job_id, state, first=True)
        else:
            # It goes on without its message, which stays behind: a second one is not needed.
            order = QueueOrder(self.broker)
            order.score(job_id, state.queue, state.priority, resumed=True)

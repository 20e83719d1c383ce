"""What commands and notebooks use: enqueue, look, follow, cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from daemon.lifecycle.decisions import cancelled, paused, resumed, started
from daemon.lifecycle.transitions import Lifecycle, Rule
from daemon.queue.broker import Broker
from daemon.reader import QueueReader
from daemon.runs.workspace_id import is_home
from daemon.store.records import JobRecord, state_from
from jobs.errors import InvalidInput
from jobs.paths import Workspace
from jobs.state import DEFAULT_QUEUE, JobState, State

if TYPE_CHECKING:
    from daemon.prune.plan import Plan
    from daemon.prune.removal import Removed
    from daemon.submit.checks import SubmitChecks
    from daemon.submit.placing import Request
    from jobs.config.config import Preset

__all__ = ["FarenseClient"]

Result = TypeVar("Result")

CHANGE_TRIES = 3


class FarenseClient(QueueReader):
    """The queue of a workspace, to look at and to change. Safe to use from several threads.

    Every method raises :class:`jobs.errors.QueueUnreachable` where Redis goes away.
    """

    def __init__(
        self, workspace: Workspace, broker: Broker, queue_name: str = DEFAULT_QUEUE
    ) -> None:
        super().__init__(workspace, broker, queue_name)
        self._lifecycle = Lifecycle(workspace, broker)

    def preset(self, name: str, *overrides: str) -> Preset:
        """Return a preset of the workspace, else of the repository, or a config file.

        Args:
            overrides: settings that differ, as ``--set`` takes them: ``lora.rank=4``.

        Raises:
            ConfigError: there is none, or it is not valid.
        """
        from jobs.config.config import find_preset  # noqa: PLC0415 - loads what only this needs

        return find_preset(name, self.workspace, overrides)

    def ensure_daemon(self) -> int:
        """Return the pid of the workspace's daemon; one is started where none runs.

        It works on when this process has ended; ``farense daemon stop`` ends it.

        Raises:
            WorkspaceError: it does not come up.
        """
        from daemon.process import start_daemon  # noqa: PLC0415 - `status` needs none of it

        return start_daemon(self.workspace)

    def enqueue(
        self,
        preset: Preset,
        *,
        name: str | None = None,
        priority: int = 0,
        schedule: datetime | None = None,
        after: str | None = None,
        after_any: bool = False,
        checks: SubmitChecks | None = None,
    ) -> JobRecord:
        """Accept a job: check it, freeze its data, make its run directory, put it on the queue.

        Args:
            priority: higher goes first.
            schedule: not to be started before this moment, which has a zone.
            after: the id of a job that is to end well first, and to have learned; with
                ``after_any``, to end at all.
            checks: by which it was checked already, which is then not done twice.

        Raises:
            InvalidInput: model, data or config cannot be used, or the job ``after`` has ended badly
                already, or has not learned; nothing was left behind.
            WorkspaceError: the workspace cannot be written.
        """
        from daemon.submit.placing import Request  # noqa: PLC0415 - loads what only this needs

        when = schedule.astimezone(UTC).isoformat() if schedule else None
        state = self._begin(
            JobState(
                State.QUEUED,
                priority=priority,
                schedule=when,
                after=after,
                after_any=after_any,
                queue=self.queue_name,
            )
        )
        if state.finished:
            hint = "To start it all the same: --after-any"
            reason = (state.reason or "").rstrip(".")
            raise InvalidInput(f"The job would never start: {reason}.", hint)
        return self.enqueue_many([Request(preset, name, state)], checks)[0]

    def check(self, *presets: Preset) -> list[str]:
        """Check jobs as :meth:`enqueue` does; return what a person should know of them.

        Raises:
            InvalidInput, WorkspaceError: as there.
        """
        from daemon.submit.checks import Wanted  # noqa: PLC0415 - for the same reason

        said = self._checks().check([Wanted(preset.config) for preset in presets])
        return list(dict.fromkeys(remark for remarks in said for remark in remarks))

    def enqueue_many(
        self, wanted: Sequence[Preset | Request], checks: SubmitChecks | None = None
    ) -> list[JobRecord]:
        """Accept jobs as :meth:`enqueue` does one, in a fraction of the time: all, or none of them.

        They stand on the queue in the order given.

        Args:
            checks: see :meth:`enqueue`.

        Raises:
            InvalidInput: model, data or config of one cannot be used; nothing was left behind.
            WorkspaceError: the workspace cannot be written, or has no room; nothing was left
                behind.
            JobFailed: the process that looks at models and data gives no answer.
        """
        from daemon.submit.enqueue import accept  # noqa: PLC0415 - for the same reason
        from daemon.submit.placing import Request, place_jobs  # noqa: PLC0415

        state = JobState(State.QUEUED, queue=self.queue_name)
        requests = [
            found if isinstance(found, Request) else Request(found, state=state) for found in wanted
        ]
        placed = place_jobs(requests, self.workspace, checks or self._checks())
        return accept(self._lifecycle, placed)

    def retry(
        self,
        job_id: str,
        *,
        from_checkpoint: bool = False,
        overrides: Sequence[str] = (),
        checks: SubmitChecks | None = None,
    ) -> JobRecord:
        """Enqueue a new job that does what another, which has ended, was to do.

        Args:
            from_checkpoint: it goes on from the last checkpoint rather than from the beginning.
            overrides: settings that differ, as ``--set`` takes them; not from a checkpoint.
            checks: by which it is checked; some of its own where left out.

        Raises:
            InvalidInput: the job has not ended, its files are not here, there is no checkpoint, or
                a setting is not allowed.
        """
        from daemon.submit.enqueue import accept  # noqa: PLC0415 - loads what only this needs
        from daemon.submit.retry import place_again  # noqa: PLC0415

        checks = checks or self._checks()
        if overrides:
            return self.enqueue_many([self.changed(job_id, *overrides)], checks=checks)[0]
        placed = place_again(job_id, self.workspace, checks, from_checkpoint=from_checkpoint)
        return accept(self._lifecycle, [placed])[0]

    def changed(self, job_id: str, *overrides: str) -> Request:
        """Return the request for a job that has ended, with some settings changed; queue nothing.

        Raises:
            InvalidInput: the job has not ended, its files are not here, or a setting is not
                allowed.
        """
        from daemon.submit.retry import changed_request  # noqa: PLC0415 - loads what only this needs

        return changed_request(job_id, self.workspace, overrides)

    def evaluate(
        self,
        job_id: str,
        *,
        max_new_tokens: int | None = None,
        batch_size: int | None = None,
        ignore_accents: bool = False,
        priority: int = 0,
        anywhere: bool = False,
        after_any: bool = False,
        checks: SubmitChecks | None = None,
    ) -> JobRecord:
        """Enqueue an evaluation of a training job; of one that has not ended, after it ends well.

        Where that job turns out not to have learned, its evaluation fails and says so.

        Args:
            max_new_tokens: of an answer; twice as many as the longest reference has where left out.
            batch_size: questions that are answered together.
            ignore_accents: whether accents make no difference to the scores.
            priority: higher goes first.
            anywhere: also of a job of this workspace that another has taken over: the machine
                with its adapter then takes the evaluation.
            after_any: however the job ends, also where it has not learned.
            checks: by which the training was just checked: what it has is not looked at again.

        Raises:
            InvalidInput: the job cannot be evaluated; nothing was left behind.
            WorkspaceError: the workspace cannot be written.
        """
        from daemon.submit.enqueue import accept  # noqa: PLC0415 - loads what only this needs
        from daemon.submit.evaluation import evaluation_of, place_evaluation  # noqa: PLC0415

        record = self.job(job_id)
        wanted = evaluation_of(record.id, max_new_tokens, batch_size, ignore_accents=ignore_accents)

        def begin(after: str | None) -> JobState:
            # On the queue of the training: a daemon of this workspace works on it.
            state = JobState(
                State.QUEUED,
                priority=priority,
                queue=record.queue,
                after=after,
                after_any=after_any and after is not None,
            )
            return self._begin(state)

        placed = place_evaluation(
            record, wanted, self.workspace, begin, checks or self._checks(), anywhere=anywhere
        )
        return accept(self._lifecycle, [placed])[0]

    def release(self, job_id: str) -> JobRecord:
        """Let any machine run a job that waits for the one with its checkpoint; return the record.

        Raises:
            InvalidInput: it does not wait, or no other machine could run it.
        """
        from daemon.lifecycle.takeover import release  # noqa: PLC0415 - `status` needs none of it

        record = self.job(job_id)
        self._ask(lambda: release(self._store, record))
        self._ask(lambda: self._lifecycle.push(record.id, state_from(record)))
        return self.job(record.id)

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """Cancel a job that waits, at once; ask the worker of one that runs. Returns the record.

        A finished job stays as it is.

        Args:
            force: kill a running job rather than wait for its last checkpoint.
        """

        def done(record: JobRecord) -> bool:
            return record.cancel_requested and record.kill_requested >= force

        return self._change(job_id, done, partial(cancelled, force=force))

    def end_early(self, job_id: str, by: str) -> None:
        """Have a running training end now, with what it has reached: a trial that is pruned.

        Args:
            by: who wants it, in small letters: the name of a pruner, or ``time``.
        """
        record = self.job(job_id)
        wish = {"prune_requested": by}
        self._ask(lambda: self._store.update(job_id, record.attempt, wish))

    def pause(self, job_id: str) -> JobRecord:
        """Pause a job that waits, at once; ask the worker of one that runs. Returns the record.

        A finished or paused job stays as it is.
        """
        return self._change(
            job_id,
            lambda record: record.state is State.PAUSED or record.pause_requested,
            paused,
        )

    def resume(self, job_id: str) -> JobRecord:
        """Let a paused job go on: from its last checkpoint, at its time, after its other job.

        Raises:
            JobFailed: its files are on another machine.
        """
        record = self.job(job_id)
        rule = partial(resumed, begin=self._begin)
        self._ask(lambda: self._lifecycle.change(record.id, rule))
        return self.job(record.id)

    def start(self, job_id: str) -> JobRecord:
        """Queue a job now that has a start time, follows another or is paused; return the record.

        One that is queued or runs stays as it is.

        Raises:
            InvalidInput: the job has ended, or is the evaluation of a job that has not.
            JobFailed: its files are on another machine.
        """
        record = self.job(job_id)
        if record.finished:
            raise InvalidInput(
                f"{record.id} is {record.state} already.",
                f"Queue it once more: farense retry {record.id}",
            )
        other = self.job(record.evaluates) if record.evaluates else None
        if other is not None and not other.finished:
            raise InvalidInput(
                f"{record.id} evaluates {other.id}, which is {other.state}.",
                "It starts when that one has ended.",
            )
        if record.pause_requested:
            return self.resume(job_id)
        self._ask(lambda: self._lifecycle.change(record.id, started))
        return self.job(record.id)

    def move(self, job_id: str, priority: int | None = None) -> JobRecord:
        """Give a job that waits another priority, or one above all queued jobs; return the record.

        Raises:
            InvalidInput: the job runs or has ended.
            JobFailed: its files are on another machine.
        """
        from daemon.queue.position import QueueOrder  # noqa: PLC0415 - for the same reason

        record = self.job(job_id)
        if priority is None:
            priority = self._ask(lambda: QueueOrder(self._broker).top(record))
        self._ask(partial(self._lifecycle.reprioritize, record, priority))
        return self.job(record.id)

    def prune(self, plan: Plan) -> Removed:
        """Remove what a plan of :func:`daemon.prune.plan.plan_prune` names: files, then records.

        Where Redis goes away meanwhile, the records stay for the next prune.
        """
        from daemon.prune.removal import carry_out  # noqa: PLC0415 - for the same reason

        return carry_out(self.workspace, plan, self._forget)

    def _forget(self, job_id: str) -> None:
        """Remove the record of a job whose files are gone, unless another machine has the job."""
        record = self._store.get(job_id)
        if record is None or is_home(record.home, self.workspace):
            self._store.forget(job_id)

    def _change(
        self,
        job_id: str,
        done: Callable[[JobRecord], bool],
        rule: Rule,
    ) -> JobRecord:
        for _ in range(CHANGE_TRIES):
            record = self.job(job_id)
            if record.finished or done(record):
                break
            # The job may move on between the look and the change: look again.
            self._ask(partial(self._lifecycle.change, record.id, rule))
        return self.job(job_id)

    def _checks(self) -> SubmitChecks:
        from daemon.submit.checks import SubmitChecks  # noqa: PLC0415 - for the same reason

        return SubmitChecks(self.workspace, shared=self._store.shared)

    def _begin(self, state: JobState) -> JobState:
        """Return the state of a job that is to start as soon as it may."""
        from daemon.lifecycle.waiting import begun  # noqa: PLC0415 - for the same reason

        return self._ask(lambda: begun(self.workspace, self._broker, state))

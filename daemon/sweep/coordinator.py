"""The coordinator of a sweep: it keeps as many trials on the queue as there are workers for them.

Each trial is an ordinary job. The coordinator watches their losses, has those end early that will
come to nothing, tells the sampler what came of each, and has the best evaluated. All it knows is in
the sweep's folder after each step, so that another goes on where one was killed. Read
:meth:`Coordinator.tick` first.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from daemon.client import FarenseClient
from daemon.store.records import JobRecord
from daemon.submit.placing import Request
from daemon.sweep.capacity import Capacity, workers_for
from daemon.sweep.start import change_sweep
from daemon.sweep.study import Study
from daemon.sweep.trial_follower import Followed, Follower
from jobs.config.config import Preset, TrainConfig
from jobs.errors import ConfigError, InvalidInput
from jobs.spec import SweepTrial, day_of_sweep
from jobs.state import FINISHED_WELL, JobState, State, now
from jobs.sweep.budget import Budget, trial_seconds
from jobs.sweep.folder import read_sweep, read_sweep_state, write_trial
from jobs.sweep.paths import SweepFolder
from jobs.sweep.plan import config_of
from jobs.sweep.space import settings_of
from jobs.sweep.trial import (
    Trial,
    best_job,
    best_trial,
    failures_in_a_row,
    mean,
    outcome,
    without_a_value,
)

log = structlog.get_logger(__name__)

# Trials in a row that do not fit into memory: the space has no other left, or hardly.
MOST_REFUSED = 25
OUT_OF_MEMORY, TIME = "out_of_memory", "time"


class Coordinator:
    """Coordinates one sweep.

    Args:
        trials: what is known of its trials (:func:`daemon.sweep.known.known_trials`).
        evaluation_seconds: the longest evaluation of such a model on such data, if there was one.
    """

    def __init__(
        self,
        folder: SweepFolder,
        client: FarenseClient,
        trials: list[Trial],
        evaluation_seconds: float | None,
    ) -> None:
        self.folder, self.client, self.workspace = folder, client, client.workspace
        self.spec, self.state = read_sweep(folder), read_sweep_state(folder)
        self.plan = self.spec.plan
        self.trials = {trial.number: trial for trial in trials}
        self.study = Study(folder.study, self.spec.id, self.plan, trials)
        self.capacity = Capacity(
            self.workspace,
            self.spec.base,
            self.plan.constraints.memory_gb,
            day_of_sweep(self.spec.id),
        )
        self.follower = Follower(client)
        self.exhausted = False
        self._evaluation_seconds = 0.0 if self.plan.maximizes else evaluation_seconds
        for trial in trials:
            if trial.ended:
                self.study.tell(trial)
            else:
                write_trial(folder, trial)
        if trials and self.state.active:
            self._note_standing()

    def tick(self) -> bool:
        """Do what is to be done now; False once nothing will be any more.

        Raises:
            QueueUnreachable: the queue is away; the next tick goes on.
            FarenseError: something that trying again will not mend, or not soon.
        """
        self.state = read_sweep_state(self.folder)
        if not self.state.active:
            return False
        for trial in self._open():
            self._look_after(trial)
        self._ask()
        return bool(self._open()) or self._may_ask() or not self._conclude()

    # Trials under way.

    def _open(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if not trial.ended]

    def _look_after(self, trial: Trial) -> None:
        """Bring a trial up to what its jobs have come to."""
        if not trial.jobs:
            self._enqueue(trial)
            return
        found = self.follower.look(trial)
        if found is None:
            self._end(trial, State.FAILED, f"its job {trial.jobs[-1]} is gone")
            return
        trial = self._keep(found.trial)
        # Of several seeds the first is looked at: the others are not at the same place.
        losses = [loss for _, loss in trial.curves[0]] if trial.curves else []
        validated = self.study.report(trial.number, losses)
        if found.record.finished:
            self._next_part(trial, found)
            return
        self._prune(trial, found, validated=validated)

    def _prune(self, trial: Trial, found: Followed, *, validated: bool) -> None:
        """Have a trial end early where its time is up, or where it will come to nothing."""
        by = trial.pruned_by
        first = validated and found.training and len(trial.jobs) == 1
        if by is None and first and self.study.should_prune(trial.number):
            by = self.plan.pruner.kind
        if by is None and self._budget().is_over(datetime.now(UTC)):
            by = TIME
        if by is None:
            return
        if by != trial.pruned_by:
            log.info("trial_pruned", trial=trial.number, by=by, job=found.record.id)
            self._keep(replace(trial, pruned_by=by))
        self.follower.end_early(found, by)

    def _next_part(self, trial: Trial, found: Followed) -> None:
        """Go on after the end of a trial's job: evaluate it, train with another seed, or end."""
        record = found.record
        if record.state not in FINISHED_WELL:
            self._end_badly(trial, found)
            return
        if found.training:
            trial = self._keep(replace(trial, pruned_by=record.pruned_by))
            if self.plan.maximizes:
                if record.pruned_by is None:
                    self._evaluate(trial, record.id)
                    return
            elif (value := found.best) is not None:
                trial = self._value(trial, value)
        elif record.token_f1 is not None:
            trial = self._value(trial, record.token_f1)
        late = self._budget().is_over(datetime.now(UTC))
        if trial.pruned or late or len(trial.jobs) >= self.plan.seeds_per_trial:
            self._end(trial, record.state if found.training else State.COMPLETED, record.reason)
        else:
            self._enqueue(trial)

    def _value(self, trial: Trial, value: float) -> Trial:
        """Note the value of a trial's newest training; noting it twice is noting it once."""
        earlier = trial.values[: len(trial.jobs) - 1]
        return self._keep(replace(trial, values=[*earlier, value]))

    def _end_badly(self, trial: Trial, found: Followed) -> None:
        if (record := found.record).state is State.CANCELLED and trial.pruned_by == TIME:
            begun = "while it waited to go on" if trial.step else "before it had begun"
            self._end(trial, State.CANCELLED, f"the sweep's time was up {begun}")
            return
        trial = replace(trial, pruned_by=None, failure=record.failure)
        self._end(trial, record.state, record.reason)

    def _end(self, trial: Trial, state: State, reason: str | None) -> None:
        value = mean(trial.values)
        trial = self._keep(replace(trial, state=state, value=value, reason=reason, ended_at=now()))
        self.study.tell(trial)
        log.info("trial_ended", trial=trial.number, state=state, value=value, reason=reason)
        self._note_standing()

    def _note_standing(self) -> None:
        best = best_trial(self.trials.values(), maximizes=self.plan.maximizes)
        self._change(best=best.number if best else None, importances=self.study.importances())

    def _keep(self, trial: Trial) -> Trial:
        """Write a trial down, where it has changed."""
        if self.trials.get(trial.number) != trial:
            write_trial(self.folder, trial)
            self.trials[trial.number] = trial
        return trial

    # New trials.

    def _may_ask(self) -> bool:
        """Tell whether another trial may be started, now or once a worker is free."""
        most = self.state.trials
        if self.exhausted or (most is not None and len(self.trials) >= most):
            return False
        if failures_in_a_row(self.trials.values()) >= self.plan.give_up_after:
            return False
        seconds = trial_seconds(list(self.trials.values()))
        return self._budget().allows(seconds, datetime.now(UTC))

    def _ask(self) -> None:
        """Start trials for the workers that are free."""
        refused = 0
        while self._may_ask() and refused < MOST_REFUSED:
            jobs = [job for trial in self._open() for job in (*trial.jobs, *trial.evaluations)]
            if len(self._open()) >= workers_for(self.client, self.spec.queue, jobs):
                return
            trial = self._new_trial()
            if trial is None:
                self.exhausted = True
            elif trial.ended:
                refused += 1
            else:
                self._enqueue(trial)
        self.exhausted |= refused >= MOST_REFUSED

    def _new_trial(self) -> Trial | None:
        """Ask for a trial and write it down, before any job of it exists; None without any left."""
        number = max(self.trials, default=-1) + 1
        params = self.study.ask(number)
        if params is None:
            return None
        trial = Trial(number, params, settings_of(self.plan.space, params), asked_at=now())
        trial = self._keep(trial)
        log.info("trial_asked", trial=number, params=params)
        try:
            refusal = self.capacity.refusal(self._config(trial), self._out_of_memory())
        except ConfigError as error:
            refusal = error.message
        if refusal is not None:
            self._end(trial, State.FAILED, refusal)
        return self.trials[number]

    def _enqueue(self, trial: Trial) -> None:
        """Enqueue the next training of a trial."""
        part = len(trial.jobs)
        preset = Preset(name=Path(self.plan.preset).stem, config=self._config(trial, part))
        named = f"{self.spec.name} #{trial.number}" + (f".{part}" if part else "")
        sweep = SweepTrial(self.spec.id, trial.number, part, trial.params)
        first = JobState(State.QUEUED, queue=self.spec.queue)
        try:
            request = Request(preset, named, first, sweep, self.spec.sources)
            [record] = self.client.enqueue_many([request])
        except InvalidInput as error:
            self._end(trial, State.FAILED, error.message)
            return
        self._keep(replace(trial, jobs=[*trial.jobs, record.id]))

    def _evaluate(self, trial: Trial, job_id: str) -> None:
        try:
            record = self.client.evaluate(job_id, anywhere=True)
        except InvalidInput as error:
            self._end(trial, State.FAILED, error.message)
            return
        self._keep(replace(trial, evaluations=[*trial.evaluations, record.id]))

    def _config(self, trial: Trial, part: int = 0) -> TrainConfig:
        return config_of(self.plan, self.spec.base, trial.params, part)

    def _out_of_memory(self) -> list[tuple[int, TrainConfig]]:
        failed = [trial for trial in self.trials.values() if trial.failure == OUT_OF_MEMORY]
        return [(trial.number, self._config(trial)) for trial in failed]

    def _budget(self) -> Budget:
        began = datetime.fromisoformat(self.spec.created_at)
        until = datetime.fromisoformat(self.state.until) if self.state.until else None
        return Budget(began, until, self._evaluation_seconds)

    # The end.

    def _conclude(self) -> bool:
        """Have the best trial evaluated; True once the sweep has ended."""
        best = best_trial(self.trials.values(), maximizes=self.plan.maximizes)
        if best is None:
            reason = without_a_value(self.trials.values())
            self._change(state=State.FAILED, reason=reason)
            return True
        state, reason = outcome(
            self.trials.values(),
            self.state.trials,
            self.plan.give_up_after,
            exhausted=self.exhausted,
        )
        try:
            record = self._evaluation(best_job(best, maximizes=self.plan.maximizes))
        except InvalidInput as error:
            reason = f"{reason}; the best was not evaluated: {error.message}"
        else:
            if not record.finished:
                return False
            if record.state is not State.COMPLETED:
                reason = f"{reason}; the best was not evaluated: {record.reason}"
        self._change(state=state, best=best.number, reason=reason)
        log.info("sweep_ended", state=state, reason=reason, best=best.number)
        return True

    def _evaluation(self, job: str) -> JobRecord:
        """Return the evaluation of the best trial's job, enqueued where there is none yet."""
        known = self.state.evaluation or self.follower.evaluation_of(job)
        record = self.follower.record(known) if known else None
        record = record or self.client.evaluate(job, anywhere=True)
        if self.state.evaluation != record.id:
            self._change(evaluation=record.id)
        return record

    def _change(self, **changes: object) -> None:
        self.state = change_sweep(self.folder, self.workspace, **changes)

"""From a training job to the accepted spec of its evaluation: checked before the queue is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from daemon.lifecycle.transitions import place
from daemon.runs.snapshot import snapshot_of
from daemon.runs.training import check_adapter, check_has_adapter, check_model, training_of
from daemon.runs.workspace_locks import freezing
from daemon.store.records import state_from
from daemon.submit.checks import SubmitChecks
from daemon.submit.run_directory import new_run_directory, versions
from jobs.errors import DataError, InvalidInput
from jobs.kinds import EVALUATION
from jobs.paths import Workspace
from jobs.spec import EvaluationSpec, JobSpec, read_spec
from jobs.state import JobState, now

if TYPE_CHECKING:
    from daemon.store.records import JobRecord

RETRAIN = "Queue the training again with one: --set data.valid=data/valid.jsonl"


def evaluation_of(
    job: str, max_new_tokens: int | None, batch_size: int | None, *, ignore_accents: bool
) -> EvaluationSpec:
    """Return what an evaluation asks; what is None is as usual.

    Raises:
        InvalidInput: a number that makes no sense.
    """
    given = {"max_new_tokens": max_new_tokens, "batch_size": batch_size}
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return EvaluationSpec(job, ignore_accents=ignore_accents, **chosen)
    except ValueError as error:
        raise InvalidInput(f"Such an evaluation cannot be made: {error}.") from error


def place_evaluation(
    record: JobRecord,
    evaluation: EvaluationSpec,
    workspace: Workspace,
    begin: Callable[[str | None], JobState],
    checks: SubmitChecks,
    *,
    anywhere: bool = False,
) -> tuple[JobSpec, JobState]:
    """Make the run directory of an evaluation.

    Args:
        record: of the job to evaluate.
        begin: returns the state in which the evaluation begins, after a job where one is named.
        checks: by which it is checked.
        anywhere: also of a job that another workspace has taken over, and ended well.

    Raises:
        InvalidInput: the job is no training job, has no validation set, no adapter (and will not
            get one), its files or its model are not here, it has ended badly meanwhile, or as
            :meth:`daemon.submit.checks.SubmitChecks.check`.
        WorkspaceError: the workspace cannot be written, or has no room.
    """
    elsewhere = anywhere and snapshot_of(workspace, record.id, record).own is None
    if elsewhere:
        # Of a job that was enqueued here the spec still is.
        trained, state = workspace.run(record.id), state_from(record)
        spec = read_spec(trained)
    else:
        spec, trained, state = training_of(record, workspace, "Evaluate")
    if spec.valid is None:
        raise InvalidInput(
            f"{record.id} has no validation set, so there is nothing to evaluate.", RETRAIN
        )
    if state.finished and not elsewhere:
        check_has_adapter(trained, state)
    check_model(spec, workspace)
    if elsewhere:
        # The machine with the adapter takes it; here may be no more than the questions.
        _check_data(spec, workspace, checks)
    else:
        arrays = checks.check_spec(spec, spec.prompts_written_on, evaluated=True)
        if state.finished:
            check_adapter(trained, arrays)
    with freezing(workspace):
        # A prune may have taken them meanwhile.
        _check_data(spec, workspace, checks)
        first = begin(None if state.finished else record.id)
        if first.finished:
            raise InvalidInput(f"The evaluation would never start: {first.reason}.")
        run = new_run_directory(EVALUATION.id_stem(spec.preset), workspace)
        placed = replace(
            spec,
            id=run.job_id,
            kind=EVALUATION.name,
            name=None,
            created_at=now(),
            versions=versions(),
            evaluation=evaluation,
            prompt_date=spec.prompts_written_on,
        )
        first = replace(first, updated_at=placed.created_at)
        place(workspace, [(placed, first)])
    return placed, first


def _check_data(spec: JobSpec, workspace: Workspace, checks: SubmitChecks) -> None:
    if spec.valid is None or not (path := workspace.inside(spec.valid.path)).exists():
        raise DataError(f"The validation data of {spec.id} are gone.", "Enqueue it again.")
    checks.check_questions(path, spec.config.get("prompt_format", "farense"))

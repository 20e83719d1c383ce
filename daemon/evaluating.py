"""From a training job to the accepted order of its evaluation: checked before the queue is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from daemon.changing import freezing
from daemon.machines.home import shown
from daemon.new_run import id_stem, new_run_directory, versions
from daemon.standing import Here, refuse_damaged, standing_of
from jobs.errors import DataError, InvalidInput, ModelError
from jobs.order import EVALUATE, Evaluation, Order, read_order, write_order
from jobs.paths import RunDirectory, Workspace
from jobs.state import FINISHED, FINISHED_WELL, JobState, now, write_state

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.records import JobRecord
    from jobs.prompts import PromptFormat

RETRAIN = "Enqueue it anew with one: --set data.valid=FILE"


def evaluation_of(
    job: str, max_new_tokens: int | None, batch_size: int | None, *, ignore_accents: bool
) -> Evaluation:
    """Return what an evaluation asks; what is None is as usual.

    Raises:
        InvalidInput: a number that makes no sense.
    """
    given = {"max_new_tokens": max_new_tokens, "batch_size": batch_size}
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return Evaluation(job, ignore_accents=ignore_accents, **chosen)
    except ValueError as error:
        raise InvalidInput(f"Such an evaluation cannot be made: {error}.") from error


def place_evaluation(
    record: JobRecord,
    evaluation: Evaluation,
    workspace: Workspace,
    begin: Callable[[str | None], JobState],
) -> tuple[Order, JobState]:
    """Make the run directory of an evaluation.

    Args:
        record: of the job to evaluate.
        begin: returns the state in which the evaluation begins, after a job where one is named.

    Raises:
        InvalidInput: the job is no training job, has no validation set, no adapter (and will not
            get one), its files or its model are not here, or it has ended badly meanwhile.
        WorkspaceError: the workspace cannot be written.
    """
    order, trained = _training(record, workspace)
    state = _own_state(record, workspace)
    if state.state in FINISHED and not trained.adapter_weights.is_file():
        raise InvalidInput(
            f"{record.id} has no adapter: it is {state.state}, and there is no "
            f"{trained.adapter_weights.relative_to(workspace.root)}.",
            None if state.state in FINISHED_WELL else f"Train it anew: farense retry {record.id}",
        )
    _check_model(order, workspace)
    with freezing(workspace):
        _check_data(order, workspace)
        first = begin(None if state.state in FINISHED else record.id)
        if first.finished:
            raise InvalidInput(f"The evaluation would never start: {first.reason}.")
        run = new_run_directory(id_stem(order.preset, EVALUATE), workspace)
        placed = replace(
            order,
            id=run.job_id,
            kind=EVALUATE,
            name=None,
            created_at=now(),
            versions=versions(),
            evaluation=evaluation,
        )
        first = replace(first, updated_at=placed.created_at)
        write_order(run, placed)
        write_state(run, first)
    return placed, first


def check_questions(path: Path, prompt_format: PromptFormat) -> None:
    """Check that there is something to ask in a validation set.

    Raises:
        DataError: there is not.
    """
    from jobs.examples import Dialogue, read_examples  # noqa: PLC0415 - `status` needs neither
    from jobs.prompts import check_prompt_format  # noqa: PLC0415

    rows = read_examples(path)
    check_prompt_format(rows, prompt_format)
    if not any(isinstance(row, Dialogue) for row in rows):
        raise DataError(
            f"{path} holds texts alone, and no questions: there is nothing to answer.",
            'An evaluation needs rows with {"prompt", "completion"} or {"messages"}.',
        )


def _training(record: JobRecord, workspace: Workspace) -> tuple[Order, RunDirectory]:
    """Return the order of a training job, and its run directory."""
    if record.kind == EVALUATE:
        raise InvalidInput(
            f"{record.id} is an evaluation itself.", f"It evaluates {record.evaluates}."
        )
    _own_state(record, workspace)
    run = workspace.run(record.id)
    order = read_order(run)
    if order.valid is None:
        raise InvalidInput(f"{record.id} has no validation set, so nothing to be asked.", RETRAIN)
    return order, run


def _own_state(record: JobRecord, workspace: Workspace) -> JobState:
    standing = standing_of(workspace, record.id, record)
    refuse_damaged(standing)
    if not isinstance(standing, Here):
        raise InvalidInput(
            f"The files of {record.id} are not in this workspace.",
            f"Evaluate it where they are: {shown(record.home) or 'unknown'}.",
        )
    return standing.state


def _check_model(order: Order, workspace: Workspace) -> None:
    from jobs.config import config_from  # noqa: PLC0415 - `status` needs neither
    from jobs.models.store import check_model, fingerprint  # noqa: PLC0415

    model = workspace.inside(config_from(order.config, f"the order of {order.id}").model)
    check_model(model)
    if fingerprint(model) != order.model_fingerprint:
        raise ModelError(
            f"The model in {model} has changed since {order.id} was enqueued: its adapter does not "
            "fit it any more.",
            "Put the old model back.",
        )


def _check_data(order: Order, workspace: Workspace) -> None:
    if order.valid is None or not (path := workspace.inside(order.valid.path)).exists():
        raise DataError(f"The validation data of {order.id} are gone.", "Enqueue it anew.")
    check_questions(path, order.config.get("prompt_format", "farense"))

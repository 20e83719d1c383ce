"""A training job of this workspace, for commands that use its adapter themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.runs.files import job_ids
from daemon.runs.snapshot import not_here, refuse_damaged, snapshot_of
from jobs.errors import InvalidInput, ModelError
from jobs.kinds import kind_of
from jobs.paths import RunDirectory, Workspace
from jobs.spec import JobSpec, read_spec
from jobs.state import FINISHED_WELL, State
from jobs.storage.files import read_json
from jobs.storage.locks import is_held

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.store.records import JobRecord
    from jobs.model_store.safetensors_header import TensorEntry
    from jobs.state import JobState


def training_of(
    record: JobRecord, workspace: Workspace, verb: str
) -> tuple[JobSpec, RunDirectory, JobState]:
    """Return the spec of a training job, its run directory and its state.

    Args:
        verb: what is to be done with it: ``Evaluate``, say.

    Raises:
        InvalidInput: it is no training job, or its files are not here.
        JobFailed: its ``state.json`` is damaged.
    """
    if not kind_of(record).trains:
        raise InvalidInput(
            f"{record.id} is an evaluation itself.", f"It evaluates {record.evaluates}."
        )
    seen = snapshot_of(workspace, record.id, record)
    refuse_damaged(seen)
    if (state := seen.own) is None:
        raise InvalidInput(*not_here(record.id, record, verb))
    run = workspace.run(record.id)
    return read_spec(run), run, state


def check_has_adapter(run: RunDirectory, state: JobState) -> None:
    """Check that a training job has a best adapter.

    Raises:
        InvalidInput: it has none, or none yet.
    """
    if run.adapter_weights.is_file():
        return
    hint = "It will have one after its first validation."
    if state.finished:
        hint = f"Train it anew: farense retry {run.job_id}"
    raise InvalidInput(
        f"{run.job_id} has no adapter: it {state.state.verb}, and there is no "
        f"{run.adapter_weights.relative_to(run.path.parent.parent)}.",
        None if state.state in FINISHED_WELL else hint,
    )


def check_adapter(run: RunDirectory, expected: Mapping[str, TensorEntry]) -> None:
    """Check that the adapter of a training job is whole and that of its model, by its header.

    Args:
        expected: the arrays that it has, by their names.

    Raises:
        ModelError: it is not.
    """
    from jobs.model.adapter_arrays import differences, misfit  # noqa: PLC0415 - `status` needs neither
    from jobs.model_store.safetensors_header import read_header  # noqa: PLC0415

    try:
        found = read_header(run.adapter_weights)
        settings = read_json(run.adapters / "adapter_config.json")
    except (OSError, ValueError) as error:
        raise ModelError(f"The adapter in {run.adapters} is damaged: {error}") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{run.adapters / 'adapter_config.json'} holds no JSON object.")
    if differing := differences(found, expected):
        raise misfit(run.job_id, differing)


def check_model(spec: JobSpec, workspace: Workspace) -> None:
    """Check that the model of a job is here, whole, and the one it was ordered with.

    Raises:
        ModelError: it is not.
    """
    from jobs.config.config import config_from  # noqa: PLC0415 - `status` needs neither
    from jobs.model_store.folder import check_unchanged  # noqa: PLC0415

    config = config_from(spec.config, f"job.json of {spec.id}")
    check_unchanged(workspace.model(config.model), spec.model_fingerprint)


def running_here(workspace: Workspace) -> list[str]:
    """Return the jobs whose child runs in this workspace at this moment: their locks say so."""
    return [
        job_id
        for job_id in job_ids(workspace)
        # A lock is looked at by taking it: only where somebody may hold it.
        if (state := snapshot_of(workspace, job_id).state) is not None
        and state.state is State.RUNNING
        and is_held(workspace.run(job_id).lock)
    ]

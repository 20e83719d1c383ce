"""From a job that has ended to a new one that does the same, anew or from its last checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime

from daemon.lifecycle.transitions import place
from daemon.runs.snapshot import refuse_damaged, snapshot_of
from daemon.runs.workspace_locks import freezing
from daemon.submit.checks import SubmitChecks
from daemon.submit.placing import FIRST, Request
from daemon.submit.run_directory import new_run_directory, point_latest_to, versions
from jobs.errors import CheckpointError, DataError, InvalidInput
from jobs.kinds import kind_of
from jobs.paths import RunDirectory, Workspace
from jobs.spec import JobSpec, read_spec
from jobs.state import FINISHED, JobState, State, now
from jobs.storage.files import explain
from jobs.training.checkpoint_files import TORN, described, newest_first


def place_again(
    job_id: str, workspace: Workspace, checks: SubmitChecks, *, from_checkpoint: bool = False
) -> tuple[JobSpec, JobState]:
    """Make the run directory of a new job that does what another, which has ended, was to do.

    Args:
        checks: by which it is checked.
        from_checkpoint: it goes on from the last checkpoint, with the metrics and the best adapter
            of that moment, as if it had never ended.

    Raises:
        InvalidInput: it has not ended, its files, model or data are not here, it has no checkpoint
            to go on from, or as :meth:`daemon.submit.checks.SubmitChecks.check`.
        WorkspaceError: the workspace cannot be written, or has no room.
    """
    from jobs.config.config import config_from  # noqa: PLC0415 - `status` needs neither
    from jobs.model_store.folder import check_unchanged, fingerprint  # noqa: PLC0415

    old, ended = _ended(job_id, workspace)
    spec = read_spec(old)
    model = workspace.model(config_from(spec.config, str(old.job)).model)
    checkpoints = [path.name for path in old.path.glob("checkpoint_*")] if from_checkpoint else []
    if from_checkpoint and not checkpoints:
        raise InvalidInput(f"{job_id} has no checkpoint.", "Leave out --from-checkpoint.")
    # What it goes on with, or asks, was trained by that model, and on the prompts of that day.
    goes_on = from_checkpoint or not kind_of(spec).trains
    day = spec.prompts_written_on if goes_on else datetime.now().date().isoformat()
    checks.check_spec(spec, day)
    if from_checkpoint:
        _check_checkpoint(old)
        check_unchanged(model, spec.model_fingerprint)
    else:
        spec = replace(spec, model_fingerprint=fingerprint(model))
    # Until the new spec names the data, a prune of the old job would take them with it.
    with freezing(workspace):
        for file in spec.frozen_files:
            if not workspace.inside(file.path).exists():  # pruned meanwhile
                raise DataError(
                    f"The data of {job_id} are gone: {file.source}.", "Enqueue it again."
                )
        run = new_run_directory(kind_of(spec).id_stem(spec.preset), workspace)
        _copy_progress(old, run, checkpoints)
        spec = replace(spec, id=run.job_id, created_at=now(), prompt_date=day)
        spec = replace(spec, versions=versions())
        state = replace(FIRST, queue=ended.queue, updated_at=spec.created_at)
        place(workspace, [(spec, state)])
    if kind_of(spec).trains:
        point_latest_to(run)
    return spec, state


def changed_request(job_id: str, workspace: Workspace, overrides: Sequence[str]) -> Request:
    """Return the request for a new job: another's, which has ended, with some settings changed.

    Its data are those that the job froze, unless a change names others. It has no name, which was
    given to the other settings, and is no trial of a sweep.

    Raises:
        InvalidInput: the job has not ended, is no training, its files are not here, or a setting
            is not allowed.
    """
    from jobs.config.config import Preset, config_from  # noqa: PLC0415 - `status` needs neither
    from jobs.config.config_file import apply_override  # noqa: PLC0415

    run, ended = _ended(job_id, workspace)
    spec = read_spec(run)
    if spec.evaluation is not None:
        raise InvalidInput(
            f"{job_id} is an evaluation, which has no settings of its own.",
            f"Change those of the training: farense retry {spec.evaluation.job}",
        )
    settings = deepcopy(spec.config)
    for override in overrides:
        apply_override(settings, override)
    config = config_from(settings, f"{job_id} with --set")
    preset = Preset(name=spec.preset, config=config, made_from=(job_id, *spec.made_from))
    names = {file.path: file.source for file in spec.frozen_files}
    return Request(preset, state=replace(FIRST, queue=ended.queue), names=names)


def _ended(job_id: str, workspace: Workspace) -> tuple[RunDirectory, JobState]:
    """Return the run directory of a job that has ended, and its state."""
    seen = snapshot_of(workspace, job_id)
    refuse_damaged(seen)
    if (state := seen.state) is None:
        raise InvalidInput(f"The files of {job_id} are not in this workspace.")
    if state.state not in FINISHED:
        raise InvalidInput(
            f"{job_id} {state.state.verb}: only a job that has ended can be retried.",
            _instead(job_id, state.state),
        )
    return workspace.run(job_id), state


def _instead(job_id: str, state: State) -> str:
    """Return what to type for a job that has not ended."""
    if state is State.PAUSED:
        return f"It goes on with: farense resume {job_id}"
    if state is State.SCHEDULED or state is State.WAITING:
        return f"It starts at once with: farense start {job_id}"
    return f"To end it first: farense cancel {job_id}"


def _check_checkpoint(run: RunDirectory) -> None:
    """Check that a run has a whole checkpoint: it would begin anew without a word of it.

    Raises:
        InvalidInput: it has none, or the newest is of a newer farense.
    """
    for path in newest_first(run):
        try:
            described(path)
        except CheckpointError as error:
            raise InvalidInput(error.message, error.hint) from error
        except TORN:
            continue
        return
    raise InvalidInput(f"{run.job_id} has no whole checkpoint.", "Leave out --from-checkpoint.")


def _copy_progress(old: RunDirectory, run: RunDirectory, checkpoints: list[str]) -> None:
    """Copy checkpoints and what belongs to them; nothing where there are none."""
    if not checkpoints:
        return
    try:
        for name in (*checkpoints, old.adapters.name):
            if (old.path / name).exists():
                shutil.copytree(old.path / name, run.path / name)
        for file in (old.metrics, old.training_state):
            if file.exists():
                shutil.copy2(file, run.path / file.name)
    except OSError as error:
        shutil.rmtree(run.path, ignore_errors=True)
        raise explain(error, run.path) from error

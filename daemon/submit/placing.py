"""From a preset to an accepted spec: check everything, freeze the data, make the run directory.

All of it happens before the queue is told. What can be refused is refused here, where the person
who typed the command reads the reason.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.latest import LATEST
from daemon.lifecycle.transitions import place
from daemon.runs.workspace_locks import freezing
from daemon.submit.checks import Parts, SubmitChecks, Wanted
from daemon.submit.data_files import DataFiles, count
from daemon.submit.run_directory import new_run_directory, point_latest_to, versions
from jobs.errors import InvalidInput
from jobs.paths import REPOSITORY, RunDirectory, Workspace
from jobs.spec import JobSpec, SweepTrial, day_of_sweep
from jobs.state import JobState, State
from jobs.storage.values import printable

if TYPE_CHECKING:
    from jobs.config.config import Preset, TrainConfig
    from jobs.config.step_plan import Schedule

FIRST = JobState(State.QUEUED)
LONGEST_NAME = 200
# How ids begin: with their time.
LIKE_AN_ID = re.compile(r"\d{8}-\d{6}(-.*)?")


@dataclass(frozen=True)
class Request:
    """A job that somebody wants.

    Attributes:
        name: what they call it.
        state: in which the job begins, with its priority.
        sweep: the trial of a sweep that it is.
        names: see :class:`daemon.submit.checks.Wanted`.
    """

    preset: Preset
    name: str | None = None
    state: JobState = FIRST
    sweep: SweepTrial | None = None
    names: Mapping[str, str] = field(default_factory=dict)


def plan(preset: Preset, workspace: Workspace) -> Schedule:
    """Return the steps and validations a preset's run would have; counts the examples.

    Raises:
        DataError: a data file is missing or has lines that cannot be used.
    """
    files = DataFiles(workspace)
    train, _ = files.of(preset.config)
    return preset.config.schedule(count(train).examples)


def place_job(
    preset: Preset, workspace: Workspace, *, name: str | None = None, priority: int = 0
) -> tuple[JobSpec, JobState]:
    """Make the run directory of a new job, with ``job.json`` and ``state.json``.

    Raises:
        InvalidInput: the name cannot be one, or as :meth:`daemon.submit.checks.SubmitChecks.check`.
        JobFailed: as there.
        WorkspaceError: the workspace cannot be written, or has no room.
    """
    state = replace(FIRST, priority=priority)
    return place_jobs([Request(preset, name, state)], workspace)[0]


def place_jobs(
    requests: Sequence[Request], workspace: Workspace, checks: SubmitChecks | None = None
) -> list[tuple[JobSpec, JobState]]:
    """Make the run directories of new jobs; where that fails for one, none of them stays.

    What many of them share is read, checked and frozen once, and all is on disk before the first of
    them counts as accepted: before it has its ``state.json``.

    Args:
        checks: by which they are checked; some of their own where left out.

    Raises:
        InvalidInput, JobFailed, WorkspaceError: as :func:`place_job` does.
    """
    checks = checks or SubmitChecks(workspace)
    for request in requests:
        _check_name(request.name or "", workspace)
    checks.check([_wanted(request) for request in requests])
    # Until the specs name the data, a prune would take them for nobody's.
    with freezing(workspace):
        frozen = [checks.freeze(each.preset.config, each.names) for each in requests]
        return _placed(requests, frozen, workspace)


def _wanted(request: Request) -> Wanted:
    day = day_of_sweep(request.sweep.sweep) if request.sweep else None
    return Wanted(request.preset.config, day, names=request.names)


def _check_name(name: str, workspace: Workspace) -> None:
    """Refuse a name that could not be shown in one line, or that means something else already.

    Raises:
        InvalidInput: it is too long, holds what no terminal shows, or is ``latest``, a preset or
            like the id of a job.
    """
    if len(name) > LONGEST_NAME or printable(name) != name:
        raise InvalidInput(
            f"{name[:LONGEST_NAME]!r} cannot be the name of a job.",
            f"A name is one line of at most {LONGEST_NAME} characters.",
        )
    # In letters of any size: some file systems make no difference, and nor does the eye.
    word = name.casefold()
    folders = (workspace.configs, REPOSITORY / "configs")
    presets = {path.stem.casefold() for folder in folders for path in folder.glob("*.yaml")}
    if word == LATEST or LIKE_AN_ID.fullmatch(word) or word in presets:
        raise InvalidInput(
            f"{name!r} cannot be the name of a job: it means something else already.",
            "Give a name that is no preset, not `latest`, and does not look like a job's id.",
        )


def _placed(
    requests: Sequence[Request], frozen: Sequence[Parts], workspace: Workspace
) -> list[tuple[JobSpec, JobState]]:
    runs: list[RunDirectory] = []
    try:
        placed = []
        for request, parts in zip(requests, frozen, strict=True):
            runs.append(new_run_directory(request.preset.name, workspace))
            placed.append(_spec(request, runs[-1].job_id, parts))
        place(workspace, placed)
    except BaseException:
        for run in runs:
            shutil.rmtree(run.path, ignore_errors=True)
        raise
    if runs:
        point_latest_to(runs[-1])
    return placed


def _spec(request: Request, job_id: str, parts: Parts) -> tuple[JobSpec, JobState]:
    config = request.preset.config
    spec = JobSpec(
        id=job_id,
        preset=request.preset.name,
        # To the microsecond: jobs that were queued together stay in order.
        created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        config=_frozen_config(config, parts),
        train=parts.train,
        valid=parts.valid,
        model_fingerprint=parts.model_fingerprint,
        total_steps=config.schedule(parts.train.examples).total_steps,
        name=request.name,
        versions=versions(),
        sweep=request.sweep,
        prompt_date=_prompt_date(request.sweep),
        made_from=list(request.preset.made_from),
        init_from=parts.init_from,
    )
    return spec, replace(request.state, updated_at=spec.created_at)


def _prompt_date(sweep: SweepTrial | None) -> str:
    """Return the day that a job's prompts hold: today's, but one for all trials of a sweep."""
    day = day_of_sweep(sweep.sweep) if sweep else None
    return day or datetime.now().date().isoformat()


def _frozen_config(config: TrainConfig, parts: Parts) -> dict[str, object]:
    values: dict[str, object] = config.model_dump(mode="json")
    data = {"train": parts.train.path, "valid": parts.valid.path if parts.valid else None}
    start = parts.init_from.path if parts.init_from else None
    return {**values, "model": parts.model, "data": data, "init_from": start}

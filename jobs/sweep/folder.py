"""``checkpoints_qlora/sweeps/<id>/``: what a sweep leaves on disk.

``sweep.json`` is what was ordered, never changed again; ``state.json`` where the sweep stands;
``trials/<number>.json`` what became of each trial. They are the truth. ``study.db`` is the
sampler's view of them, made again from them, or from the trials' own jobs, where it is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs.config.config import TrainConfig, config_from
from jobs.errors import InvalidInput, JobFailed
from jobs.paths import JOB_ID, Workspace, end_of_id
from jobs.state import DEFAULT_QUEUE, State, now
from jobs.storage.files import from_plain, read_json, write_json
from jobs.storage.values import well_typed
from jobs.suggest import did_you_mean
from jobs.sweep.paths import SweepFolder, sweeps_of
from jobs.sweep.plan import SweepPlan, plan_from
from jobs.sweep.trial import Trial, trial_from

VERSION = 1
TRIAL_FILE = re.compile(r"\d{4,}\.json")
# A sweep runs, rests, and ends, in the words of a job.
SWEEP_STATES = (State.RUNNING, State.PAUSED, State.COMPLETED, State.FAILED)


@dataclass(frozen=True)
class SweepSpec:
    """What a sweep is to do.

    Attributes:
        name: what it is called; its id and those of its jobs are made of it.
        plan: the sweep file.
        base: the config that every trial starts from; its data paths name frozen files.
        queue: on which its jobs stand.
        sources: what the person calls the frozen data files, by their paths; empty in sweeps of
            older versions.
    """

    id: str
    name: str
    created_at: str
    plan: SweepPlan
    base: TrainConfig
    queue: str = DEFAULT_QUEUE
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepState:
    """Where a sweep stands.

    Attributes:
        until: when it is to have ended, ISO 8601 in UTC; None where only its trials end it.
        trials: how many there are to be at the most; None for as many as the time allows.
        best: the number of the best trial so far.
        evaluation: the id of the job that evaluates it.
        importances: of the searched settings, how much of the differences each explains; they add
            up to 1. Empty until there are enough trials.
        reason: why it is where it is, for a person.
    """

    state: State = State.RUNNING
    until: str | None = None
    trials: int | None = None
    best: int | None = None
    evaluation: str | None = None
    importances: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    updated_at: str = ""

    @property
    def active(self) -> bool:
        """Whether there is something to coordinate."""
        return self.state is State.RUNNING


def sweep_ids(workspace: Workspace) -> list[str]:
    """Return the ids of the sweeps of a workspace, newest first: an id begins with its time."""
    folder = sweeps_of(workspace)
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted((name for name in names if JOB_ID.fullmatch(name)), reverse=True)


def find_sweep(
    workspace: Workspace,
    argument: str = "latest",
    usable: Callable[[SweepFolder], bool] = lambda _: True,
) -> SweepFolder:
    """Return the sweep that an id, a unique part of one, or ``latest`` names.

    Args:
        usable: tells which will do; ``latest`` is the newest of those, where there is none the
            newest.

    Raises:
        InvalidInput: it names none, or several.
    """
    ids = sweep_ids(workspace)
    if not ids:
        raise InvalidInput(
            "There is no sweep in this workspace.",
            "Start one: farense sweep configs/sweeps/overnight.yaml",
        )
    if argument == "latest":
        folders = [SweepFolder(sweeps_of(workspace) / found) for found in ids]
        return next(filter(usable, folders), folders[0])
    found = [i for i in ids if argument in i]
    found = [argument] if argument in found else found
    if len(found) != 1:
        what = f"{len(found)} sweeps match" if found else "there is no such sweep"
        meant = "" if found else did_you_mean(argument, ["latest", *map(end_of_id, ids)])
        shown = f"Sweeps: {', '.join((found or ids)[:5])} (farense sweep list)"
        raise InvalidInput(f"{argument!r}: {what}.", f"{meant} {shown}".lstrip())
    return SweepFolder(sweeps_of(workspace) / found[0])


def write_sweep(folder: SweepFolder, spec: SweepSpec) -> None:
    """Write ``sweep.json``."""
    values = {
        "version": VERSION,
        "id": spec.id,
        "name": spec.name,
        "created_at": spec.created_at,
        "queue": spec.queue,
        "plan": spec.plan.model_dump(mode="json"),
        "base": spec.base.model_dump(mode="json"),
        "sources": spec.sources,
    }
    write_json(folder.spec, values)


def read_sweep(folder: SweepFolder) -> SweepSpec:
    """Return what a sweep is to do.

    Raises:
        InvalidInput: the file is missing or damaged, or a newer farense wrote it.
    """
    try:
        values = read_json(folder.spec)
        version = values["version"]
        sweep, name, created = (str(values[key]) for key in ("id", "name", "created_at"))
        plan, base, queue = values["plan"], values["base"], str(values["queue"])
        named = {str(path): str(name) for path, name in values.get("sources", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{folder.spec} is missing or damaged: {error}") from error
    if version > VERSION:
        raise InvalidInput(f"{folder.spec} was written by a newer farense.", "Update farense.")
    source = str(folder.spec)
    parts = plan_from(plan, source), config_from(base, source)
    return SweepSpec(sweep, name, created, *parts, queue, named)


def write_sweep_state(folder: SweepFolder, state: SweepState) -> SweepState:
    """Replace ``state.json``, and return what stands there now."""
    state = replace(state, updated_at=now())
    write_json(folder.state, asdict(state))
    return state


def read_sweep_state(folder: SweepFolder) -> SweepState:
    """Return where a sweep stands.

    Raises:
        JobFailed: the file is missing or damaged.
    """
    try:
        values = read_json(folder.state)
        state = SweepState(**{**values, "state": State(values["state"])})
        if not well_typed(state) or state.state not in SWEEP_STATES:
            raise TypeError("a value has another type than it should have")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobFailed(
            f"{folder.state} is missing or damaged: {error}",
            "The daemon of this workspace makes it again: farense daemon",
        ) from error
    return state


def write_trial(folder: SweepFolder, trial: Trial) -> None:
    """Write the file of a trial."""
    write_json(folder.trial(trial.number), asdict(trial))


def read_trials(folder: SweepFolder) -> list[Trial]:
    """Return the trials by their numbers; a file that cannot be read is left out."""
    if not folder.trials.is_dir():
        return []
    paths = sorted(p for p in folder.trials.iterdir() if TRIAL_FILE.fullmatch(p.name))
    found = (_trial(path) for path in paths)
    return sorted((trial for trial in found if trial), key=lambda trial: trial.number)


def _trial(path: Path) -> Trial | None:
    try:
        values: Any = from_plain(read_json(path))
        trial = trial_from(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return trial if path.stem == f"{trial.number:04}" else None

"""What ``farense prune`` would remove: decided from the files, without touching any.

A job is removed only after it has ended, while no process holds its ``run.lock`` and no job that is
still to run needs it. :mod:`daemon.prune.removal` does the removing.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from daemon.runs.files import job_ids
from daemon.runs.snapshot import snapshot_of
from daemon.store.records import JobRecord
from jobs.paths import JOB_ID, RunDirectory, Workspace
from jobs.state import FINISHED, JobState, State
from jobs.storage.files import read_json
from jobs.storage.locks import is_held

PRUNED = ".pruned-"
"""Stands before the name of what is being removed: no listing takes it for a job any more."""

DATA_FILE = re.compile(r"[0-9a-f]{64}\.(?:jsonl|safetensors)")
CHECKPOINTS = ("checkpoint_*", ".checkpoint_*")


@dataclass(frozen=True)
class Selection:
    """Which jobs a person wants to be rid of; all of it must hold.

    Attributes:
        older_than: ended at least this long ago.
        keep: not one of this many that ended last, of those in ``states``.
        states: how they ended.
        checkpoints_only: remove their checkpoints and keep everything else.
    """

    older_than: timedelta | None = None
    keep: int | None = None
    states: frozenset[State] = FINISHED
    checkpoints_only: bool = False


@dataclass(frozen=True)
class EndedJob:
    """A job that has ended.

    Attributes:
        bytes: what removing it, or its checkpoints, frees.
    """

    id: str
    state: State
    ended: datetime
    bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """What is to be removed.

    Attributes:
        jobs: newest first.
        data: frozen data that only these jobs name, or none at all, and the bytes of each file.
        leftovers: what an earlier prune that was interrupted has set aside.
        kept: the id of each job that was selected and has to stay, and why.
        bytes: what all of it frees: less than the sum where files have a link elsewhere.
    """

    jobs: list[EndedJob]
    data: dict[Path, int]
    leftovers: list[Path]
    checkpoints_only: bool = False
    kept: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to remove."""
        return not (self.jobs or self.data or self.leftovers)


def plan_prune(
    workspace: Workspace,
    selection: Selection,
    records: Iterable[JobRecord] = (),
    now: datetime | None = None,
) -> Plan:
    """Return what a selection would remove.

    Args:
        records: what the queue knows of jobs that have not ended, those of other machines included.
    """
    selected = _selected(workspace, selection, now or datetime.now(UTC))
    stay = jobs_to_keep(workspace, records)
    kept, jobs = {}, []
    for job in selected:
        paths = paths_of(workspace, job.id, checkpoints_only=selection.checkpoints_only)
        if not paths:
            continue
        if reason := stay.get(job.id) or _in_the_way(workspace.run(job.id)):
            kept[job.id] = reason
        else:
            jobs.append(EndedJob(job.id, job.state, job.ended, freed(paths)))
    going = {job.id for job in jobs}
    data = [] if selection.checkpoints_only else unnamed_data(workspace, going)
    sizes = {path: freed([path]) for path in data}
    plan = Plan(jobs, sizes, leftovers(workspace), selection.checkpoints_only, kept)
    return replace(plan, bytes=freed(_all_paths(workspace, plan)))


def jobs_to_keep(workspace: Workspace, records: Iterable[JobRecord] = ()) -> dict[str, str]:
    """Return the jobs that must stay whatever was selected, each with the reason.

    A job that has not ended may name others: the one it starts after, one whose adapter it takes.
    """
    keep: dict[str, str] = {}
    for record in records:
        if not record.finished:
            keep[record.id] = f"the queue still has it as {record.state}"
            if record.after:
                keep[record.after] = f"{record.id} needs it"
    for sweep, named in unfinished_sweeps(workspace).items():
        keep |= dict.fromkeys(named, f"the sweep {sweep} needs it")
    for job_id in job_ids(workspace):
        state = snapshot_of(workspace, job_id).state
        if state is not None and state.state not in FINISHED:
            named = set(JOB_ID.findall(_text(workspace.run(job_id)))) - {job_id}
            keep |= dict.fromkeys(named, f"{job_id} needs it")
    return keep


def unfinished_sweeps(workspace: Workspace) -> dict[str, set[str]]:
    """Return the jobs that sweeps name which have not ended, by the sweeps' ids."""
    found: dict[str, set[str]] = {}
    for path in (workspace.runs / "sweeps").glob("*/state.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if read_json(path)["state"] in FINISHED:
                continue
        trials = sorted(path.parent.glob("trials/*.json"))
        text = "\n".join(trial.read_text(errors="replace") for trial in trials)
        found[path.parent.name] = set(JOB_ID.findall(text))
    return found


def paths_of(workspace: Workspace, job_id: str, *, checkpoints_only: bool) -> list[Path]:
    """Return the files and folders that go with a job, or with its checkpoints."""
    run = workspace.run(job_id)
    if checkpoints_only:
        return [path for pattern in CHECKPOINTS for path in run.path.glob(pattern)]
    logs = (workspace.job_log(job_id), workspace.job_stderr(job_id))
    return [run.path, *(path for path in logs if path.exists())]


def unnamed_data(workspace: Workspace, without: Iterable[str] = ()) -> list[Path]:
    """Return the frozen data files that no run names, those of the jobs ``without`` left out.

    None at all where the spec of some run cannot be read: it may name any of them.
    """
    going, named = set(without), set[str]()
    for sweep in unfinished_sweeps(workspace):
        # Trials that are still to come have this data.
        with suppress(FileNotFoundError):
            spec = (workspace.runs / "sweeps" / sweep / "sweep.json").read_text(errors="replace")
            named.update(DATA_FILE.findall(spec))
    for job_id in job_ids(workspace):
        if job_id not in going:
            try:
                spec = workspace.run(job_id).job.read_text(errors="replace")
            except FileNotFoundError:  # it was never wholly enqueued
                continue
            except OSError:
                return []
            named.update(DATA_FILE.findall(spec))
    found = workspace.imported.iterdir() if workspace.imported.is_dir() else ()
    return sorted(p for p in found if DATA_FILE.fullmatch(p.name) and p.name not in named)


def leftovers(workspace: Workspace) -> list[Path]:
    """Return what was set aside to be removed and is still there."""
    runs = [workspace.run(job_id).path for job_id in job_ids(workspace)]
    folders = [folder for folder in (workspace.runs, *runs) if folder.is_dir()]
    return sorted(path for folder in folders for path in folder.glob(f"{PRUNED}*"))


def freed(paths: Iterable[Path]) -> int:
    """Return the bytes that removing files and folders frees: what has a link elsewhere stays."""
    links, files = Counter[tuple[int, int]](), {}
    for path in paths:
        for found in _files(path):
            key = (found.st_dev, found.st_ino)
            links[key] += 1
            files[key] = found
    return sum(file.st_size for key, file in files.items() if links[key] >= file.st_nlink)


def _all_paths(workspace: Workspace, plan: Plan) -> Iterator[Path]:
    for job in plan.jobs:
        yield from paths_of(workspace, job.id, checkpoints_only=plan.checkpoints_only)
    yield from plan.data
    yield from plan.leftovers


def _selected(workspace: Workspace, selection: Selection, now: datetime) -> list[EndedJob]:
    ended = [job for job in _ended(workspace) if job.state in selection.states]
    ended.sort(key=lambda job: (job.ended, job.id), reverse=True)
    older_than = selection.older_than or timedelta.min
    return [job for job in ended[selection.keep or 0 :] if now - job.ended >= older_than]


def _ended(workspace: Workspace) -> Iterator[EndedJob]:
    for job_id in job_ids(workspace):
        state = snapshot_of(workspace, job_id).state
        if state is not None and state.state in FINISHED:
            yield EndedJob(job_id, state.state, _moment(workspace.run(job_id), state))


def _moment(run: RunDirectory, state: JobState) -> datetime:
    """Return when a job ended; where ``state.json`` does not say so, when that was written."""
    try:
        moment = datetime.fromisoformat(state.updated_at)
    except (ValueError, TypeError):
        return datetime.fromtimestamp(run.state.stat().st_mtime, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _in_the_way(run: RunDirectory) -> str | None:
    if run.path.is_symlink():
        return f"{run.path} is a link"
    return "its process still runs" if is_held(run.lock) else None


def _text(run: RunDirectory) -> str:
    texts = []
    for path in (run.job, run.state):
        try:
            texts.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)


def _files(path: Path) -> Iterator[os.stat_result]:
    """Yield what there is to know of the files at and below ``path``; links are not followed."""
    whole = path.is_dir() and not path.is_symlink()
    found = ((folder, name) for folder, _, names in os.walk(path) for name in names)
    for file in (Path(*names) for names in found) if whole else (path,):
        with suppress(FileNotFoundError):  # it is being removed by somebody else
            yield file.lstat()

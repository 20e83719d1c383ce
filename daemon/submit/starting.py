"""The adapter that ``init_from`` names: a job's, or one in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from daemon.file_client import FileClient
from daemon.latest import ADAPTER
from daemon.runs.frozen_data import freeze_content
from daemon.runs.snapshot import snapshot_of
from daemon.runs.training import check_has_adapter
from jobs.errors import InvalidInput, UnknownJob
from jobs.paths import Workspace
from jobs.spec import InitialAdapter

if TYPE_CHECKING:
    from jobs.model.foreign_adapter import ForeignAdapter

WHAT = "init_from names a job with an adapter, or the folder of one: an export, mlx-lm's, PEFT's."


def adapter_named(named: str, workspace: Workspace) -> ForeignAdapter:
    """Return the adapter that ``init_from`` names, as it is now.

    That is a job (an id, a unique part of one, a name, ``latest``), or a folder, relative to the
    workspace or absolute. Where a name means both, it is the job; ``./name`` is the folder. An
    evaluation stands for the job that it evaluates.

    Raises:
        InvalidInput: there is no such job or folder, it has no adapter (yet), or one from which no
            training can start.
        ModelError: the adapter is damaged.
    """
    from jobs.model.foreign_adapter import read_foreign  # noqa: PLC0415 - loads NumPy

    path = workspace.root / Path(named).expanduser()
    if "/" not in named:
        try:
            return read_foreign(_run_of(named, workspace))
        except UnknownJob as error:
            if not path.exists():
                raise InvalidInput(f"init_from: {error.message}", WHAT) from error
    if not path.exists():
        raise InvalidInput(f"init_from: there is no folder {path}.", WHAT)
    return read_foreign(path)


def frozen(adapter: ForeignAdapter, workspace: Workspace) -> InitialAdapter:
    """Freeze an adapter beside the data, in one form whatever it came in.

    Raises:
        WorkspaceError: the workspace cannot be written.
    """
    path, digest = freeze_content(adapter.content(), "safetensors", workspace)
    origin, relative = adapter.origin, path.relative_to(workspace.root).as_posix()
    about = origin.source, origin.form, origin.sha256, origin.job
    return InitialAdapter(relative, digest, *about)


def _run_of(named: str, workspace: Workspace) -> Path:
    """Return the run directory of a training job that has an adapter."""
    jobs = FileClient(workspace)
    record = jobs.job(named, ADAPTER)
    if record.evaluates is not None:
        record = jobs.job(record.evaluates)
    run = workspace.run(record.id)
    state = snapshot_of(workspace, record.id, record).state
    if state is None:
        raise InvalidInput(f"init_from: the files of {record.id} are not in this workspace.")
    check_has_adapter(run, state)
    return run.path

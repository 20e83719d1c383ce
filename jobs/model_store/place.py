"""Where the model of a config lies: in the workspace, or elsewhere, shared by several workspaces.

A job names its model by a path within the workspace, so that another machine, or the same
workspace moved, finds its own copy. A config may also name a folder by its absolute path: what
makes a job of it puts a link into ``models/``.
"""

from __future__ import annotations

import os
from pathlib import Path

from jobs.errors import InvalidInput, ModelError
from jobs.paths import Workspace
from jobs.storage.files import explain


def model_folder(workspace: Workspace, model: str) -> Path:
    """Return the folder of the model that a config names; whether it is there is not looked at.

    Args:
        model: within the workspace; or absolute, or from the home folder on (``~/...``).

    Raises:
        InvalidInput: a relative path that leads out of the workspace.
    """
    elsewhere = _elsewhere(workspace, model)
    return elsewhere or workspace.model(_within(workspace, model))


def check_place(workspace: Workspace, model: str) -> None:
    """Check that a job can name the model of a config by a path within the workspace.

    Raises:
        InvalidInput: a relative path that leads out of the workspace.
        ModelError: ``models/`` has another folder of this name.
    """
    elsewhere = _elsewhere(workspace, model)
    if elsewhere is None:
        workspace.model(_within(workspace, model))
        return
    link = workspace.models / elsewhere.name
    if _is_there(link) and not _same(link, elsewhere):
        led = f", a link to {link.readlink()}" if link.is_symlink() else ""
        raise ModelError(
            f"{model} cannot be linked into {workspace.models}: there is another "
            f"{elsewhere.name} there{led}.",
            f"Link it under another name: ln -s {elsewhere} {link}-2; then "
            f"--set model=models/{link.name}-2",
        )


def linked(workspace: Workspace, model: str) -> str:
    """Return the path within the workspace by which a job names the model of a config.

    A folder elsewhere gets a link in ``models/``, under its own name.

    Raises:
        InvalidInput, ModelError: as :func:`check_place`.
        WorkspaceError: the link cannot be made.
    """
    check_place(workspace, model)
    name = name_in_job(workspace, model)
    elsewhere = _elsewhere(workspace, model)
    if elsewhere is None:
        return name
    link = workspace.root / name
    try:
        workspace.models.mkdir(parents=True, exist_ok=True)
        if not _is_there(link):
            link.symlink_to(elsewhere, target_is_directory=True)
    except FileExistsError:
        check_place(workspace, model)  # another process was faster
    except OSError as error:
        raise explain(error, link) from error
    return name


def name_in_job(workspace: Workspace, model: str) -> str:
    """Return the path within the workspace by which a job names the model of a config."""
    elsewhere = _elsewhere(workspace, model)
    if elsewhere is None:
        return _within(workspace, model)
    return (workspace.models / elsewhere.name).relative_to(workspace.root).as_posix()


def _elsewhere(workspace: Workspace, model: str) -> Path | None:
    """Return the absolute path of a folder outside the workspace; None of one within."""
    try:
        path = Path(os.path.normpath(Path(model).expanduser()))
    except RuntimeError as error:
        raise InvalidInput(f"{model!r} is not a path: {error}.") from error
    within = not path.is_absolute() or path.is_relative_to(workspace.root)
    return None if within or not path.name else path


def _within(workspace: Workspace, model: str) -> str:
    path = Path(model)
    if path.is_absolute() and path.is_relative_to(workspace.root):
        return path.relative_to(workspace.root).as_posix()
    return model


def _is_there(link: Path) -> bool:
    return link.exists() or link.is_symlink()


def _same(link: Path, folder: Path) -> bool:
    try:
        return link.samefile(folder)
    except OSError:
        return False

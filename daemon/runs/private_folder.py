"""``.farense/``: sockets, locks and temporary files, for the user alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from jobs.errors import WorkspaceError
from jobs.paths import Workspace
from jobs.storage.files import explain

PRIVATE = 0o700


def private_folder(workspace: Workspace) -> Path:
    """Return the workspace's private folder, made (mode 0700) where it is missing.

    Raises:
        WorkspaceError: it cannot be made, or is not a folder of this user.
    """
    return _made_private(workspace.private)


def temporary_folder(workspace: Workspace) -> Path:
    """Return the folder that takes the place of the shared ``/tmp`` for this workspace's children.

    MLX's CPU compiler leaves libraries there under predictable names: where others can write, they
    could plant one.
    """
    private_folder(workspace)
    return _made_private(workspace.temporary)


def _made_private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            if stat.S_IMODE(found.st_mode) != PRIVATE:
                folder.chmod(PRIVATE)
            return folder
    except OSError as error:
        raise explain(error, folder) from error
    raise WorkspaceError(
        f"{folder} is not a folder of yours.", "Remove it; farense makes it again, for you alone."
    )

"""A workspace as other machines know it: ``host:path#id``.

Machines change their names (a Mac with its network), and two may have the same name and path. So
the id, drawn once and kept in the private folder, tells workspaces apart; the rest is for people.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from daemon.runs.private_folder import private_folder
from jobs.paths import Workspace
from jobs.storage.files import explain

ID = re.compile(r"[0-9a-f]{12}")


def make_home(workspace: Workspace) -> str:
    """Return what stands on a record for the workspace that has the job's files.

    Raises:
        WorkspaceError: it has no id yet, and cannot be written.
    """
    if _id(workspace) is None:
        path = private_folder(workspace) / "id"
        try:
            _draw(path)
        except OSError as error:
            raise explain(error, path) from error
    return home_of(workspace)


def home_of(workspace: Workspace) -> str:
    """Return the same, and write nothing: a workspace without jobs has no id yet."""
    place, own = f"{socket.gethostname()}:{workspace.root}", _id(workspace)
    return place if own is None else f"{place}#{own}"


def is_home(home: str | None, workspace: Workspace) -> bool:
    """Tell whether ``home`` is this workspace; where it says nothing, it is."""
    if home is None:
        return True
    own = _id(workspace)
    return home == home_of(workspace) if own is None else home.rpartition("#")[2] == own


def host_of(home: str | None) -> str:
    """Return the machine in a ``home``."""
    return (home or "an unknown machine").partition(":")[0]


def shown(home: str | None) -> str | None:
    """Return ``home`` as a person reads it: ``host:path``."""
    return home.rpartition("#")[0] or home if home else None


def _id(workspace: Workspace) -> str | None:
    try:
        found = (workspace.private / "id").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return found if ID.fullmatch(found) else None


def _draw(path: Path) -> None:
    """Write a new id, unless another process has; one that is damaged gives way."""
    temporary = path.with_name(f".id.{os.getpid()}.{secrets.token_hex(4)}")
    temporary.write_text(f"{secrets.token_hex(6)}\n")
    try:
        os.link(temporary, path)
    except FileExistsError:
        with suppress(UnicodeDecodeError):
            if ID.fullmatch(path.read_text().strip()):
                return
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

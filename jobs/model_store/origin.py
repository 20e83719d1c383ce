"""Which repository of the hub a model came from: known of those that were pulled from there.

It is kept by the model's fingerprint, so that a folder may be renamed, copied or linked, and what
was put in its place is not taken for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.model_store.folder import fingerprint, same_model
from jobs.paths import Workspace
from jobs.storage.files import read_json, write_json


def keep_origin(workspace: Workspace, folder: Path, repository: str) -> None:
    """Note that the model in ``folder`` is that of a repository, ``organization/name``.

    Raises:
        ModelError: the folder cannot be read.
        WorkspaceError: the note cannot be written.
    """
    known = _known(workspace)
    write_json(_place(workspace), known | {fingerprint(folder): repository})


def origin_of(workspace: Workspace, model_fingerprint: str) -> str | None:
    """Return the repository of a model, ``organization/name``; None where it is not known."""
    if not model_fingerprint:
        return None
    for known, repository in _known(workspace).items():
        if same_model(known, model_fingerprint):
            return repository if isinstance(repository, str) else None
    return None


def _place(workspace: Workspace) -> Path:
    return workspace.private / "model_origins.json"


def _known(workspace: Workspace) -> dict[str, Any]:
    try:
        known = read_json(_place(workspace))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}

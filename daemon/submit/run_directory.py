"""A run directory under an id that nobody has, and what stands beside it."""

from __future__ import annotations

import platform
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from daemon.runs.private_folder import PRIVATE
from jobs.errors import WorkspaceError
from jobs.paths import RunDirectory, Workspace
from jobs.storage.files import explain

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
PACKAGES = ("farense", "mlx", "mlx-lm", "huey")
TRIES = 20


def new_run_directory(preset: str, workspace: Workspace) -> RunDirectory:
    """Make a folder under an id that nobody has."""
    try:
        workspace.runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, workspace.runs) from error
    for job_id in new_id(preset):
        run = workspace.run(job_id)
        try:
            run.path.mkdir(mode=PRIVATE)
        except FileExistsError:
            continue
        except OSError as error:
            raise explain(error, run.path) from error
        return run
    raise WorkspaceError(f"No free job id in {workspace.runs}.")


def new_id(preset: str) -> Iterator[str]:
    """Yield ids that probably nobody has, for whoever makes the folder of that name."""
    name = re.sub(r"[^a-z0-9_]", "_", preset.lower())[:40] or "job"
    for _ in range(TRIES):
        letters = "".join(secrets.choice(ALPHABET) for _ in range(4))
        yield f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}-{letters}"


def point_latest_to(run: RunDirectory) -> None:
    """Let ``checkpoints_qlora/latest`` name the newest run; a convenience, where links exist."""
    temporary = run.path.parent / f".latest-{run.job_id}"
    try:
        temporary.symlink_to(run.job_id)
        temporary.replace(run.path.parent / "latest")
    except OSError:
        # No links on this file system, or a folder of that name: the job is complete without it.
        temporary.unlink(missing_ok=True)


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of what the bits of a run depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

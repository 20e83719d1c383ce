"""Folders below ``output/`` that are there whole or not at all.

Each says in ``farense_export.json`` whose export it is; what does not is never replaced.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jobs.errors import InvalidInput, JobLocked, WorkspaceError
from jobs.export.kinds import OLLAMA, SUFFIXES
from jobs.paths import Workspace
from jobs.storage.files import explain, open_to_others, read_json, replace_folder, sync_folder
from jobs.storage.formatting import size_text
from jobs.storage.locks import hold

MARKER = "farense_export.json"
# What the chat template is told, where that is too long for a command.
OPTIONS_FILE = "chat_template_config.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
# How a model's name says that its weights are quantized.
QUANTIZED = re.compile(r"[-_.](\d+-?bits?|[qQ]\d\w*|mxfp\d|nvfp\d)$", re.ASCII)
OTHERS = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
# Left free beside what is written.
SPARE_BYTES = 100_000_000


def export_name(model: str, preset: str) -> str:
    """Return the name of an export: ``mistral-7b-farense-qlora-v2`` of ``mistral-7b-4bit``, v2."""
    name = f"{QUANTIZED.sub('', model)}-farense-qlora-{preset}"
    return OTHERS.sub("_", name).lstrip("._-")[:100]


def free_name(output: Path, name: str, job: str) -> str:
    """Return a name for the exports of a job that takes none of another job's folders.

    It is ``name``, or where a folder of that name is another job's, ``name`` with the end of the
    job's id behind it: the same each time.
    """
    own = f"{name[:95]}-{job.rpartition('-')[2]}"
    names = {
        name: [output / (name + suffix) for suffix in SUFFIXES.values()] for name in (name, own)
    }
    if any(owner_of(folder) == job for folder in names[own]):
        return own
    return own if any(owner_of(folder) not in (None, job) for folder in names[name]) else name


def check_name(name: str) -> str:
    """Return the name of a folder below ``output/``, without that folder where it is given too.

    Raises:
        InvalidInput: it cannot be one.
    """
    bare = name.removeprefix("output/").rstrip("/")
    if not NAME.fullmatch(bare):
        raise InvalidInput(
            f"{name!r} cannot be the name of a folder in output/.",
            "Use up to 100 letters (a-z), digits, dots, dashes and underscores, starting with a "
            "letter or digit.",
        )
    return bare


def check_target(target: Path, job: str, kind: str, *, force: bool) -> None:
    """Refuse to replace what is not an earlier export of ``job``, of the same kind.

    Args:
        force: an export of another job, or of another kind, may be replaced.

    Raises:
        InvalidInput: something else is there.
    """
    if not target.exists() and not target.is_symlink():
        return
    owner = owner_of(target)
    if owner is None:
        raise InvalidInput(
            f"{target} exists and is no export of farense: it was left as it is.",
            f"Remove or rename it, or choose another name: --to {target.name}-2",
        )
    if owner != job and not force:
        raise InvalidInput(
            f"{target} is the export of another job, {owner}.",
            f"Replace it with --force, or choose another name: --to {target.name}-2",
        )
    there = marker_of(target).get("kind", kind)
    if there != kind and not force:
        raise InvalidInput(
            f"{target} is another export of this job ({there}), not an earlier one ({kind}).",
            f"Replace it with --force, or choose another name: --to {target.name}-2",
        )


def check_space(folder: Path, needed: int) -> None:
    """Compare the bytes to be written with what is free around ``folder``.

    Raises:
        WorkspaceError: they will not fit.
    """
    free = shutil.disk_usage(_existing(folder)).free
    if needed + SPARE_BYTES > free:
        raise WorkspaceError(
            f"Not enough disk space: this export takes {size_text(needed)}, and {folder} has "
            f"{size_text(free)} free.",
            "Free some space: farense prune, farense cache clear.",
        )


@contextmanager
def exporting(workspace: Workspace, targets: list[Path]) -> Iterator[None]:
    """Let one process at a time write these exports, and mend what a killed one left.

    Raises:
        WorkspaceError: another process is writing one of them, or a folder cannot be written.
    """
    try:
        workspace.private.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as locks:
            for target in targets:
                locks.enter_context(hold(workspace.private / f"export-{target.name}.lock"))
                _mend(target)
            yield
    except JobLocked as error:
        raise WorkspaceError(
            "Another process is exporting under this name at this moment.",
            f"Wait until it is done, or choose another name: --to {targets[0].name}-2",
        ) from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Provide an empty folder that takes the name ``target`` at the end, and only at the end.

    Whatever goes wrong before leaves ``target`` as it was.

    Raises:
        WorkspaceError: a folder cannot be written.
    """
    partial, replaced = _partial(target), _replaced(target)
    try:
        partial.mkdir(parents=True)
        yield partial
        open_to_others(*partial.iterdir())
        sync_folder(partial)
        replace_folder(partial, target, replaced)
    except OSError as error:
        raise explain(error, target) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _mend(target: Path) -> None:
    """Undo what a process left that was killed while it wrote or renamed."""
    shutil.rmtree(_partial(target), ignore_errors=True)
    replaced = _replaced(target)
    if replaced.exists() and not target.exists():
        replaced.rename(target)
    shutil.rmtree(replaced, ignore_errors=True)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def _replaced(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def ollama_name(workspace: Workspace, job: str) -> str | None:
    """Return what a job's model is called in Ollama by its newest Modelfile; None without one."""
    if not workspace.output.is_dir():
        return None
    markers = [marker_of(folder) for folder in workspace.output.iterdir()]
    found = [one for one in markers if one.get("job") == job and one.get("kind") == OLLAMA]
    newest = max(found, key=lambda one: str(one.get("exported_at")), default={})
    name = newest.get(OLLAMA)
    return name if isinstance(name, str) else None


def owner_of(target: Path) -> str | None:
    """Return the job whose export a folder is; None where it is none."""
    job = marker_of(target).get("job")
    return job if isinstance(job, str) else None


def marker_of(target: Path) -> dict[str, Any]:
    """Return what an export says of itself; empty where a folder is none."""
    try:
        marker: Any = read_json(target / MARKER)
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())

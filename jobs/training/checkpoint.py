"""Checkpoints: everything the next step depends on, written whole or not at all.

::

    checkpoint_epoch1_step200/
      adapters.safetensors     the adapter at this step
      state.safetensors        optimizer moments, accumulated gradients, running loss
      best.safetensors         the best adapter so far (a hard link), once there is one
      checkpoint.json          counters, versions, and the SHA-256 of each file above; written last
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.backend.mlx import mx
from jobs.errors import CheckpointError
from jobs.paths import RunDirectory
from jobs.storage.files import explain, replace_folder, sha256_of, write_json
from jobs.training.checkpoint_files import (
    DESCRIPTION,
    TORN,
    VERSION,
    described,
    newest_first,
    step_of,
)

BEST = "best.safetensors"
REPLACED = ".replaced"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk.

    Attributes:
        counters: plain data: step, early stopping, metrics length and the like.
        versions: what computed it; under other versions bit-identity is not promised.
    """

    path: Path
    counters: dict[str, Any]
    versions: dict[str, str]

    def adapter(self) -> dict[str, mx.array]:
        """Return the adapter at this step."""
        return _load(self.path / "adapters.safetensors")

    def state(self) -> dict[str, mx.array]:
        """Return the other arrays of the run."""
        return _load(self.path / "state.safetensors")

    @property
    def best(self) -> Path | None:
        """The best adapter at the time, or None if no validation had been passed."""
        path = self.path / BEST
        return path if path.exists() else None


def save_checkpoint(
    target: Path,
    adapter: dict[str, mx.array],
    state: dict[str, mx.array],
    best: Path | None,
    counters: dict[str, Any],
    versions: dict[str, str],
) -> None:
    """Write a checkpoint folder; it appears under its name complete, or not at all.

    Raises:
        WorkspaceError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        save_arrays(temporary / "adapters.safetensors", adapter)
        save_arrays(temporary / "state.safetensors", state)
        if best is not None:
            link_or_copy(best, temporary / BEST)
        files = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
        values = {"version": VERSION, "counters": counters, "versions": versions, "files": files}
        write_json(temporary / DESCRIPTION, values)
        replace_folder(temporary, target, target.with_name(f".{target.name}{REPLACED}"))
    except OSError as error:
        raise explain(error, target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def newest_checkpoint(
    run: RunDirectory, warn: Callable[[str], None], every: int = 1
) -> Checkpoint | None:
    """Return the newest whole checkpoint of a run; torn ones are passed over with a warning.

    Args:
        every: look only at those whose step is a multiple of this.

    Raises:
        CheckpointError: a newer farense wrote it.
    """
    _put_back(run)
    for path in newest_first(run):
        if step_of(path) % every:
            continue
        try:
            values = described(path)
            return Checkpoint(path, values["counters"], values["versions"])
        except TORN as error:
            warn(f"{path.name} is damaged ({error}); going back to the one before it.")
    return None


def _put_back(run: RunDirectory) -> None:
    """Undo a replacement that was killed between its two renames."""
    for path in run.path.glob(f".checkpoint_epoch*{REPLACED}"):
        target = path.with_name(path.name.removeprefix(".").removesuffix(REPLACED))
        if target.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.rename(target)


def prune_checkpoints(run: RunDirectory, keep: int, step: int, every: int = 1) -> None:
    """Remove all but the ``keep`` newest checkpoints, seen from the one just saved at ``step``.

    Those of later steps are damaged, or of a course that diverged: the run went back before them.

    Args:
        every: the newest whose step is a multiple of this is kept too: the others stand where the
            run happened to be stopped, and a rollback must not depend on that.
    """
    folders = list(newest_first(run))
    later = [path for path in folders if step_of(path) > step]
    earlier = folders[len(later) :]
    regular = [path for path in earlier if step_of(path) % every == 0]
    for path in set(folders) - {*earlier[:keep], *regular[:1]}:
        shutil.rmtree(path, ignore_errors=True)


def save_arrays(path: Path, arrays: dict[str, mx.array]) -> None:
    """Write arrays as safetensors and wait until they are on disk.

    Raises:
        WorkspaceError: the disk is full or not writable; nothing is left at ``path``.
    """
    try:
        # Through a file of ours: MLX's own writer does not say why a write failed.
        with path.open("wb") as file:
            mx.save_safetensors(file, arrays, {"format": "mlx"})
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise explain(error, path) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Put ``source``'s content at ``target``: a hard link where the file system has them."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)


def _load(path: Path) -> dict[str, mx.array]:
    arrays = mx.load(str(path))
    if not isinstance(arrays, dict):
        raise CheckpointError(f"{path} holds no named arrays.")
    return arrays

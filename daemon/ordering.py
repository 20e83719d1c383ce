"""From a preset to an accepted order: check everything, freeze the data, make the run directory.

All of it happens before the queue is told. What can be refused is refused here, where the person
who typed the command reads the reason.
"""

from __future__ import annotations

import platform
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING

from jobs.errors import DataError, WorkspaceError
from jobs.files import explain, sha256_of, write_with
from jobs.order import DataFile, Order, write_order
from jobs.paths import RunDirectory, Workspace
from jobs.state import JobState, State, now, write_state

if TYPE_CHECKING:
    from jobs.config import Preset, TrainConfig
    from jobs.schedule import Schedule

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
PACKAGES = ("farense", "mlx", "mlx-lm", "huey")
TRIES = 20


def plan(preset: Preset, workspace: Workspace) -> Schedule:
    """Return the steps and validations a preset's run would have; counts the examples.

    Raises:
        DataError: a data file is missing or has lines that cannot be used.
    """
    train, _ = _sources(preset.config, workspace)
    return preset.config.schedule(_count(train))


def check(preset: Preset, workspace: Workspace) -> Schedule:
    """Check everything an order needs, leave nothing behind, and return the run's schedule.

    Raises:
        InvalidInput: as :func:`place_order` does.
    """
    return preset.config.schedule(_checked(preset, workspace)[0])


def _checked(preset: Preset, workspace: Workspace) -> tuple[int, int]:
    """Check model, config and data; return the examples to train and to validate on."""
    from jobs.examples import read_examples  # noqa: PLC0415 - `status` needs neither
    from jobs.model_folder import check_lora, check_model  # noqa: PLC0415
    from jobs.prompts import check_prompt_format  # noqa: PLC0415

    config = preset.config
    model = workspace.inside(config.model)
    check_model(model)
    check_lora(model, config.lora)
    train, valid = (read_examples(path) if path else [] for path in _sources(config, workspace))
    for rows in (train, valid):
        check_prompt_format(rows, config.prompt_format)
    return len(train), len(valid)


def place_order(
    preset: Preset, workspace: Workspace, *, name: str | None = None, priority: int = 0
) -> tuple[Order, JobState]:
    """Make the run directory of a new job, with ``job.json`` and ``state.json``.

    Raises:
        ModelError: there is no usable model folder where the config says.
        DataError: a data file is missing or has lines that cannot be used.
        InvalidInput: the model lies outside the workspace.
        WorkspaceError: the workspace cannot be written.
    """
    from jobs.models import fingerprint  # noqa: PLC0415 - `plan` needs no model

    counts = _checked(preset, workspace)
    schedule = preset.config.schedule(counts[0])
    model = workspace.inside(preset.config.model)
    sources = _sources(preset.config, workspace)
    train = _freeze(sources[0], counts[0], workspace)
    valid = _freeze(sources[1], counts[1], workspace) if sources[1] else None
    run = _new_run_directory(preset.name, workspace)
    order = Order(
        id=run.job_id,
        preset=preset.name,
        created_at=now(),
        config=_frozen_config(preset.config, train, valid),
        train=train,
        valid=valid,
        model_fingerprint=fingerprint(model),
        total_steps=schedule.total_steps,
        name=name,
        versions=_versions(),
    )
    state = JobState(State.QUEUED, priority=priority, updated_at=order.created_at)
    write_order(run, order)
    write_state(run, state)
    _point_latest_to(run)
    return order, state


def _sources(config: TrainConfig, workspace: Workspace) -> tuple[Path, Path | None]:
    train, valid = config.data.train, config.data.valid
    paths = workspace.root / train, workspace.root / valid if valid else None
    for path in filter(None, paths):
        if not path.exists():
            raise DataError(
                f"There is no data file {path}.",
                f"Paths in a config are relative to the workspace, {workspace.root}, or absolute.",
            )
    return paths


def _count(path: Path) -> int:
    from jobs.examples import read_examples  # noqa: PLC0415 - for the same reason

    return len(read_examples(path))


def _freeze(source: Path, examples: int, workspace: Workspace) -> DataFile:
    """Copy a data file to where later edits do not reach it, under the name of its content."""
    try:
        digest = sha256_of(source)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}.") from error
    target = workspace.imported / f"{digest}.jsonl"
    if not target.exists():
        write_with(target, partial(_copy, source))
        if sha256_of(target) != digest:
            target.unlink()
            raise DataError(f"{source} changed while it was being copied.", "Enqueue again.")
        target.chmod(0o444)
    relative = target.relative_to(workspace.root).as_posix()
    return DataFile(relative, digest, examples, source.name)


def _copy(source: Path, target: IO[bytes]) -> None:
    with source.open("rb") as file:
        while chunk := file.read(1 << 20):
            target.write(chunk)


def _frozen_config(
    config: TrainConfig, train: DataFile, valid: DataFile | None
) -> dict[str, object]:
    values: dict[str, object] = config.model_dump(mode="json")
    return {**values, "data": {"train": train.path, "valid": valid.path if valid else None}}


def _new_run_directory(preset: str, workspace: Workspace) -> RunDirectory:
    """Make a folder under an id that nobody has."""
    try:
        workspace.runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, workspace.runs) from error
    for job_id in _ids(preset):
        run = workspace.run(job_id)
        try:
            run.path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise explain(error, run.path) from error
        return run
    raise WorkspaceError(f"No free job id in {workspace.runs}.")


def _ids(preset: str) -> Iterator[str]:
    name = re.sub(r"[^a-z0-9_]", "_", preset.lower())[:40] or "job"
    for _ in range(TRIES):
        letters = "".join(secrets.choice(ALPHABET) for _ in range(4))
        yield f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}-{letters}"


def _point_latest_to(run: RunDirectory) -> None:
    """Let ``checkpoints_qlora/latest`` name the newest run; a convenience, where links exist."""
    temporary = run.path.parent / f".latest-{run.job_id}"
    try:
        temporary.symlink_to(run.job_id)
        temporary.replace(run.path.parent / "latest")
    except OSError:
        # No links on this file system, or a folder of that name: the job is complete without it.
        temporary.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

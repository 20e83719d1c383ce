"""From a preset to an accepted order: check everything, freeze the data, make the run directory.

All of it happens before the queue is told. What can be refused is refused here, where the person
who typed the command reads the reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.changing import freezing
from daemon.frozen import freeze
from daemon.new_run import new_run_directory, point_latest_to, versions
from jobs.errors import DataError, InvalidInput
from jobs.files import sha256_of, sync_folder, write_many_json
from jobs.order import DataFile, Order, SweepTrial, day_of_sweep
from jobs.paths import JOB_ID, REPOSITORY, RunDirectory, Workspace
from jobs.state import JobState, State, state_values
from jobs.text import printable

if TYPE_CHECKING:
    from jobs.config import Preset, TrainConfig
    from jobs.lora_keys import Reach
    from jobs.prompts import PromptFormat
    from jobs.schedule import Schedule

Result = TypeVar("Result")

FIRST = JobState(State.QUEUED)
LONGEST_NAME = 200


@dataclass(frozen=True)
class Request:
    """A job that somebody wants.

    Attributes:
        name: what they call it.
        state: in which the job begins, with its priority.
        sweep: the trial of a sweep that it is.
    """

    preset: Preset
    name: str | None = None
    state: JobState = FIRST
    sweep: SweepTrial | None = None


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
    return check_and_remark(preset, workspace)[0]


def check_and_remark(preset: Preset, workspace: Workspace) -> tuple[Schedule, list[str]]:
    """Check as :func:`check` does; return what a person should know of the job, too."""
    config, desk = preset.config, _Desk(workspace)
    schedule = config.schedule(desk.check(config)[0])
    reach = desk.reach(config)
    found = (
        schedule.warning(config.early_stopping_patience),
        reach.warning if reach else None,
    )
    return schedule, [text for text in found if text]


def check_all(configs: Sequence[TrainConfig], workspace: Workspace) -> Schedule:
    """Check all that orders of some configs need, as :func:`check` does, each thing once.

    Returns:
        The schedule of the first.

    Raises:
        InvalidInput: as :func:`place_order` does.
    """
    desk = _Desk(workspace)
    counts = [desk.check(config)[0] for config in configs]
    return configs[0].schedule(counts[0])


def frozen_data(config: TrainConfig, workspace: Workspace) -> TrainConfig:
    """Return a config that was checked, its data frozen and its model in the workspace.

    Raises:
        DataError: a data file cannot be read.
    """
    parts = _Desk(workspace).freeze(config)
    data = {"train": parts.train.path, "valid": parts.valid.path if parts.valid else None}
    return config.model_copy(
        update={"model": parts.model, "data": config.data.model_copy(update=data)}
    )


def place_order(
    preset: Preset, workspace: Workspace, *, name: str | None = None, priority: int = 0
) -> tuple[Order, JobState]:
    """Make the run directory of a new job, with ``job.json`` and ``state.json``.

    Raises:
        ModelError: there is no usable model folder where the config says.
        DataError: a data file is missing or has lines that cannot be used.
        InvalidInput: the path of the model leads out of the workspace.
        WorkspaceError: the workspace cannot be written.
    """
    state = replace(FIRST, priority=priority)
    return place_orders([Request(preset, name, state)], workspace)[0]


def place_orders(requests: Sequence[Request], workspace: Workspace) -> list[tuple[Order, JobState]]:
    """Make the run directories of new jobs; where that fails for one, none of them stays.

    What many of them share is read, checked and frozen once, and all is on disk before the first of
    them counts as accepted: before it has its ``state.json``.

    Raises:
        InvalidInput, WorkspaceError: as :func:`place_order` does.
    """
    desk = _Desk(workspace)
    for request in requests:
        _check_name(request.name or "", workspace)
        desk.check(request.preset.config)
    # Until the orders name the data, a prune would take them for nobody's.
    with freezing(workspace):
        return _placed(requests, [desk.freeze(r.preset.config) for r in requests], workspace)


def _check_name(name: str, workspace: Workspace) -> None:
    """Refuse a name that could not be shown in one line, or that means something else already.

    Raises:
        InvalidInput: it is too long, holds what no terminal shows, or is ``latest``, a preset or
            the id of a job.
    """
    if len(name) > LONGEST_NAME or printable(name) != name:
        raise InvalidInput(
            f"{name[:LONGEST_NAME]!r} cannot be the name of a job.",
            f"A name is one line of at most {LONGEST_NAME} characters.",
        )
    folders = (workspace.configs, REPOSITORY / "configs")
    is_preset = "/" not in name and any((folder / f"{name}.yaml").is_file() for folder in folders)
    if name == "latest" or JOB_ID.fullmatch(name) or (name and is_preset):
        raise InvalidInput(
            f"{name!r} cannot be the name of a job: it means something else already.",
            "Give a name that is no preset, no job's id and not `latest`.",
        )


def _placed(
    requests: Sequence[Request], frozen: Sequence[_Parts], workspace: Workspace
) -> list[tuple[Order, JobState]]:
    runs: list[RunDirectory] = []
    try:
        placed = []
        for request, parts in zip(requests, frozen, strict=True):
            runs.append(new_run_directory(request.preset.name, workspace))
            placed.append(_order(request, runs[-1].job_id, parts))
        _write(runs, placed)
    except BaseException:
        for run in runs:
            shutil.rmtree(run.path, ignore_errors=True)
        raise
    if runs:
        point_latest_to(runs[-1])
    return placed


def _order(request: Request, job_id: str, parts: _Parts) -> tuple[Order, JobState]:
    config = request.preset.config
    order = Order(
        id=job_id,
        preset=request.preset.name,
        # To the microsecond: jobs that were ordered together stay in order.
        created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        config=_frozen_config(config, parts),
        train=parts.train,
        valid=parts.valid,
        model_fingerprint=parts.model_fingerprint,
        total_steps=config.schedule(parts.train.examples).total_steps,
        name=request.name,
        versions=versions(),
        sweep=request.sweep,
        prompt_date=_prompt_date(request.sweep),
        made_from=list(request.preset.made_from),
    )
    return order, replace(request.state, updated_at=order.created_at)


def _prompt_date(sweep: SweepTrial | None) -> str:
    """Return the day that a job's prompts hold: today's, but one for all trials of a sweep."""
    day = day_of_sweep(sweep.sweep) if sweep else None
    return day or datetime.now().date().isoformat()


def _write(runs: list[RunDirectory], placed: list[tuple[Order, JobState]]) -> None:
    """Write all orders, then all states: until then none of the jobs counts as accepted."""
    # Not `asdict`, whose deep copies would take a third of the time; orjson writes dataclasses.
    orders = {run.job: vars(order) for run, (order, _) in zip(runs, placed, strict=True)}
    states = {run.state: state_values(state) for run, (_, state) in zip(runs, placed, strict=True)}
    write_many_json({**orders, **states})
    for folder in {run.path.parent for run in runs}:
        sync_folder(folder)


@dataclass(frozen=True)
class _Parts:
    """What an order names by its content."""

    train: DataFile
    valid: DataFile | None
    model: str
    model_fingerprint: str


class _Desk:
    """Checks and freezes what configs name: each thing once, however many of them name it."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known: dict[tuple[object, ...], Any] = {}

    def check(self, config: TrainConfig) -> tuple[int, int]:
        """Check model, config and data; return the examples to train and to validate on."""
        from jobs.models.architectures import check_trainable  # noqa: PLC0415 - `status` needs none
        from jobs.models.folder import check_model  # noqa: PLC0415 - for the same reason
        from jobs.models.place import check_place, model_folder  # noqa: PLC0415

        model, lora = model_folder(self._workspace, config.model), config.lora
        self._once(("model", model), lambda: check_model(model))
        self._once(("trainable", model, lora.keys), lambda: check_trainable(model, lora.keys))
        self._once(("place", model), lambda: check_place(self._workspace, config.model))
        self.reach(config)
        train, valid = _sources(config, self._workspace)
        style = config.prompt_format
        return self._examples(train, style), self._examples(valid, style) if valid else 0

    def reach(self, config: TrainConfig) -> Reach | None:
        """Check which layers a config adapts: of an adapter, nothing else can be wrong here."""
        from jobs.models.folder import check_lora  # noqa: PLC0415 - `status` needs none
        from jobs.models.place import model_folder  # noqa: PLC0415

        model, lora = model_folder(self._workspace, config.model), config.lora
        key = ("lora", model, lora.num_layers, lora.keys)
        return self._once(key, lambda: check_lora(model, lora))

    def freeze(self, config: TrainConfig) -> _Parts:
        """Freeze the data of a config that was checked; link its model, and fingerprint it."""
        from jobs.models.place import linked, model_folder  # noqa: PLC0415
        from jobs.models.store import fingerprint  # noqa: PLC0415 - `plan` needs no model

        model = model_folder(self._workspace, config.model)
        train, valid = _sources(config, self._workspace)
        return _Parts(
            self._frozen(train, config.prompt_format),
            self._frozen(valid, config.prompt_format) if valid else None,
            self._once(("linked", model), lambda: linked(self._workspace, config.model)),
            self._once(("fingerprint", model), lambda: fingerprint(model)),
        )

    def _examples(self, path: Path, prompt_format: PromptFormat) -> int:
        return self._once(("examples", path, prompt_format), lambda: _count(path, prompt_format))

    def _frozen(self, path: Path, prompt_format: PromptFormat) -> DataFile:
        count = self._examples(path, prompt_format)
        return self._once(("frozen", path), lambda: _freeze(path, count, self._workspace))

    def _once(self, key: tuple[object, ...], make: Callable[[], Result]) -> Result:
        if key not in self._known:
            self._known[key] = make()
        found: Result = self._known[key]
        return found


def _sources(config: TrainConfig, workspace: Workspace) -> tuple[Path, Path | None]:
    train, valid = config.data.train, config.data.valid
    paths = workspace.root / train, workspace.root / valid if valid else None
    for path in filter(None, paths):
        if not _is_file(path):
            raise DataError(
                f"There is no data file {path}.",
                f"Paths in a config are relative to the workspace, {workspace.root}, or absolute.",
            )
    return paths


def _is_file(path: Path) -> bool:
    """Tell whether there is a regular file: from /dev/zero one would read for ever."""
    try:
        return path.is_file()
    except OSError:
        return False


def _count(path: Path, prompt_format: PromptFormat | None = None) -> int:
    from jobs.examples import read_examples  # noqa: PLC0415 - `status` needs neither
    from jobs.prompts import check_prompt_format  # noqa: PLC0415

    rows = read_examples(path)
    if prompt_format is not None:
        check_prompt_format(rows, prompt_format)
    return len(rows)


def _freeze(source: Path, examples: int, workspace: Workspace) -> DataFile:
    """Copy a data file to where later edits do not reach it, under the name of its content."""
    try:
        digest = sha256_of(source)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}.") from error
    target = freeze(source, digest, workspace)
    relative = target.relative_to(workspace.root).as_posix()
    return DataFile(relative, digest, examples, source.name)


def _frozen_config(config: TrainConfig, parts: _Parts) -> dict[str, object]:
    values: dict[str, object] = config.model_dump(mode="json")
    data = {"train": parts.train.path, "valid": parts.valid.path if parts.valid else None}
    return {**values, "model": parts.model, "data": data}

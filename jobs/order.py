"""``job.json``: the frozen order of a job. Written at enqueue, never changed again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.errors import InvalidInput
from jobs.files import read_json, write_json
from jobs.paths import RunDirectory
from jobs.shape import well_typed

VERSION = 1


@dataclass(frozen=True)
class DataFile:
    """A data file frozen by content.

    Attributes:
        path: ``data/imported/<sha256>.jsonl``, relative to the workspace.
        sha256: of the content.
        examples: number of examples in the file.
        source: the name the user knows it by; for display only.
    """

    path: str
    sha256: str
    examples: int
    source: str


@dataclass(frozen=True)
class Order:
    """What a job shall do.

    Attributes:
        config: a complete :class:`jobs.config.TrainConfig` as plain data; its data paths name the
            frozen files.
        model_fingerprint: identifies the model folder (see :func:`jobs.models.fingerprint`).
        versions: packages at the time of enqueue.
    """

    id: str
    preset: str
    created_at: str
    config: dict[str, Any]
    train: DataFile
    valid: DataFile | None
    model_fingerprint: str
    total_steps: int
    kind: str = "train"
    name: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    version: int = VERSION


def write_order(run: RunDirectory, order: Order) -> None:
    """Write ``job.json``."""
    write_json(run.job, asdict(order))


def read_order(run: RunDirectory) -> Order:
    """Return the order in a run directory.

    Raises:
        InvalidInput: there is none, it is damaged, or a newer farense wrote it.
    """
    try:
        values = read_json(run.job)
        if values["version"] > VERSION:
            raise InvalidInput(f"{run.job} was written by a newer farense.", "Update farense.")
        train = DataFile(**values.pop("train"))
        valid = values.pop("valid")
        order = Order(train=train, valid=DataFile(**valid) if valid else None, **values)
        if not all(map(well_typed, filter(None, (order, order.train, order.valid)))):
            raise TypeError("a value has another type than it should have")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{run.job} is missing or damaged: {error}") from error
    if order.id != run.job_id:
        raise InvalidInput(f"{run.job} is the order of another job ({order.id!r}).")
    return order

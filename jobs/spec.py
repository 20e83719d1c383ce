"""``job.json``: the frozen spec of a job. Written at enqueue, never changed again."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import orjson

from jobs.errors import InvalidInput
from jobs.paths import JOB_ID, RunDirectory
from jobs.storage.files import plain, read_json
from jobs.storage.values import well_typed

VERSION = 1
TRAIN, EVALUATE = "train", "evaluate"
SHA256 = re.compile(r"[0-9a-f]{64}")
# Tokens of an answer, or questions at a time.
MOST = 4096


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
class InitialAdapter:
    """The adapter that training starts from, frozen by content.

    Attributes:
        path: ``data/imported/<sha256>.safetensors``, relative to the workspace.
        sha256: of that file.
        source: the id of the job, or the name of the folder, that it was read from.
        form: whose it was: ``farense``, ``mlx-lm`` or ``PEFT``.
        adapter_sha256: of the file that it was read from.
        job: that trained it; None where that is not known.
    """

    path: str
    sha256: str
    source: str
    form: str
    adapter_sha256: str
    job: str | None = None


@dataclass(frozen=True)
class EvaluationSpec:
    """What an evaluation asks of whom.

    Attributes:
        job: the training job whose best adapter answers.
        max_new_tokens: of an answer; None for twice as many as the longest reference has.
        batch_size: questions that are answered together.
        ignore_accents: whether accents make no difference to the scores.
    """

    job: str
    max_new_tokens: int | None = None
    batch_size: int = 16
    ignore_accents: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense, whoever wrote it.

        Raises:
            ValueError: saying what.
        """
        if not well_typed(self) or not JOB_ID.fullmatch(self.job):
            raise ValueError("an evaluation names a job, numbers and a choice")
        for name in ("max_new_tokens", "batch_size"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MOST:
                raise ValueError(f"{name} is not between 1 and {MOST}")


@dataclass(frozen=True)
class SweepTrial:
    """The trial of a sweep that a training job is, or is a part of.

    Attributes:
        sweep: the id of the sweep.
        number: of the trial, from 0.
        part: which of the trial's trainings, from 0: each has a seed of its own.
        params: what the sampler chose, by the dotted names of the settings.
    """

    sweep: str
    number: int
    part: int
    params: dict[str, Any]


@dataclass(frozen=True)
class JobSpec:
    """What a job shall do.

    Attributes:
        kind: ``train`` or ``evaluate``; of an evaluation everything else but ``evaluation`` is as
            in the order of the training job.
        config: a complete :class:`jobs.config.config.TrainConfig` as plain data; its data paths
            name the frozen files.
        model_fingerprint: identifies the model folder
            (:func:`jobs.model_store.store.fingerprint`).
        versions: packages at the time of enqueue.
        sweep: the trial of a sweep that it is; None of a job that somebody enqueued.
        made_from: what the config was made from by changes, nearest first: presets, config files
            or a job; nothing of a preset as it stands.
        prompt_date: ``YYYY-MM-DD``, the day that a chat template which writes one is given, in
            training as in every evaluation: where the job was enqueued, the local one; of a trial
            the one in the id of its sweep, which is in UTC. None in orders of older versions.
        init_from: the adapter that it starts from; None where it starts anew.
    """

    id: str
    preset: str
    created_at: str
    config: dict[str, Any]
    train: DataFile
    valid: DataFile | None
    model_fingerprint: str
    total_steps: int
    kind: str = TRAIN
    name: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    version: int = VERSION
    evaluation: EvaluationSpec | None = None
    sweep: SweepTrial | None = None
    prompt_date: str | None = None
    made_from: list[str] = field(default_factory=list)
    init_from: InitialAdapter | None = None

    def __post_init__(self) -> None:
        """Refuse a day that is none.

        Raises:
            ValueError: saying so.
        """
        if self.prompt_date is not None:
            date.fromisoformat(self.prompt_date)

    @property
    def frozen_files(self) -> list[DataFile | InitialAdapter]:
        """The files below ``data/imported`` that it needs: an evaluation starts from nothing."""
        start = self.init_from if self.kind == TRAIN else None
        return [file for file in (self.train, self.valid, start) if file is not None]

    @property
    def prompts_written_on(self) -> str:
        """The day that its prompts hold; of a spec of an older version, its day in UTC.

        Older versions let the template ask the clock when the job began: which day that was, where
        it ran, nothing tells. The spec's own day in UTC is the same on every machine and in every
        attempt, whatever zone the machine is in by then.
        """
        return self.prompt_date or self.created_at[:10]


def day_of_sweep(sweep_id: str) -> str | None:
    """Return the day of a sweep, ``YYYY-MM-DD``, with which its id begins; None where none does."""
    try:
        return date.fromisoformat(sweep_id[:8]).isoformat()
    except ValueError:
        return None


def spec_text(spec: JobSpec) -> bytes:
    """Return a spec as :func:`parse_spec` reads it."""
    return orjson.dumps(plain(asdict(spec)), option=orjson.OPT_NON_STR_KEYS)


def read_spec(run: RunDirectory, *, copied: bool = False) -> JobSpec:
    """Return the spec in a run directory.

    Args:
        copied: the directory may have another name: a backup, only to be read.

    Raises:
        InvalidInput: there is none, it is damaged, or a newer farense wrote it.
    """
    try:
        spec = _spec(read_json(run.job))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{run.job} is missing or damaged: {error}") from error
    if spec.version > VERSION:
        raise InvalidInput(f"{run.job} was written by a newer farense.", "Update farense.")
    if spec.id != run.job_id and not copied:
        raise InvalidInput(f"{run.job} is of another job ({spec.id!r}).")
    return spec


def parse_spec(text: bytes | None, job_id: str) -> JobSpec | None:
    """Return the spec of a job that another machine wrote down; None where it is none.

    Whatever it says, its data and the adapter that it starts from are files below
    ``data/imported``, named by their content.
    """
    try:
        spec = _spec(orjson.loads(text or b""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    fits = spec.id == job_id and spec.version <= VERSION
    files = (spec.train, spec.valid, spec.init_from)
    frozen = all(_is_frozen(file) for file in files if file is not None)
    return spec if fits and frozen else None


def _spec(values: Any) -> JobSpec:
    """Return a spec from what JSON holds of it.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    train, valid = values.pop("train"), values.pop("valid")
    evaluation, sweep = values.pop("evaluation", None), values.pop("sweep", None)
    start = values.pop("init_from", None)
    spec = JobSpec(
        train=DataFile(**train),
        valid=DataFile(**valid) if valid else None,
        evaluation=EvaluationSpec(**evaluation) if evaluation else None,
        sweep=SweepTrial(**sweep) if sweep else None,
        init_from=InitialAdapter(**start) if start else None,
        **values,
    )
    parts = (spec, spec.train, spec.valid, spec.evaluation, spec.sweep, spec.init_from)
    if not all(map(well_typed, filter(None, parts))):
        raise TypeError("a value has another type than it should have")
    if spec.kind not in (TRAIN, EVALUATE):
        raise ValueError(f"no kind of job is called {spec.kind!r}")
    if (spec.kind == EVALUATE) != (spec.evaluation is not None and spec.valid is not None):
        raise ValueError("an evaluation says what to evaluate, and on which data")
    return spec


def _is_frozen(file: DataFile | InitialAdapter) -> bool:
    named = SHA256.fullmatch(file.sha256) is not None
    ending = "jsonl" if isinstance(file, DataFile) else "safetensors"
    return named and file.path == f"data/imported/{file.sha256}.{ending}"

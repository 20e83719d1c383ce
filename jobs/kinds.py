"""The kinds of job: what a training and an evaluation do differently.

``jobs/spec.py`` says what ``job.json`` has to hold for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from jobs.resources.out_of_memory import FEWER_QUESTIONS, advice, what_next
from jobs.spec import EVALUATE, TRAIN, JobSpec

if TYPE_CHECKING:
    from jobs.events import Evaluated, Finished
    from jobs.paths import Workspace
    from jobs.stopping import StopRequest
    from jobs.training.session import Emit


@dataclass(frozen=True)
class JobKind:
    """A kind of job.

    Attributes:
        name: in ``job.json`` and in the record.
        trains: it makes an adapter, with checkpoints on the way; else it asks one that is there.
        id_prefix: of the middle of a job's id, before its preset.
        when_stopped: what it does first when it is asked to stop, after "it".
        goes_on: from where its next attempt goes on.
        length: returns the fields of a new record that say how long a job is, as far as is known.
        after_out_of_memory: returns what happens next to a job that ran out of memory, or what its
            user can change. Takes the config, how often the attempt halved each micro-batch, and
            whether another, smaller attempt follows.
        less_memory: returns what the user can change for a job to need less; takes the first two.
        work: runs a job, in its child; returns how it ended, None where it was asked to stop. Takes
            the workspace, the spec, where events go, who may ask it to stop, and how often each
            micro-batch is halved.
    """

    name: str
    trains: bool
    id_prefix: str
    when_stopped: str
    goes_on: str
    length: Callable[[JobSpec], dict[str, Any]]
    after_out_of_memory: Callable[[Mapping[str, Any], int, bool], str]
    less_memory: Callable[[Mapping[str, Any], int], str]
    work: Callable[[Workspace, JobSpec, Emit, StopRequest, int], Finished | Evaluated | None]

    def id_stem(self, preset: str) -> str:
        """Return what stands in the middle of a job's id."""
        return f"{self.id_prefix}{preset}"


class HasKind(Protocol):
    """What says of which kind a job is: its spec, or its record."""

    @property
    def kind(self) -> str:
        """The name of the kind."""


def _steps(spec: JobSpec) -> dict[str, Any]:
    return {"num_epochs": spec.config.get("num_epochs"), "total_steps": spec.total_steps}


def _train(
    workspace: Workspace, spec: JobSpec, emit: Emit, stop: StopRequest, splits: int
) -> Finished | None:
    from jobs.training.session import train  # noqa: PLC0415 - loads MLX

    if spec.sweep is None:
        return train(workspace, spec, emit, stop.reason, splits)
    return train(workspace, spec, emit, stop.reason, splits, ending=stop.ending)


def _evaluate(
    workspace: Workspace, spec: JobSpec, emit: Emit, stop: StopRequest, splits: int
) -> Evaluated | None:
    from jobs.evaluation.evaluate import evaluate  # noqa: PLC0415 - loads MLX

    return evaluate(workspace, spec, emit, stop.reason, splits)


TRAINING = JobKind(
    name=TRAIN,
    trains=True,
    id_prefix="",
    when_stopped="writes a checkpoint first",
    goes_on="from its last checkpoint",
    length=_steps,
    after_out_of_memory=lambda config, splits, _: what_next(config, splits),
    less_memory=advice,
    work=_train,
)
HALVED = "The next attempt takes half as many questions at a time."
EVALUATION = JobKind(
    name=EVALUATE,
    trains=False,
    id_prefix="eval_",
    when_stopped="keeps its answers so far",
    goes_on="after its last answers",
    length=lambda _: {},  # it counts its answers as steps, and says how many when it starts
    after_out_of_memory=lambda _, __, again: HALVED if again else FEWER_QUESTIONS,
    less_memory=lambda _, __: FEWER_QUESTIONS,
    work=_evaluate,
)


def kind_of(job: HasKind) -> JobKind:
    """Return the kind of a job, by its spec or its record; a damaged name is that of a training."""
    return EVALUATION if job.kind == EVALUATION.name else TRAINING


def kind_in_id(stem: str) -> tuple[JobKind, str]:
    """Return the kind of a job and its preset, by what stands in the middle of its id."""
    if stem.startswith(EVALUATION.id_prefix):
        return EVALUATION, stem.removeprefix(EVALUATION.id_prefix)
    return TRAINING, stem

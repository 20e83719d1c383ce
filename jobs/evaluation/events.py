"""What an evaluation says beside the events of all jobs (:mod:`jobs.events`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jobs.event import Event


@dataclass(frozen=True)
class EvaluationStarted(Event):
    """The child has loaded everything and is about to ask its questions (or goes on asking).

    Attributes:
        evaluates: the training job.
        answers: how many there will be: the adapter's and the base model's.
        answered: of these, how many earlier attempts have.
        max_new_tokens: of an answer.
        batch_size: questions at a time.
    """

    kind: ClassVar[str] = "evaluation_started"
    pid: int
    preset: str
    evaluates: str
    model: str
    device: str
    questions: int
    answers: int
    answered: int
    max_new_tokens: int
    batch_size: int


@dataclass(frozen=True)
class Evaluated(Event):
    """An evaluation ended well: what the adapter's answers are worth.

    Attributes:
        evaluates: the training job.
        token_f1, exact_match, rouge_l, chrf: means over the questions, from 0 to 1.
        val_loss: of the adapter, nats per token; ``perplexity`` is its exponential.
        cut: answers that came to ``max_new_tokens`` before their end.
        scores: of ``adapter``, ``base`` and their difference, ``gain``: each score's ``mean``, and
            its 95% bootstrap interval, ``low`` to ``high``.
        base_val_loss: of the model without the adapter.
        folder: with the report and all answers.
    """

    kind: ClassVar[str] = "evaluated"
    state: str
    evaluates: str
    questions: int
    token_f1: float
    exact_match: float
    rouge_l: float
    chrf: float
    val_loss: float
    perplexity: float
    base_val_loss: float
    cut: int
    scores: dict[str, Any]
    elapsed_time_sec: float
    folder: str

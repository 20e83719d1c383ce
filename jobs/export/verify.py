"""What llama.cpp makes of a GGUF, beside what farense computes with the same adapter."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jobs.backend.mlx import mx
from jobs.config.config import TrainConfig
from jobs.data.examples import Dialogue, read_examples
from jobs.data.tokenize import TokenizedExample, frame_of, prompt_tokens
from jobs.data.tokenizer import TemplateSettings
from jobs.errors import InvalidInput
from jobs.evaluation.scores import score
from jobs.export.kinds import Verified
from jobs.gguf.ask_llama import LlamaAnswer, LlamaQuestion, ask_llama
from jobs.gguf.precision import Array
from jobs.gguf.tensors import numbers
from jobs.model.adapter import TrainedAdapter
from jobs.model.load import load_base, load_tokenizer
from jobs.past_run import PastRun, Row
from jobs.paths import Workspace
from jobs.spec import JobSpec
from jobs.training.session import Session

# Behind how many prompts the logits are compared.
PROMPTS = 16
# Of whose text the tokens are compared.
TEXTS = 100


@dataclass(frozen=True)
class EvaluatedAnswers:
    """What a job's evaluation found, as far as answers of others are compared with it.

    Attributes:
        rows: of ``answers.jsonl``.
        limit: the most tokens of an answer.
        token_f1: of the adapter.
    """

    rows: Sequence[Row]
    limit: int
    ignore_accents: bool
    token_f1: float


class Verifier:
    """What farense computes with a job's adapter, to compare GGUFs with.

    Args:
        own_loss: of the adapter beside its base model, measured before.

    Raises:
        InvalidInput: the job has no validation set.
    """

    def __init__(
        self,
        workspace: Workspace,
        spec: JobSpec,
        config: TrainConfig,
        adapter: TrainedAdapter,
        past: PastRun,
        own_loss: float,
    ) -> None:
        if spec.valid is None:
            raise InvalidInput(f"{spec.id} has no validation set: there is nothing to verify with.")
        self.own_loss, self.adapter_sha256 = own_loss, adapter.sha256
        self.examples = Session(workspace, spec, lambda _: None, lambda: None, 0).examples[1]
        template = TemplateSettings.of(config, spec.prompts_written_on)
        self.tokenizer = load_tokenizer(workspace.model(config.model), template)
        rows = read_examples(workspace.inside(spec.valid.path))
        self.rows = [row for row in rows if isinstance(row, Dialogue)]
        style = config.prompt_format
        self.questions = [list(prompt_tokens(row, self.tokenizer, style)) for row in self.rows]
        self.frame = frame_of(self.rows[0], self.tokenizer, style) if self.rows else None
        self.evaluated = self._evaluation(past, spec.valid.sha256)
        self.beginnings = [e.tokens[: max(e.prompt_length, 1)] for e in self.examples[:PROMPTS]]
        self.own = own_logits(workspace.model(config.model), config, adapter, self.beginnings)

    def check(self, model: Path, adapter: Path | None) -> Verified:
        """Let llama.cpp compute with a model, and an adapter beside it, and compare.

        Raises:
            ConfigError: there is no llama-cpp-python.
            ModelError: llama.cpp does not load the files.
        """
        texts = [row.context[-1].content for row in self.rows[:TEXTS]]
        evaluated = self.evaluated
        found = ask_llama(
            model,
            adapter,
            LlamaQuestion(
                examples=[(example.tokens, targets(example)) for example in self.examples],
                prompts=self.beginnings,
                questions=self.questions if evaluated else (),
                limit=evaluated.limit if evaluated else 0,
                ends=sorted(self.tokenizer.eos_token_ids),
                texts=texts,
            ),
        )
        ours = [list(self.tokenizer.encode(text, add_special_tokens=False)) for text in texts]
        # A model may have more rows than its tokenizer has words.
        theirs = found.logits[:, : self.own.shape[1]]
        verified = Verified(
            reader=f"llama-cpp-python {found.version}",
            loss=found.loss if found.loss is not None else float("nan"),
            own_loss=self.own_loss,
            logits=float(np.abs(theirs - self.own).max() / np.abs(self.own).max()),
            next_tokens=int((theirs.argmax(1) == self.own.argmax(1)).sum()),
            prompts=len(self.own),
            texts_apart=sum(a != b for a, b in zip(ours, found.tokens, strict=True)),
        )
        return self._with_answers(verified, found, evaluated) if evaluated else verified

    def _with_answers(
        self, verified: Verified, found: LlamaAnswer, evaluated: EvaluatedAnswers
    ) -> Verified:
        """Add how the answers compare with those of the job's evaluation."""
        assert self.frame is not None  # noqa: S101 - there are questions
        texts = [self.frame.parts(self.tokenizer.decode(tokens))[1] for tokens in found.answers]
        scores = [
            score(text, row["reference"], ignore_accents=evaluated.ignore_accents)["token_f1"]
            for text, row in zip(texts, evaluated.rows, strict=True)
        ]
        pairs = zip(texts, evaluated.rows, strict=True)
        return replace(
            verified,
            answers=sum(text == row["answer"] for text, row in pairs),
            questions=len(texts),
            token_f1=sum(scores) / len(scores),
            own_token_f1=evaluated.token_f1,
        )

    def _evaluation(self, past: PastRun, data: str) -> EvaluatedAnswers | None:
        """Return the job's evaluation, if it is one of this adapter and of these questions."""
        report = past.report or {}
        asked = report.get("data") or {}
        same = report.get("adapter_sha256") == self.adapter_sha256 and asked.get("sha256") == data
        if not same or len(past.answers) != len(self.rows):
            return None
        return EvaluatedAnswers(
            rows=past.answers,
            limit=report["max_new_tokens"],
            ignore_accents=bool(report["ignore_accents"]),
            token_f1=report["token_f1"],
        )


def targets(example: TokenizedExample) -> list[int]:
    """Return the places of an example's tokens whose loss counts."""
    left_out = {place for first, end in example.gaps for place in range(first, end)}
    first = max(example.prompt_length, 1)
    return [place for place in range(first, len(example.tokens)) if place not in left_out]


def own_logits(
    folder: Path, config: TrainConfig, adapter: TrainedAdapter, prompts: Sequence[Sequence[int]]
) -> Array:
    """Return the logits [P, V] behind prompts, of a model with an adapter beside it, float32."""
    module, _ = load_base(folder)
    adapter.put_on(module, config.lora)
    module.eval()
    rows = [numbers(module(mx.array([list(prompt)]))[0, -1]) for prompt in prompts]
    del module
    gc.collect()
    mx.clear_cache()
    return np.stack(rows)

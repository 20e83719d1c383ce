"""One attempt at one evaluation: the best adapter of a training job answers its validation set."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from jobs import caches
from jobs.backend.backend import backend
from jobs.backend.blas import set_blas_threads
from jobs.backend.mlx import tree_unflatten
from jobs.backend.streams import cpu_threads
from jobs.data.examples import Dialogue, read_examples
from jobs.data.prompts import PromptFormat
from jobs.data.reasoning import Frame
from jobs.data.token_cache import PACKAGES
from jobs.data.tokenize import (
    encode_example,
    frame_of,
    prompt_tokens,
    reference_text,
    without_end,
)
from jobs.data.tokenizer import Tokenizer
from jobs.errors import DataError, InvalidInput
from jobs.evaluation.answers import ADAPTER, ANSWERERS, BASE, Answer, Answers
from jobs.evaluation.generation import check_batching, generate, groups
from jobs.evaluation.report import EvaluationLosses, answer_rows, report_of, write_evaluation
from jobs.evaluation.scores import METRICS
from jobs.events import Evaluated, EvaluationStarted, PhaseBegan, Progress, Warned
from jobs.model.adapter import read_adapter
from jobs.model.adapter_fit import Arrays
from jobs.model.load import load_tokenizer
from jobs.model_store.digest import weights_digest
from jobs.pace import Pace
from jobs.paths import Workspace
from jobs.spec import DataFile, EvaluationSpec, JobSpec
from jobs.state import State, now
from jobs.training.session import Emit, Session, Stop
from jobs.training.summary import write_summary

# What an answer may have of tokens: so many times the longest reference, and that many at least.
ROOM, LEAST_TOKENS = 2, 32
# What a base model that reasons may write before its answer, beside that.
REASONING_TOKENS = 1_024


def evaluate(
    workspace: Workspace, spec: JobSpec, emit: Emit, stop_reason: Stop, splits: int = 0
) -> Evaluated | None:
    """Run an evaluation from its beginning, or go on with the answers that are missing.

    Args:
        splits: how often the number of questions at a time is halved, after attempts that ran out
            of memory.

    Returns:
        How it ended; None when asked to stop (the answers so far are kept).

    Raises:
        FarenseError: the spec cannot be carried out, or the work failed.
    """
    return Evaluation(workspace, spec, emit, stop_reason, splits).run()


class Evaluation:
    """What one attempt works with; see :func:`evaluate`."""

    def __init__(
        self, workspace: Workspace, spec: JobSpec, emit: Emit, stop_reason: Stop, splits: int
    ) -> None:
        self.spec, self.emit, self.stop_reason = spec, emit, stop_reason
        self.wanted, self.valid = _parts(spec)
        self.started = time.monotonic()
        self.trained = workspace.run(self.wanted.job)
        self.adapter = read_adapter(self.trained)
        rows = read_examples(workspace.inside(self.valid.path))
        self.questions = [row for row in rows if isinstance(row, Dialogue)]
        if not self.questions:
            raise DataError(f"{self.valid.source} holds texts alone: there is nothing to answer.")
        self.session = Session(workspace, spec, emit, stop_reason, splits)
        self.module = self.session.base.module
        check_batching(self.module)
        tokenizer = load_tokenizer(self.session.model_path, self.session.template)
        self.tokenizer = tokenizer
        style = self.session.config.prompt_format
        self.prompts = [prompt_tokens(row, tokenizer, style) for row in self.questions]
        self.frame = frame_of(self.questions[0], tokenizer, style)
        framed = self.frame != Frame()
        self.limits = self._limits(_room(self.questions, tokenizer, style, framed=framed))
        self.questions = [
            replace(row, completion=reference_text(row, tokenizer, self.frame))
            for row in self.questions
        ]
        self.batch_size = max(1, self.wanted.batch_size >> splits)
        self.without_question = len(rows) - len(self.questions)
        self.answers = Answers(workspace.run(spec.id).answers, self._circumstances())
        self.earlier = self.answers.elapsed_time_sec
        self.pace = Pace()

    def run(self) -> Evaluated | None:
        """Run to the end; None when asked to stop."""
        self.emit(self._started())
        arrays, losses = self.measured()
        self.pace.start(len(self.answers))
        for by in ANSWERERS:
            self.use(arrays[by])
            if by != ANSWERERS[0]:
                # Nobody knows yet whether its answers are as long as those of the one before.
                self.pace.turn(len(self.answers))
            if not self._answer(by):
                return None
        self.emit(Progress(self._total, self._total, 0, None, None))
        return self._finish(losses)

    def measured(self) -> tuple[dict[str, Arrays], EvaluationLosses]:
        """Return what makes the model answer as adapter or as base model, and both losses."""
        engine, batches = self.session.measuring()
        # A fresh adapter adds nothing: with it the model is the base model.
        arrays = {ADAPTER: self.adapter.fitting(engine.adapter), BASE: dict(engine.adapter)}
        losses: dict[str, float] = {}
        for by in ANSWERERS:
            engine.adapter = arrays[by]
            self.emit(PhaseBegan(f"measuring the validation loss ({by})"))
            losses[by] = engine.measure(batches.validation)
        return arrays, EvaluationLosses(**losses)

    def use(self, arrays: Arrays) -> None:
        """Let the model answer with these arrays of an adapter."""
        # What is measured runs on several lanes with few threads each; generation is one lane.
        set_blas_threads(cpu_threads())
        self.module.eval()
        self.module.update(tree_unflatten(list(arrays.items())))

    def _answer(self, by: str) -> bool:
        """Let all questions be answered that were not yet; False when asked to stop.

        A group in which an answer is missing is answered again as a whole: its batch is then the
        same, and so are the answers.
        """
        ends = set(self.tokenizer.eos_token_ids)
        for group in groups(self.prompts, self.batch_size):
            if all(self.answers.has(by, number) for number in group):
                continue
            prompts = [self.prompts[number] for number in group]
            limit = self.limits[by]
            for place, found in generate(self.module, prompts, ends, limit, self._goes_on):
                reasoning, text = self.frame.parts(self.tokenizer.decode(found.tokens))
                answer = Answer(by, group[place], text, found.cut, self._elapsed, reasoning)
                self.answers.add(answer)
            if not self._goes_on():
                return False
            self.pace.mark(len(self.answers))
        return True

    def _limits(self, room: int) -> dict[str, int]:
        """Return the most tokens that an answer of adapter and of base model may have.

        The adapter was taught how much it reasons. The base model was not, and where nothing in
        the prompt says that it should not, it does so before it answers.
        """
        if self.wanted.max_new_tokens is not None:
            return dict.fromkeys(ANSWERERS, self.wanted.max_new_tokens)
        return {ADAPTER: room, BASE: room + (REASONING_TOKENS if self.frame.may_reason else 0)}

    def _goes_on(self) -> bool:
        if self.pace.is_due():
            self.emit(self.pace.report(len(self.answers), self._total, 0))
        return self.stop_reason() is None

    @property
    def _total(self) -> int:
        return len(self.questions) * len(ANSWERERS)

    @property
    def _elapsed(self) -> float:
        """Seconds so far, with those of earlier attempts up to the last answer that they gave."""
        return self.earlier + time.monotonic() - self.started

    def _circumstances(self) -> dict[str, object]:
        """Return all that an answer depends on."""
        folder = self.session.model_path
        circumstances = {
            "adapter": self.adapter.sha256,
            "model": self.spec.model_fingerprint,
            "data": self.valid.sha256,
            "template": asdict(self.session.template),
            "max_new_tokens": self.limits,
            "weights": weights_digest(folder, self.session.workspace.weight_digests),
            # The tokenizer, too: it makes the questions, and text of the answers.
            "model files": caches.model_files_input(folder, ()).hex(),
            "settings": caches.settings_before_training(self.session.config),
            "batch_size": self.batch_size,
            "versions": self.session.versions,
            # Those, too, that make tokens of questions, and text of tokens.
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
            "code": caches.code_input().hex(),
        }
        caches.check_inputs(caches.ANSWERS, circumstances)
        return circumstances

    def _finish(self, losses: EvaluationLosses) -> Evaluated:
        wanted = self.wanted
        rows = answer_rows(self.questions, self.answers, ignore_accents=wanted.ignore_accents)
        elapsed = self._elapsed
        about = {
            "job": wanted.job,
            "preset": self.spec.preset,
            "model": self.session.model_path.name,
            "adapter_sha256": self.adapter.sha256,
            "data": {"source": self.valid.source, "sha256": self.valid.sha256},
            "without_question": self.without_question,
            "max_new_tokens": self.limits[ADAPTER],
            "base_max_new_tokens": self.limits[BASE],
            "batch_size": self.batch_size,
            "ignore_accents": wanted.ignore_accents,
            "versions": self.session.versions,
            "evaluated_at": now(),
            "elapsed_time_sec": elapsed,
        }
        report = report_of(rows, losses, self.session.config.seed, about)
        write_evaluation(self.trained, rows, report)
        outcome = Evaluated(
            state=State.COMPLETED.value,
            evaluates=wanted.job,
            questions=len(rows),
            **{metric: report[metric] for metric in METRICS},
            val_loss=report["validation_loss"],
            perplexity=report["perplexity"],
            base_val_loss=losses.base,
            cut=report[ADAPTER]["cut"],
            scores={by: report[by]["scores"] for by in ANSWERERS} | {"gain": report["gain"]},
            elapsed_time_sec=elapsed,
            folder=str(self.trained.evaluation),
        )
        self._warn_of_cut(outcome)
        write_summary(self.session.run, outcome, self.spec, self.session.versions)
        self.emit(outcome)
        return outcome

    def _warn_of_cut(self, outcome: Evaluated) -> None:
        if outcome.cut:
            self.emit(
                Warned(
                    f"{outcome.cut} of {outcome.questions} answers of the adapter had no end after "
                    f"{self.limits[ADAPTER]} tokens and were cut there (--max-new-tokens)."
                )
            )

    def _started(self) -> EvaluationStarted:
        return EvaluationStarted(
            pid=os.getpid(),
            preset=self.spec.preset,
            evaluates=self.wanted.job,
            model=self.session.model_path.name,
            device=f"{backend().describe()}, weights {self.session.base.form}",
            questions=len(self.questions),
            answers=self._total,
            answered=len(self.answers),
            max_new_tokens=self.limits[ADAPTER],
            batch_size=self.batch_size,
        )


def _parts(spec: JobSpec) -> tuple[EvaluationSpec, DataFile]:
    if spec.evaluation is None or spec.valid is None:
        raise InvalidInput(f"{spec.id} does not say what to evaluate.")
    return spec.evaluation, spec.valid


def _room(
    questions: Sequence[Dialogue], tokenizer: Tokenizer, style: PromptFormat, *, framed: bool
) -> int:
    """Return the most tokens that an answer may have where nobody has said so.

    Args:
        framed: something may be said around the answers.
    """
    lengths = []
    for row in questions:
        plain = tokenizer.encode(without_end(row.completion, tokenizer), add_special_tokens=False)
        # A template may want more than the answer to be said: a reasoning block, a channel.
        whole = encode_example(row, tokenizer, style) if framed or row.tool_calls else None
        taught = len(whole.tokens) - whole.last_answer_start if whole else 0
        lengths.append(max(len(plain), taught))
    return max(LEAST_TOKENS, ROOM * max(lengths))

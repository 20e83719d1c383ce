"""Answers in batches beside one question at a time: how fast, and whether they are the same.

``python -m benchmarks.evaluation`` trains a job on the sample data (160 steps), then lets its
adapter, and the base model, answer the validation questions twice: in batches, as an evaluation
does, and one by one with mlx-lm's own ``generate_step``. The two take turns, group by group, in one
process after a warm-up. Where two answers part, it computes by how much the best logit led there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.agreement import gap_where_they_part
from benchmarks.results import results_folder, say, table, write_results
from benchmarks.runs import TINY_LORA, benchmark_workspace, make_run, sample_rows, watch
from jobs.backend.mlx import generate_step, make_prompt_cache, mx, nn
from jobs.evaluation.answers import ANSWERERS
from jobs.evaluation.evaluate import Evaluation
from jobs.evaluation.generation import generate, groups
from jobs.paths import RunDirectory, Workspace
from jobs.spec import EvaluationSpec, read_spec
from tests.helpers.specs import write_spec

STEPS, QUICK_STEPS, QUICK_QUESTIONS = 160, 8, 12
# What may lead where two answers part: rounding moves a logit by less.
CLOSE = 1e-3

Tokens = tuple[int, ...]


@dataclass
class Sides:
    """One answerer's answers, both ways.

    Attributes:
        batched_seconds, single_seconds: one a group.
        gaps: of the answers that differ, by how much the best logit led where they part.
    """

    questions: int = 0
    tokens: int = 0
    batched_seconds: list[float] = field(default_factory=list)
    single_seconds: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    @property
    def speedup(self) -> float:
        """How many times faster the batches were."""
        return sum(self.single_seconds) / sum(self.batched_seconds)

    @property
    def agreement(self) -> float:
        """The part of the answers that are the same."""
        return 1 - len(self.gaps) / self.questions


def main() -> None:
    """Measure, print and write."""
    options = parse()
    with benchmark_workspace(tiny=options.quick) as workspace:
        evaluation = prepared(workspace, options)
        arrays, _ = evaluation.measured()
        sides = {}
        for by in ANSWERERS:
            say(f"The {by} answers {len(evaluation.prompts)} questions ...")
            evaluation.use(arrays[by])
            sides[by] = compared(evaluation)
    print(summary(sides))
    values = {by: vars(side) for by, side in sides.items()}
    about = {"batch_size": evaluation.batch_size, "max_new_tokens": evaluation.limits["adapter"]}
    write_results(results_folder(quick=options.quick) / "evaluation.json", about | values)


def parse() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model: does it work at all?")
    parser.add_argument("--batch-size", type=int, default=EvaluationSpec.batch_size)
    parser.add_argument("--questions", type=int, default=80, help="of the 80 for validation")
    return parser.parse_args()


def prepared(workspace: Workspace, options: argparse.Namespace) -> Evaluation:
    """Train a job and return an evaluation of it that is ready to be run."""
    settings: dict[str, Any] = {"max_steps": QUICK_STEPS if options.quick else STEPS}
    settings |= {"eval_steps": settings["max_steps"]}
    settings |= {"lora": TINY_LORA} if options.quick else {}
    valid = sample_rows("valid")[: QUICK_QUESTIONS if options.quick else options.questions]
    run = make_run(workspace, sample_rows("train"), valid, **settings)
    say(f"Training for {settings['max_steps']} steps ...")
    watch(workspace, "jobs", str(run.path))
    return Evaluation(
        workspace,
        read_spec(evaluating(workspace, run, options.batch_size)),
        lambda event: None,
        lambda: None,
        splits=0,
    )


def evaluating(workspace: Workspace, trained: RunDirectory, batch_size: int) -> RunDirectory:
    """Return the run directory of an evaluation."""
    run = workspace.run(trained.job_id.replace("bench", "eval_bench"))
    run.path.mkdir()
    wanted = EvaluationSpec(trained.job_id, batch_size=batch_size)
    spec = read_spec(trained)
    write_spec(run, replace(spec, id=run.job_id, kind="evaluate", evaluation=wanted))
    return run


def compared(evaluation: Evaluation) -> Sides:
    """Let the questions be answered both ways, in turn."""
    module, sides = evaluation.module, Sides(questions=len(evaluation.prompts))
    ends, limit = set(evaluation.tokenizer.eos_token_ids), evaluation.limits["adapter"]
    dealt = groups(evaluation.prompts, evaluation.batch_size)
    warm_up = [evaluation.prompts[number] for number in dealt[0]]
    batched(module, warm_up, ends, 4), single(module, warm_up[0], ends, 4)
    for group in dealt:
        prompts = [evaluation.prompts[number] for number in group]
        started = time.perf_counter()
        together = batched(module, prompts, ends, limit)
        between = time.perf_counter()
        alone = [single(module, prompt, ends, limit) for prompt in prompts]
        sides.batched_seconds.append(between - started)
        sides.single_seconds.append(time.perf_counter() - between)
        sides.tokens += sum(map(len, together))
        for prompt, one, other in zip(prompts, alone, together, strict=True):
            gap = gap_where_they_part(module, prompt, one, other)
            sides.gaps += [] if gap is None else [gap]
    return sides


def batched(
    module: nn.Module, prompts: Sequence[Sequence[int]], ends: set[int], limit: int
) -> list[Tokens]:
    """Return the answers to a group, as an evaluation lets them be given."""
    found = dict(generate(module, prompts, ends, limit, lambda: True))
    return [found[place].tokens for place in range(len(prompts))]


def single(module: nn.Module, prompt: Sequence[int], ends: set[int], limit: int) -> Tokens:
    """Return the answer to one question by mlx-lm's ordinary generation."""
    answer: list[int] = []
    cache = make_prompt_cache(module)
    for token, _ in generate_step(
        mx.array(list(prompt)), module, max_tokens=limit, prompt_cache=cache
    ):
        # mlx-lm's own annotation says array; it is a number.
        number = int(token)
        if number in ends:
            break
        answer.append(number)
    return tuple(answer)


def summary(sides: dict[str, Sides]) -> str:
    """Return the results as a table."""
    head = ["", "batched, s", "one by one, s", "times faster", "the same", "widest gap"]
    rows = [
        [
            f"{by}: {side.questions} questions, {side.tokens:,} tokens",
            f"{sum(side.batched_seconds):.1f}",
            f"{sum(side.single_seconds):.1f}",
            f"{side.speedup:.2f}",
            f"{side.agreement:.1%}",
            f"{max(side.gaps):.1e}" if side.gaps else "–",
        ]
        for by, side in sides.items()
    ]
    gaps = [gap for side in sides.values() for gap in side.gaps]
    within = "within" if max(gaps, default=0.0) <= CLOSE else "NOT within"
    parting = f"Where answers part, the best two logits are {within} {CLOSE} of each other."
    return f"{table(head, rows)}\n\n{parting if gaps else 'All answers are the same.'}"


if __name__ == "__main__":
    main()

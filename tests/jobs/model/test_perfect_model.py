"""A model that says exactly what it was taught scores 1 under the templates of every family."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from jobs.config.config import config_from
from jobs.data.tokenize import TokenizedExample
from jobs.errors import ExitCode
from jobs.evaluation.ask import Answerer
from jobs.evaluation.evaluate import Evaluation
from jobs.evaluation.generation import Generated
from jobs.export.folder import OPTIONS_FILE
from jobs.export.prompting import prompting_of
from jobs.paths import RunDirectory, Workspace
from jobs.spec import JobSpec, read_spec
from jobs.storage.files import read_json, whole_lines
from tests.helpers.evaluations import make_evaluation
from tests.helpers.families import FAMILIES, make_family
from tests.helpers.runs import make_run, run_child

SYSTEM = "Responde numa frase."
QUESTIONS = {
    "Onde joga o Farense?": "Em Faro, no Estádio de São Luís.",
    "Quem venceu?": "O Farense venceu por 2-1.",
    "Em que ano foi a final?": "1990",
}
REASONS = {"qwq": ""}
# Whose prompt leaves it to the base model whether it reasons.
MAY_REASON = {"qwq", "gpt-oss"}


def rows(name: str) -> list[dict[str, Any]]:
    """Return questions as a person has them; where the family takes one, with a system message."""
    if name != "mistral-system":
        return [{"prompt": q, "completion": a} for q, a in QUESTIONS.items()]
    roles = ("system", "user", "assistant")
    return [
        {"messages": [{"role": r, "content": t} for r, t in zip(roles, turn, strict=True)]}
        for turn in ((SYSTEM, q, a) for q, a in QUESTIONS.items())
    ]


@pytest.fixture(scope="module", autouse=True)
def uncompiled() -> Iterator[None]:
    """Compiling kernels takes longer than these jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLX_DISABLE_COMPILE", "1")
        patch.setenv("FARENSE_PLOTS", "off")
        yield


def queued(workspace: Workspace, tiny_model: Path, name: str, **settings: Any) -> RunDirectory:
    """Return the run directory of a job on a model of a family, whose prompts are the chat's."""
    model = make_family(name, tiny_model, workspace.models / "tiny")
    values: dict[str, Any] = {"prompt_format": "chat", "max_seq_length": 256}
    values |= FAMILIES[name].settings | settings
    return make_run(workspace, model, train_rows=rows(name), valid_rows=rows(name), **values)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The adapter of a job of one step: any fits the model, which says what a stand-in says."""
    run = queued(Workspace(tmp_path_factory.mktemp("w")), tiny_model, "chatml", max_steps=1)
    done = run_child(run)
    assert done.returncode == ExitCode.OK, done.stderr
    return run.adapters


@dataclass(frozen=True)
class Taught:
    """What a job taught: the tokens of each answer by those of its prompt."""

    answers: dict[tuple[int, ...], tuple[int, ...]]

    @classmethod
    def of(cls, examples: Sequence[TokenizedExample]) -> Taught:
        parts = ((e.tokens[: e.prompt_length], e.tokens[e.prompt_length :]) for e in examples)
        return cls(dict(parts))

    def generate(
        self,
        module: object,
        prompts: Sequence[Sequence[int]],
        ends: set[int],
        limit: int,
        after_step: Callable[[], bool],
    ) -> Iterator[tuple[int, Generated]]:
        """Say what was taught, up to where generation stops, as mlx-lm's generator does."""
        for place, prompt in enumerate(prompts):
            said: list[int] = []
            for token in self.answers[tuple(prompt)]:
                if token in ends or len(said) == limit:
                    break
                said.append(token)
            yield place, Generated(tuple(said), cut=len(said) == limit)

    def stream(self, module: object, tokenizer: Any, prompt: list[int], **_: Any) -> Iterator[Any]:
        """Do the same token by token, for one prompt."""
        for token in self.answers[tuple(prompt)]:
            stops = token in tokenizer.eos_token_ids
            yield SimpleNamespace(token=token, finish_reason="stop" if stops else None)
            if stops:
                return


@pytest.mark.parametrize("name", FAMILIES)
def test_what_was_taught_scores_1(
    name: str,
    adapter: Path,
    workspace: Workspace,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = queued(workspace, tiny_model, name)
    shutil.copytree(adapter, run.adapters)
    spec = read_spec(run)
    evaluating = read_spec(make_evaluation(workspace, run, "aaaa"))
    work = Evaluation(workspace, evaluating, lambda _: None, lambda: None, 0)
    taught = Taught.of(work.session.examples[1])
    assert taught == Taught.of(work.session.examples[0])  # training and validation say the same
    assert len(taught.answers) == len(QUESTIONS)

    monkeypatch.setattr("jobs.evaluation.evaluate.generate", taught.generate)
    outcome = work.run()
    assert outcome is not None
    assert (outcome.exact_match, outcome.token_f1, outcome.cut) == (1.0, 1.0, 0)
    said = [orjson.loads(line) for line in whole_lines(run.evaluation / "answers.jsonl")]
    for row in said:
        assert row["answer"] == row["reference"] == QUESTIONS[row["question"]]
        assert row["reasoning"] == row["base_reasoning"] == REASONS.get(name)
    report = read_json(run.evaluation / "evaluation_report.json")
    room = report["base_max_new_tokens"] - report["max_new_tokens"]
    assert room == (1_024 if name in MAY_REASON else 0)

    monkeypatch.setattr("jobs.evaluation.ask.stream_generate", taught.stream)
    answerer = Answerer(workspace, spec)
    for question, answer in QUESTIONS.items():
        assert "".join(piece.text for piece in answerer.answer(question)) == answer
        assert asked_by_card(workspace, spec, question, monkeypatch) in taught.answers


class _Asked(Exception):
    """Carries the prompt that mlx-lm's command was about to answer."""


def asked_by_card(
    workspace: Workspace, spec: JobSpec, question: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, ...]:
    """Return the prompt of mlx-lm's own command with the arguments of an export's card."""
    config = config_from(spec.config, "test")
    prompting = prompting_of(workspace, spec, config)
    folder = workspace.output / "export"
    folder.mkdir(parents=True, exist_ok=True)
    if prompting.in_file:
        (folder / OPTIONS_FILE).write_bytes(orjson.dumps(prompting.options))
    arguments = prompting.arguments("output/export").replace("QUESTION", question)
    expanded = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\0' {arguments}"],
        cwd=workspace.root,
        capture_output=True,
        check=True,
    ).stdout.decode()

    def caught(model: object, tokenizer: object, prompt: list[int], **_: object) -> None:
        raise _Asked(tuple(prompt))

    mlx_lm_command = importlib.import_module("mlx_lm.generate")  # a function has the same name
    command = ["mlx_lm", "--model", str(workspace.inside(config.model))]
    with monkeypatch.context() as patch:
        patch.setattr(mlx_lm_command, "generate", caught)
        patch.setattr("sys.argv", [*command, *expanded.split("\0")[:-1]])
        with pytest.raises(_Asked) as asked:
            mlx_lm_command.main()
    found: tuple[int, ...] = asked.value.args[0]
    return found

"""Evaluations as processes of their own: what they write, and that a kill changes none of it."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import caches
from jobs.backend.mlx import mx
from jobs.errors import ExitCode, InvalidInput
from jobs.evaluation.answers import ADAPTER, Answer, Answers
from jobs.evaluation.evaluate import Evaluation, evaluate
from jobs.evaluation.scores import METRICS, score
from jobs.events import Event
from jobs.model_store.folder import fingerprint
from jobs.paths import RunDirectory, Workspace
from jobs.spec import JobSpec, read_spec
from jobs.state import State, read_state
from jobs.storage.files import read_json, whole_lines
from tests.helpers.evaluations import make_evaluation, written
from tests.helpers.runs import CHILD, events, make_run, questions, run_child
from tests.helpers.waiting import wait_until

# Many steps for each answer, and one answer after another: time to be stopped in.
SLOW: dict[str, Any] = {"batch_size": 1, "max_new_tokens": 120}


@pytest.fixture(scope="module", autouse=True)
def uncompiled() -> Any:
    """Compiling kernels takes longer than these jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLX_DISABLE_COMPILE", "1")
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Workspace:
    """A workspace with a job that was trained, on questions of two kinds."""
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    rows = [
        {**row, "metadata": {"tipo": "golos" if number % 3 else "data"}}
        for number, row in enumerate(questions(5, first=100))
    ]
    run = make_run(workspace, tiny_model, valid_rows=rows, num_epochs=4)
    done = run_child(run)
    assert done.returncode == ExitCode.OK, done.stderr
    return workspace


@pytest.fixture
def trained(template: Workspace, tmp_path: Path) -> tuple[Workspace, RunDirectory]:
    """The same for one test."""
    shutil.copytree(template.root, tmp_path / "workspace")
    workspace = Workspace(tmp_path / "workspace")
    return workspace, next(map(RunDirectory, workspace.runs.glob("*-tiny-*")))


def ignored(event: Event) -> None:
    """Hear what an evaluation says."""


def never() -> None:
    """Never ask it to stop."""


def answers(run: RunDirectory) -> list[dict[str, Any]]:
    return [json.loads(line) for line in whole_lines(run.evaluation / "answers.jsonl")]


def given(evaluation: RunDirectory) -> int:
    """How many answers are on disk so far; the first line is no answer."""
    found = evaluation.answers
    return max(0, len(list(whole_lines(found))) - 1) if found.exists() else 0


def test_it_writes_answers_report_and_table(trained: tuple[Workspace, RunDirectory]) -> None:
    workspace, run = trained
    evaluation = make_evaluation(workspace, run, "aaaa", batch_size=2)
    done = run_child(evaluation)
    assert done.returncode == ExitCode.OK, done.stderr
    assert f"EVALUATION of {run.job_id}: 5 questions" in done.stdout

    rows = answers(run)
    for row, question in zip(rows, questions(5, first=100), strict=True):
        assert (row["question"], row["reference"]) == (question["prompt"], question["completion"])
        assert {m: row[m] for m in METRICS} == score(row["answer"], row["reference"])
        assert {m: row[f"base_{m}"] for m in METRICS} == score(row["base_answer"], row["reference"])
    # It has learned something: the report shows a gain that the answers bear out.
    report = read_json(run.evaluation / "evaluation_report.json")
    assert report["token_f1"] == pytest.approx(statistics.fmean(r["token_f1"] for r in rows))
    base = statistics.fmean(row["base_token_f1"] for row in rows)
    assert report["gain"]["token_f1"]["mean"] == pytest.approx(report["token_f1"] - base)
    assert report["token_f1"] > base
    f1 = report["adapter"]["scores"]["token_f1"]
    assert f1["low"] <= f1["mean"] <= f1["high"]

    # The losses are those that training measured with the same weights, to the bit.
    summary = read_json(run.summary)
    assert report["validation_loss"] == summary["best_val_loss"]
    assert report["base"]["validation_loss"] == summary["baseline_val_loss"]

    assert {n: c["questions"] for n, c in report["categories"].items()} == {"data": 2, "golos": 3}
    table = list(csv.DictReader((run.evaluation / "evaluation_summary.csv").open()))
    assert [(line["category"], line["of"]) for line in table[:4]] == [
        ("(all)", "adapter"),
        ("(all)", "base"),
        ("(all)", "gain"),
        ("data", "adapter"),
    ]
    assert float(table[0]["token_f1"]) == report["token_f1"]

    assert read_state(evaluation).state is State.COMPLETED
    kinds = [event["event"] for event in events(workspace, evaluation)]
    assert (kinds[0], kinds[-1]) == ("evaluation_started", "evaluated")


def test_twice_and_killed_in_between_it_writes_the_same(
    trained: tuple[Workspace, RunDirectory],
) -> None:
    workspace, run = trained
    first_time = make_evaluation(workspace, run, "aaaa", **SLOW)
    assert run_child(first_time, FARENSE_PLOTS="on").returncode == ExitCode.OK
    first = written(run.evaluation)
    assert {"scores.png", "categories.png"} < set(first)
    shutil.rmtree(run.evaluation)

    killed = make_evaluation(workspace, run, "bbbb", **SLOW)
    process = subprocess.Popen([*CHILD, str(killed.path)], stdout=subprocess.DEVNULL)
    wait_until(lambda: given(killed) >= 3, "some answers")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not run.evaluation.exists()
    kept = given(killed)
    done = run_child(killed, FARENSE_PLOTS="on")
    assert done.returncode == ExitCode.OK, done.stderr
    assert f"goes on after {kept} of 10 answers" in done.stdout
    assert written(run.evaluation) == first


def test_asked_to_stop_it_keeps_its_answers_and_goes_on_later(
    trained: tuple[Workspace, RunDirectory],
) -> None:
    workspace, run = trained
    evaluation = make_evaluation(workspace, run, "aaaa", batch_size=1, max_new_tokens=4)
    spec = read_spec(evaluation)
    enough = lambda: "it is late" if given(evaluation) >= 3 else None  # noqa: E731
    assert evaluate(workspace, spec, ignored, enough) is None
    kept = evaluation.answers.read_bytes()
    assert given(evaluation) == 3
    assert not run.evaluation.exists()
    # As if that attempt had taken an hour.
    kept = re.sub(rb'("elapsed_time_sec":)', rb"\g<1>360", kept)
    evaluation.answers.write_bytes(kept)
    ended = evaluate(workspace, spec, ignored, never)
    assert ended is not None
    assert ended.elapsed_time_sec > 3600
    assert evaluation.answers.read_bytes().startswith(kept)
    assert len(answers(run)) == 5


def test_an_answer_that_is_missing_is_given_as_in_its_group(
    trained: tuple[Workspace, RunDirectory],
) -> None:
    workspace, run = trained
    evaluation = make_evaluation(workspace, run, "aaaa", batch_size=2, max_new_tokens=9)
    evaluate(workspace, read_spec(evaluation), ignored, never)
    first = written(run.evaluation)
    lines = evaluation.answers.read_bytes().splitlines(keepends=True)
    evaluation.answers.write_bytes(b"".join(lines[:2] + lines[3:-1]))
    evaluate(workspace, read_spec(evaluation), ignored, never)
    assert written(run.evaluation) == first
    assert given(evaluation) == 10


def test_another_adapter_is_asked_from_the_beginning(
    trained: tuple[Workspace, RunDirectory],
) -> None:
    workspace, run = trained
    evaluation = make_evaluation(workspace, run, "aaaa", max_new_tokens=4)
    evaluation.answers.write_text(
        '{"adapter":"another"}\n{"by":"adapter","question":0,"text":"Vinte.","cut":false}\n'
    )
    evaluate(workspace, read_spec(evaluation), ignored, never)
    assert answers(run)[0]["answer"] != "Vinte."


def test_each_input_of_kept_answers_is_theirs(
    trained: tuple[Workspace, RunDirectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, run = trained
    first = read_spec(make_evaluation(workspace, run, "aaaa", max_new_tokens=4))
    assert first.evaluation is not None
    assert first.valid is not None
    model = workspace.inside(first.config["model"])

    def inputs(spec: JobSpec = first, splits: int = 0) -> dict[str, Any]:
        spec = replace(spec, model_fingerprint=fingerprint(model))
        return Evaluation(workspace, spec, ignored, never, splits)._circumstances()

    path = tmp_path / "answers.jsonl"
    before = inputs()
    Answers(path, before).add(Answer(ADAPTER, 0, "Sim.", False))
    kept_lines, seen = path.read_bytes(), set()
    assert len(Answers(path, inputs())) == 1

    def expect(names: set[str], changed: dict[str, Any]) -> None:
        assert {name for name in before if before[name] != changed[name]} == names
        path.write_bytes(kept_lines)
        assert len(Answers(path, changed)) == 0
        seen.update(names)

    wanted = first.evaluation
    more = replace(wanted, max_new_tokens=5)
    expect({"max_new_tokens"}, inputs(replace(first, evaluation=more)))
    expect({"batch_size"}, inputs(replace(first, evaluation=replace(wanted, batch_size=2))))
    expect({"batch_size", "versions"}, inputs(splits=1))
    longer = {**first.config, "max_seq_length": 97}
    expect({"settings"}, inputs(replace(first, config=longer)))
    expect({"template"}, inputs(replace(first, prompt_date="2020-02-02")))
    content = workspace.inside(first.valid.path).read_bytes() + b"\n"
    digest = hashlib.sha256(content).hexdigest()
    other = replace(first.valid, path=f"data/imported/{digest}.jsonl", sha256=digest)
    workspace.inside("data/imported").joinpath(f"{digest}.jsonl").write_bytes(content)
    expect({"data"}, inputs(replace(first, valid=other)))

    def with_file(file: Path, content: bytes) -> dict[str, Any]:
        old = file.read_bytes()
        file.write_bytes(content)
        # Of weights it is remembered what was in them at which time.
        os.utime(file, ns=(0, 0))
        found = inputs()
        file.write_bytes(old)
        return found

    config, weights = model / "config.json", model / "model.safetensors"
    changed = config.read_bytes().replace(b"1e-05", b"1e-04")
    expect({"model", "model files"}, with_file(config, changed))
    expect({"model", "weights"}, with_file(weights, flipped(weights)))
    expect({"adapter"}, with_file(run.adapter_weights, flipped(run.adapter_weights)))

    with monkeypatch.context() as patch:
        patch.setattr("jobs.backend.environment.blas_build", lambda: "another")
        expect({"versions"}, inputs())
    with monkeypatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        expect({"versions"}, inputs())
    versions = importlib.metadata.version
    for package, names in {
        "mlx": {"versions"},
        "mlx-lm": {"versions", "packages"},
        "transformers": {"packages"},
        "tokenizers": {"packages"},
    }.items():
        with monkeypatch.context() as patch:
            other_version = lambda name, other=package: "0" if name == other else versions(name)  # noqa: E731
            patch.setattr(importlib.metadata, "version", other_version)
            expect(names, inputs())
    monkeypatch.setattr(caches, "code_input", lambda modules=None: b"another")
    expect({"code"}, inputs())
    assert seen == set(caches.TABLE[caches.ANSWERS].inputs)


def flipped(file: Path) -> bytes:
    """Return the content of a file, a bit of its last number changed."""
    content = bytearray(file.read_bytes())
    content[-4] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: shutil.rmtree(run.adapters), "has no adapter"),
        (lambda run: run.adapter_weights.write_bytes(b"torn"), "is damaged"),
        (
            lambda run: mx.save_safetensors(str(run.adapter_weights), {"a": mx.zeros(1)}),
            "does not fit",
        ),
    ],
)
def test_without_a_whole_adapter_it_is_refused(
    trained: tuple[Workspace, RunDirectory], spoil: Any, message: str
) -> None:
    workspace, run = trained
    spoil(run)
    spec = read_spec(make_evaluation(workspace, run, "aaaa"))
    with pytest.raises(InvalidInput, match=message):
        evaluate(workspace, spec, ignored, never)
    assert not run.evaluation.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "sweep"),
        ("evaluation", None),
        ("evaluation", {"job": "../../etc"}),
        ("evaluation", {"job": "20261122-210000-tiny-abcd", "batch_size": 0}),
        ("evaluation", {"job": "20261122-210000-tiny-abcd", "what": 1}),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    trained: tuple[Workspace, RunDirectory], key: str, value: Any
) -> None:
    workspace, run = trained
    evaluation = make_evaluation(workspace, run, "aaaa")
    evaluation.job.write_text(json.dumps({**read_json(evaluation.job), key: value}))
    done = run_child(evaluation)
    assert done.returncode == ExitCode.INVALID
    assert "job.json is missing or damaged" in done.stderr

"""`farense export`: folders that other programs load as they are, whole or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from daemon.client import FarenseClient
from jobs.backend.mlx import mx
from jobs.config.config import Preset
from jobs.model.load import load_tokenizer
from jobs.paths import Workspace
from jobs.state import State, read_state, write_state
from jobs.storage.files import read_json, sha256_of, write_json
from tests.cli.conftest import FARENSE, Run, environment
from tests.helpers.exports import exported, float32_model, mlx_logits
from tests.helpers.past_runs import FIRST, SECOND
from tests.helpers.waiting import wait_until

NAME = "tiny-farense-qlora-tiny"
QUESTION = "Qual foi o resultado do jogo 101?"
QUICK = {"MLX_DISABLE_COMPILE": "1"}
# Where the two likeliest tokens are closer, 16 bits may choose the other.
SURE = 0.05


def generated(workspace: Workspace, folder: str) -> str:
    """Return what plain mlx-lm answers, by the command that the model card gives."""
    card = (workspace.output / folder / "README.md").read_text()
    command = card.partition("## How to load it\n\n")[2].partition("\n\n")[0]
    assert command.lstrip().startswith("python -m mlx_lm generate")
    path = f"{FARENSE.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", command.replace("QUESTION", QUESTION)],
        env=environment(workspace.root, HF_HUB_OFFLINE="1", PATH=path, **QUICK),
        cwd=workspace.root,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("==========\n")[1]


def sure_part(workspace: Workspace, answer: str, scratch: Path) -> str:
    """Return the beginning of an answer in which each token is likelier than any by far."""
    tokenizer = load_tokenizer(workspace.models / "tiny")
    prompt = tokenizer.encode(f"### Pergunta:\n{QUESTION}\n\n### Resposta:\n")
    tokens = tokenizer.encode(answer, add_special_tokens=False)
    base = float32_model(workspace.models / "tiny", scratch / "base")
    logits = mlx_logits(base, workspace.run(FIRST).adapters, [*prompt, *tokens])
    best = mx.sort(logits, axis=-1)[len(prompt) - 1 : -1, -2:]
    margins = np.array(best[:, 1] - best[:, 0])
    sure = next((place for place, margin in enumerate(margins) if margin < SURE), len(tokens))
    return str(tokenizer.decode(tokens[:sure]))


def test_plain_mlx_lm_loads_what_is_written_and_answers_as_ask_does(
    farense: Run, past: Workspace, tmp_path: Path
) -> None:
    done = farense("export", FIRST, "--fuse", "--json", **QUICK)
    assert done.code == 0, done.err
    adapter, fused = json.loads(done.out)
    assert Path(adapter["folder"]) == past.output / NAME
    assert adapter["adapter_sha256"] == sha256_of(past.output / NAME / "adapters.safetensors")
    # The loss is measured as in training: the adapter's is the one that training found.
    loss = read_json(past.run(FIRST).summary)["best_val_loss"]
    assert fused["adapter_validation_loss"] == pytest.approx(loss, abs=1e-5)
    assert 0 < abs(fused["moved"]) < 0.002
    assert fused["dtype"] == "float16"
    card = (Path(fused["folder"]) / "README.md").read_text()
    assert f"validation loss of this fused model {fused['validation_loss']:.4f}" in card

    asked = json.loads(farense("ask", FIRST, QUESTION, "--json", **QUICK).out)
    expected = sure_part(past, asked["answer"], tmp_path)
    assert len(expected) > len("O Farense")
    for folder in (NAME, f"{NAME}-fused"):
        assert generated(past, folder).startswith(expected)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing_by_half(
    past: Workspace, blow: signal.Signals
) -> None:
    exported(past, FIRST, fuse=True)
    before = (past.output / f"{NAME}-fused/model.safetensors").stat().st_ino
    partial = past.output / f".{NAME}-fused.partial"
    process = subprocess.Popen(
        [FARENSE, "export", FIRST, "--fuse"],
        env=environment(past.root, **QUICK),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: (partial / "model.safetensors").exists(), "weights of the fused model")
    process.send_signal(blow)
    process.communicate()
    assert process.returncode == (-blow if blow is signal.SIGKILL else 130)
    # The old one is as it was, and what is left is out of sight, until the next export.
    assert (past.output / f"{NAME}-fused/model.safetensors").stat().st_ino == before
    assert partial.exists() == (blow is signal.SIGKILL)
    exported(past, FIRST, fuse=True)
    assert sorted(path.name for path in past.output.iterdir()) == [NAME, f"{NAME}-fused"]


def test_without_room_nothing_is_written(past: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(past.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(Exception, match="Not enough disk space"):
        exported(past, FIRST, fuse=True)
    assert not past.output.exists()


def test_a_loss_that_moved_is_warned_of(past: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.export.kinds.MOVED", 1e-5)
    warnings: list[str] = []
    found = exported(past, FIRST, warnings, fuse=True, requantize=True)["requantized"]
    assert found.moved is not None
    assert [f"moved the validation loss by {found.moved:+.4f} nats" in text for text in warnings]
    assert "fuse without --requantize" in warnings[-1]
    assert found.bytes < exported(past, FIRST, warnings, fuse=True)["fused"].bytes


def test_the_export_of_another_job_stays_unless_it_is_to_go(invoke: Run, past: Workspace) -> None:
    exported(past, FIRST)
    done = invoke("export", SECOND, "--to", NAME)
    assert (done.code, done.out) == (2, "")
    assert f"is the export of another job, {FIRST}" in done.err
    assert f"--to {NAME}-2" in done.err
    # Without a name it gets one of its own, and the same again.
    for _ in range(2):
        (found,) = exported(past, SECOND).values()
        assert found.folder == str(past.output / f"{NAME}-bbbb")
    assert read_json(past.output / NAME / "farense_export.json")["job"] == FIRST
    exported(past, SECOND, name="mine")
    assert read_json(past.output / "mine/farense_export.json")["job"] == SECOND
    exported(past, SECOND, force=True)
    assert read_json(past.output / NAME / "farense_export.json")["job"] == SECOND


def test_what_cannot_be_exported_says_why(invoke: Run, past: Workspace) -> None:
    evaluation = next(path.name for path in past.runs.glob("*-eval_tiny-*"))
    for arguments, message in (
        (("export", "nothing"), "There is no job 'nothing'"),
        (("export", evaluation), "is an evaluation itself"),
        (("export", FIRST, "--requantize"), "--requantize says how to --fuse"),
        (("export", FIRST, "--to", "../models"), "cannot be the name of a folder"),
        (("ask", evaluation, "Quem?"), "is an evaluation itself"),
        (("ask", FIRST, " "), "The question is empty"),
        (("ask", FIRST, "--json"), "--json needs a question"),
    ):
        done = invoke(*arguments)
        assert (done.code, done.out) == (2, ""), done.err
        assert message in done.err
    assert not past.output.exists()


@pytest.mark.parametrize("command", [("export",), ("ask", "Quem?")])
def test_a_job_without_adapter_or_model_is_refused(
    invoke: Run, client: FarenseClient, preset: Preset, command: tuple[str, ...]
) -> None:
    run = client.workspace.run(client.enqueue(preset).id)

    def refusal() -> str:
        done = invoke(command[0], run.job_id, *command[1:])
        assert (done.code, done.out) == (2, "")
        return done.err

    assert "has no adapter: it is queued" in refusal()
    assert "after its first validation" in refusal()
    client.cancel(run.job_id)
    assert f"farense retry {run.job_id}" in refusal()
    write_state(run, type(read_state(run))(State.COMPLETED, attempt=1))
    write_json(run.adapter_weights, {})
    config = client.workspace.models / "tiny/config.json"
    config.write_text(config.read_text().replace("10000.0", "20000.0"))
    assert "has changed since" in refusal()
    shutil.rmtree(config.parent)
    assert "There is no model folder" in refusal()
    shutil.rmtree(run.path)
    assert "are not in this workspace" in refusal()


def test_a_refusal_comes_before_anything_is_loaded(farense: Run, past: Workspace) -> None:
    exported(past, FIRST)
    past.run(SECOND).adapter_weights.write_bytes(b"torn")
    done = farense("export", SECOND, "--to", NAME)
    assert (done.code, done.out) == (2, "")
    assert "is the export of another job" in done.err
    assert "terminate" not in done.err


def test_what_of_that_name_stays_another_jobs_is_told(past: Workspace) -> None:
    exported(past, FIRST, name="mine", peft=True)
    warnings: list[str] = []
    exported(past, SECOND, warnings, name="mine", force=True)
    (told,) = warnings
    assert (
        told == f"{past.output / 'mine-peft'} stays as it is: the export of another job, {FIRST}."
    )
    exported(past, SECOND, warnings, name="mine", force=True, peft=True)
    exported(past, SECOND, warnings, name="mine")
    assert warnings == [told]


def test_an_export_may_be_read_by_whom_the_umask_lets(past: Workspace) -> None:
    before = os.umask(0o027)
    try:
        exported(past, FIRST, fuse=True)
    finally:
        os.umask(before)
    for folder in past.output.iterdir():
        assert folder.stat().st_mode & 0o777 == 0o750
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}


def test_the_size_of_what_is_written_is_told_in_its_own_unit(
    past: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(past, FIRST, fuse=True)
    (line,) = (text for text in capsys.readouterr().out.splitlines() if "of weights" in text)
    assert re.match(r"Writing \d+\.\d MB of weights", line)
    assert "Writing 0.0" not in line

"""`farense quickstart`, with a tiny model in the place of the real one."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from cli.commands.quickstart import MODEL, model_settings, next_steps, prompt_options, sample_data
from daemon.process import daemon_status
from daemon.submit.checks import SubmitChecks
from jobs.config.config import Preset, load_preset
from jobs.paths import REPOSITORY, RunDirectory, Workspace
from jobs.state import State, read_state
from tests.cli.conftest import FARENSE, Run, environment
from tests.helpers.runs import questions, write_rows
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

QUICKSTART = """\
model: models/smollm2-135m-4bit
data: {train: data/sample/train.jsonl, valid: data/sample/valid.jsonl}
prompt_format: chat
lora: {rank: 2, scale: 4.0, dropout: 0.0, num_layers: 1, keys: [q_proj]}
batch_size: 2
learning_rate: 1e-3
num_epochs: %d
max_seq_length: 96
eval_steps: 2
log_steps: 2
"""


# Compiling kernels for a fresh workspace takes MLX longer than this training.
UNCOMPILED = {"MLX_DISABLE_COMPILE": "1"}


def prepare(workspace: Workspace, tiny_model: Path, epochs: int) -> None:
    shutil.copytree(tiny_model, workspace.models / f"{MODEL}-4bit")
    write_rows(workspace.data / "sample" / "train.jsonl", questions(6))
    write_rows(workspace.data / "sample" / "valid.jsonl", questions(2, first=50))
    (workspace.configs / "quickstart.yaml").write_text(QUICKSTART % epochs)


def nothing_runs(workspace: Workspace) -> bool:
    status = daemon_status(workspace)
    return not status.running and not status.server_running


def the_run(workspace: Workspace) -> RunDirectory | None:
    found = [
        path for path in workspace.runs.glob("2*-quickstart-*") if (path / "state.json").exists()
    ]
    return RunDirectory(found[0]) if found else None


def test_it_trains_through_the_queue_and_leaves_nothing_running(
    farense: Run, workspace: Workspace, tiny_model: Path
) -> None:
    prepare(workspace, tiny_model, epochs=1)
    done = farense("quickstart", **UNCOMPILED)
    assert done.code == 0, done.err
    assert "📚 Epoch 1/1" in done.out
    assert "ANÁLISE FINAL" in done.out
    run = the_run(workspace)
    assert run is not None
    assert read_state(run).state is State.COMPLETED
    assert str(run.adapters) in done.out
    assert (run.adapters / "adapters.safetensors").exists()
    commands = [shlex.split(line) for line in done.out.splitlines() if "mlx_lm.generate" in line]
    assert [("--adapter-path" in command) for command in commands] == [False, True]
    assert all(Path(command[0]).is_file() for command in commands)
    assert nothing_runs(workspace)
    events = [json.loads(line) for line in workspace.job_log(run.job_id).read_text().splitlines()]
    started = next(event for event in events if event["event"] == "started")
    assert started["attempt"] == 1


def test_after_a_run_that_has_not_learned_it_offers_nothing_to_ask(
    farense: Run, workspace: Workspace, tiny_model: Path
) -> None:
    prepare(workspace, tiny_model, epochs=1)
    preset = workspace.configs / "quickstart.yaml"
    preset.write_text(preset.read_text().replace("1e-3", "1") + "warmup_steps: 0\n")
    done = farense("quickstart", **UNCOMPILED)
    assert done.code == 0, done.err
    assert "SEM APRENDIZAGEM" in done.out
    assert "mlx_lm.generate" not in done.out
    assert "The model has not learned" in done.err
    assert nothing_runs(workspace)


def test_a_daemon_that_was_there_before_stays(
    farense: Run, workspace: Workspace, tiny_model: Path, daemons: Daemons
) -> None:
    prepare(workspace, tiny_model, epochs=1)
    daemon = daemons.start()
    assert farense("quickstart").code == 0
    assert daemon_status(workspace).pid == daemon.pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_cancels_its_job_and_leaves_nothing_running(
    workspace: Workspace, tiny_model: Path, number: signal.Signals
) -> None:
    prepare(workspace, tiny_model, epochs=9999)
    process = subprocess.Popen(
        [FARENSE, "quickstart"],
        env=environment(workspace.root, **UNCOMPILED),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = wait_until(lambda: the_run(workspace), "the job")
    wait_until(lambda: read_state(run).state is State.RUNNING, "the start of the job")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Cancelling {run.job_id}" in err
    assert "Traceback" not in err
    assert read_state(run).state is State.CANCELLED
    assert nothing_runs(workspace)


def test_what_is_refused_starts_nothing(
    farense: Run, workspace: Workspace, tiny_model: Path
) -> None:
    prepare(workspace, tiny_model, epochs=1)
    path = workspace.configs / "quickstart.yaml"
    # No answer fits: there is nothing to learn from.
    path.write_text(path.read_text().replace("max_seq_length: 96", "max_seq_length: 8"))
    done = farense("quickstart", **UNCOMPILED)
    assert done.code == 2
    assert "the prompts alone fill max_seq_length=8" in done.err
    assert the_run(workspace) is None
    assert nothing_runs(workspace)


def test_a_job_that_fails_ends_with_1_and_leaves_nothing_running(
    farense: Run, workspace: Workspace, tiny_model: Path
) -> None:
    prepare(workspace, tiny_model, epochs=1)
    path = workspace.configs / "quickstart.yaml"
    # Nobody can know before it is computed.
    text = path.read_text().replace("1e-3", "1").replace("scale: 4.0", "scale: 1.0e+38")
    path.write_text(text)
    done = farense("quickstart", **UNCOMPILED)
    assert done.code == 1
    assert "FAILED" in done.out
    assert "has failed: " in done.err
    assert nothing_runs(workspace)


def test_a_workspace_without_sample_data_uses_that_of_the_repository(workspace: Workspace) -> None:
    folders = (workspace.configs,)
    data = load_preset("quickstart", folders, sample_data(workspace)).config.data
    assert data.train == str(REPOSITORY / "data" / "sample" / "train.jsonl")
    assert data.valid == str(REPOSITORY / "data" / "sample" / "valid.jsonl")
    (workspace.data / "sample").mkdir()
    assert sample_data(workspace) == ()


@pytest.mark.parametrize(
    ("prompt_format", "options"),
    [
        ("chat", ["--prompt", "Quem és tu?"]),
        (
            "farense",
            [
                *("--ignore-chat-template", "--prompt"),
                r"### Pergunta:\nQuem és tu?\n\n### Resposta:\n",
            ],
        ),
    ],
)
def test_a_question_is_put_as_in_training(
    preset: Preset, prompt_format: str, options: list[str]
) -> None:
    config = preset.config.model_copy(update={"prompt_format": prompt_format})
    assert prompt_options("Quem és tu?", config) == options


def test_the_commands_survive_a_shell(preset: Preset, workspace: Workspace) -> None:
    from daemon.store.records import JobRecord

    question = 'Quem é o "leão" d\'Algarve?'
    write_rows(workspace.data / "valid.jsonl", [{"prompt": question, "completion": "O Farense."}])
    config = preset.config.model_copy(update={"prompt_format": "chat"})
    record = JobRecord("x", "tiny", State.COMPLETED, "checkpoints_qlora/x")
    commands = [
        shlex.split(line)
        for line in next_steps(workspace, config, record)
        if "mlx_lm.generate" in line
    ]
    assert [command[-1] for command in commands] == [question, question]
    assert "checkpoints_qlora/x/adapters" in commands[1]


def test_without_a_fast_blas_a_tiny_model_stands_in(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cli.commands.quickstart.load_fast_blas", lambda: None)
    monkeypatch.setattr("sys.platform", "linux")
    settings = (*sample_data(workspace), *model_settings(workspace))
    assert "tiny model with random weights" in capsys.readouterr().err
    preset = load_preset("quickstart", (REPOSITORY / "configs",), settings)
    examples = SubmitChecks(workspace).look(preset.config)
    assert preset.config.schedule(examples).total_steps == 160

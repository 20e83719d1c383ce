"""A GPU's way on a CPU, through the queue: all that a person does with a job."""

from __future__ import annotations

import json
import sys

import pytest

from daemon.client import FarenseClient
from daemon.sweep.view import view_sweep
from jobs.backend.choice import AS_ACCELERATOR, VARIABLE
from jobs.config.config import Preset, load_preset
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.files import read_json
from jobs.sweep.folder import find_sweep
from tests.cli.conftest import Run
from tests.helpers.jobs import ended
from tests.helpers.runs import questions, write_rows
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

REAL = (sys.executable, "-P", "-m", "jobs")
# MLX computes in 16 bits on a CPU twenty times more slowly than in 32.
SHORT = {"max_steps": 4, "eval_steps": 4, "save_steps": 4, "gap_examples": 2}
FORMS = ("--fuse", "--requantize", "--peft")


@pytest.mark.timeout(400)
def test_train_evaluate_ask_compare_export_and_sweep(
    client: FarenseClient,
    daemons: Daemons,
    preset: Preset,
    workspace: Workspace,
    farense: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = {VARIABLE: AS_ACCELERATOR, "MLX_DISABLE_COMPILE": "1", "FARENSE_PLOTS": "off"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> str:
        done = farense(*arguments, **variables)
        assert done.code == 0, (arguments, done.err)
        return done.out

    write_rows(workspace.data / "train.jsonl", questions(4))
    write_rows(workspace.data / "valid.jsonl", questions(2, first=50))
    daemons.start(child=REAL)
    settings = tuple(f"{name}={value}" for name, value in SHORT.items())
    short = load_preset(preset.name, (workspace.configs,), settings)
    jobs = [client.enqueue(short).id for _ in range(2)]
    for job in jobs:
        assert ended(client, job, 120).state is State.COMPLETED, client.job(job).reason
    summary = read_json(workspace.run(jobs[0]).summary)
    assert "as an accelerator" in summary["versions"]["device"]

    evaluation = json.loads(run("evaluate", jobs[0], "--json"))["id"]
    assert ended(client, evaluation, 120).state is State.COMPLETED, client.job(evaluation).reason
    assert client.job(jobs[0]).token_f1 is not None
    run("ask", jobs[0], "Qual foi o resultado do jogo 3?", "--max-new-tokens", "4")
    assert "decision" in json.loads(run("compare", *jobs, "--json"))
    written = json.loads(run("export", jobs[0], *FORMS, "--json"))
    assert len({each["kind"] for each in written}) == len(FORMS)

    plan = workspace.configs / "night.yaml"
    space = {"lora.rank": [2, 4], "learning_rate": [0.001, 0.005]}
    values = {"preset": preset.name, "set": SHORT, "space": space, "trials": 3}
    plan.write_text(json.dumps(values))
    run("sweep", str(plan))
    folder = find_sweep(workspace)
    wait_until(lambda: not view_sweep(folder).state.active, "the end of the sweep", 300)
    trials = view_sweep(folder).trials
    assert [trial.state for trial in trials] == [State.COMPLETED] * 3

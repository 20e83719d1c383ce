"""Plots at the end of a job: there however it ends, and never in its way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from jobs.errors import ExitCode
from jobs.paths import Workspace
from jobs.state import State, read_state
from jobs.storage.files import read_json
from tests.helpers.runs import SETTINGS, events, make_run, run_child

QUICK: dict[str, str] = {"MLX_DISABLE_COMPILE": "1"}
# After the first update the adapter's output, scaled so, is beyond float32.
DIVERGING: dict[str, Any] = {"lora": {**SETTINGS["lora"], "scale": 3e38}, "learning_rate": 1.0}


def test_a_training_that_fails_leaves_plots_of_what_it_measured(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model, **DIVERGING)
    done = run_child(run, FARENSE_PLOTS="on", **QUICK)
    assert done.returncode == ExitCode.DIVERGED, done.stderr
    # The baseline is all there is: it has a loss and a gap.
    names = {path.name for path in run.plots.iterdir()}
    assert {"loss_curves.png", "overfitting_gap.png"} <= names
    assert [e["event"] for e in events(alone, run)][-1] == "failed"


def test_plots_that_cannot_be_written_are_a_warning_and_change_nothing(
    alone: Workspace, tiny_model: Path
) -> None:
    blocked = make_run(alone, tiny_model, "20261122-210000-blocked-abcd")
    blocked.plots.write_text("no folder")
    plain = make_run(alone, tiny_model, "20261122-210001-plain-abcd")
    for run, plots in ((blocked, "on"), (plain, "off")):
        done = run_child(run, FARENSE_PLOTS=plots, **QUICK)
        assert done.returncode == ExitCode.OK, done.stderr
    assert read_state(blocked).state is State.COMPLETED
    assert read_json(blocked.summary)["state"] == "completed"
    said = events(alone, blocked)
    assert said[-1]["event"] == "finished"
    warnings = [e["message"] for e in said if e["event"] == "warning"]
    assert sum("plots could not be drawn" in text for text in warnings) == 1
    assert not plain.plots.exists()
    # The bits are those of a training that drew nothing.
    assert blocked.adapter_weights.read_bytes() == plain.adapter_weights.read_bytes()


def test_a_child_starts_without_matplotlib() -> None:
    program = (
        "import sys\nimport jobs.__main__, jobs.training.session, jobs.evaluation.evaluate\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0

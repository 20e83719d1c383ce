"""Runs that have ended, to look back on: two trainings of a tiny model, both evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.errors import ExitCode
from jobs.paths import Workspace
from tests.helpers.evaluations import make_evaluation
from tests.helpers.runs import SETTINGS, make_run, questions, run_child

FIRST, SECOND = "20261122-210000-first-aaaa", "20261123-210000-second-bbbb"
# What the second does in another way.
CHANGED: dict[str, Any] = {
    "learning_rate": 0.02,
    "num_epochs": 4,
    "lora": {**SETTINGS["lora"], "rank": 2},
}


def make_past_runs(folder: Path, tiny_model: Path) -> Workspace:
    """Make a workspace in which :data:`FIRST` and :data:`SECOND` were trained and evaluated.

    Both answer the same six questions, four of them of the kind ``golos``, two ``data``.
    """
    workspace = Workspace(folder)
    rows = [
        {**row, "metadata": {"tipo": "golos" if number % 3 else "data"}}
        for number, row in enumerate(questions(6, first=100))
    ]
    first = make_run(workspace, tiny_model, FIRST, valid_rows=rows)
    second = make_run(workspace, tiny_model, SECOND, valid_rows=rows, **CHANGED)
    for trained, letters in ((first, "aaaa"), (second, "bbbb")):
        evaluation = make_evaluation(workspace, trained, letters)
        for run in (trained, evaluation):
            # Compiling kernels takes longer than these jobs.
            done = run_child(run, MLX_DISABLE_COMPILE="1")
            assert done.returncode == ExitCode.OK, done.stderr
    (workspace.runs / "latest").symlink_to(SECOND)
    return workspace

"""Evaluations made by hand, as the client makes them, for tests without a queue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.paths import RunDirectory, Workspace
from jobs.spec import EvaluationSpec, read_spec
from jobs.state import JobState, State, write_state
from jobs.storage.files import read_json
from tests.helpers.specs import write_spec

ABOUT_TIME = ("evaluated_at", "elapsed_time_sec")


def make_evaluation(
    workspace: Workspace, trained: RunDirectory, letters: str, **wanted: Any
) -> RunDirectory:
    """Return the run directory of a queued evaluation of ``trained``."""
    run = workspace.run(f"20261122-230000-eval_tiny-{letters}")
    run.path.mkdir(parents=True)
    spec = replace(
        read_spec(trained),
        id=run.job_id,
        kind="evaluate",
        evaluation=EvaluationSpec(trained.job_id, **wanted),
    )
    write_spec(run, spec)
    write_state(run, JobState(State.QUEUED))
    return run


def written(folder: Path) -> dict[str, Any]:
    """Return what an evaluation has written, times left out."""
    report = read_json(folder / "evaluation_report.json")
    others = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".json"}
    return {**others, "report": {k: v for k, v in report.items() if k not in ABOUT_TIME}}

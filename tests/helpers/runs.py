"""Run directories made by hand, as enqueue makes them, for tests without a queue."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.config.config import config_from
from jobs.model_store.store import fingerprint
from jobs.paths import RunDirectory, Workspace
from jobs.spec import DataFile, JobSpec
from jobs.state import JobState, State, write_state
from jobs.storage.files import read_json, sha256_of, whole_lines
from tests.helpers.specs import write_spec

CHILD = [sys.executable, "-P", "-m", "jobs"]

SETTINGS: dict[str, Any] = {
    "model": "models/tiny",
    "prompt_format": "farense",
    "lora": {
        "rank": 4,
        "scale": 16.0,
        "dropout": 0.1,
        "num_layers": 2,
        "keys": ["q_proj", "up_proj"],
    },
    "batch_size": 2,
    "gradient_accumulation": 2,
    "learning_rate": 5e-3,
    "num_epochs": 2,
    "max_seq_length": 96,
    "save_steps": 5,
    "eval_steps": 6,
    "log_steps": 3,
    "gap_examples": 4,
}


def questions(count: int, first: int = 0) -> list[dict[str, str]]:
    """Return ``count`` rows whose answers can be learned."""
    return [
        {
            "prompt": f"Qual foi o resultado do jogo {number}?",
            "completion": f"O Farense venceu por {number % 4 + 1}-{number % 3}"
            + ", um jogo difícil" * (number % 3)
            + ".",
        }
        for number in range(first, first + count)
    ]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def make_run(
    workspace: Workspace,
    model: Path,
    job_id: str = "20261122-210000-tiny-abcd",
    *,
    train: int = 11,
    valid: int | None = 5,
    train_rows: Sequence[Mapping[str, Any]] | None = None,
    valid_rows: Sequence[Mapping[str, Any]] | None = None,
    **settings: Any,
) -> RunDirectory:
    """Return the run directory of a queued job on ``train`` and ``valid`` generated examples.

    Args:
        train_rows: what to train on instead.
        valid_rows: what to validate on instead.
    """
    target = workspace.models / "tiny"
    if not target.exists():
        shutil.copytree(model, target)
    rows = questions(train) if train_rows is None else train_rows
    files = {"train": _freeze(workspace, rows)}
    if valid is not None:
        rows = questions(valid, first=100) if valid_rows is None else valid_rows
        files["valid"] = _freeze(workspace, rows)
    data = {name: file.path for name, file in files.items()}
    config = config_from({**SETTINGS, "data": data, **settings}, "test")
    run = workspace.run(job_id)
    run.path.mkdir(parents=True)
    write_spec(
        run,
        JobSpec(
            id=job_id,
            preset="tiny",
            created_at="2026-11-22T21:00:00+00:00",
            config=config.model_dump(mode="json"),
            train=files["train"],
            valid=files.get("valid"),
            model_fingerprint=fingerprint(target),
            total_steps=config.schedule(files["train"].examples).total_steps,
        ),
    )
    write_state(run, JobState(State.QUEUED))
    return run


def run_child(
    run: RunDirectory, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a job to its end in a child process of its own; ``variables`` are of its environment."""
    return subprocess.run(
        [*CHILD, str(run.path), *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def metrics(run: RunDirectory) -> list[dict[str, Any]]:
    """Return the rows of ``training_metrics.json``."""
    rows: list[dict[str, Any]] = read_json(run.metrics_json)
    return rows


def numbers(run: RunDirectory) -> list[dict[str, Any]]:
    """Return the metrics rows without what depends on time and memory."""
    unstable = {"elapsed_time_sec", "timestamp", "tokens_per_second", "memory_mb"}
    return [{k: v for k, v in row.items() if k not in unstable} for row in metrics(run)]


def events(workspace: Workspace, run: RunDirectory) -> list[dict[str, Any]]:
    """Return the events in the job's log."""
    return [json.loads(line) for line in whole_lines(workspace.job_log(run.job_id))]


def _freeze(workspace: Workspace, rows: Sequence[Mapping[str, Any]]) -> DataFile:
    loose = write_rows(workspace.data / f"{len(rows)}.jsonl", rows)
    digest = sha256_of(loose)
    frozen = workspace.imported / f"{digest}.jsonl"
    frozen.parent.mkdir(parents=True, exist_ok=True)
    loose.rename(frozen)
    return DataFile(f"data/imported/{digest}.jsonl", digest, len(rows), loose.name)

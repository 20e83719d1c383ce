"""Runs that are forwarded to trackers, and the trackers' own readers."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from jobs.events import TrainMetrics
from jobs.paths import RunDirectory, Workspace
from jobs.state import JobState, State, write_state
from jobs.storage.files import write_json
from jobs.training.metrics import MetricsFiles
from tests.helpers.required import REQUIRE

TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow")
# Step -> curve -> value.
Curves = dict[int, dict[str, float]]


def trackers_installed() -> None:
    """Skip where the trackers' libraries are not installed."""
    if all(find_spec(name) for name in TRACKERS):
        return
    message = "trackers are missing: make trackers"
    if "trackers" in os.environ.get(REQUIRE, "").split(","):
        pytest.fail(message)
    pytest.skip(message)


class ToldTraining:
    """A training that goes as a test wants; its files are written as a real one writes them."""

    def __init__(self, run: RunDirectory) -> None:
        self.run, self.metrics, self._second = run, MetricsFiles(run), 0
        self.state(State.RUNNING)

    def state(self, state: State) -> None:
        write_state(self.run, JobState(state, 1))

    def row(self, step: int, loss: float, **values: float | None) -> None:
        self._second += 1
        empty = dict.fromkeys(("val_loss", "train_eval_loss", "overfitting_gap"))
        found: dict[str, Any] = {**empty, "learning_rate": 1e-4, "grad_norm": 0.1 + loss, **values}
        self.metrics.add(
            TrainMetrics(
                epoch=1, step=step, update=step // 2, loss=loss, tokens_per_second=100 / 3,
                memory_mb=12.5, elapsed_time_sec=0.1 * step,
                timestamp=f"2026-11-22T21:00:{self._second:02d}.123456+00:00", **found,
            )
        )  # fmt: skip

    def checkpoint(self, step: int) -> None:
        folder = self.run.checkpoint(0, step)
        folder.mkdir()
        counters = {"metrics_length": self.metrics.length}
        write_json(folder / "checkpoint.json", {"version": 2, "counters": counters, "files": {}})

    def back_to(self, step: int) -> None:
        """Do what a resume does, after a kill."""
        text = (self.run.checkpoint(0, step) / "checkpoint.json").read_bytes()
        self.metrics.cut(orjson.loads(text)["counters"]["metrics_length"])

    def finish(self, state: State = State.COMPLETED) -> None:
        summary = {"state": str(state), "best_val_loss": 1.25, "adapters": "/secret/place"}
        write_json(self.run.summary, summary)
        self.state(state)


def curves_of(run: RunDirectory, tracker: str) -> Curves:
    """Return what the metrics file holds, as far as a tracker can hold it."""
    kept = np.float32 if tracker == "tensorboard" else float
    rows = [orjson.loads(line) for line in run.metrics.read_bytes().splitlines()]
    return {
        row["step"]: {
            name: float(kept(value))
            for name, value in row.items()
            if name not in ("step", "timestamp") and value is not None
        }
        for row in rows
    }


def read_back(tracker: str, workspace: Workspace, name: str) -> tuple[Curves, dict[str, float]]:
    """Return what a tracker's own reader finds: the curves, each value once, and the rest.

    Raises:
        AssertionError: a curve has a step twice.
    """
    points = list(READERS[tracker](workspace.logs, name))
    keys = [(curve, step) for curve, step, _ in points]
    assert len(keys) == len(set(keys)), "a step stands there twice"
    curves: Curves = {}
    rest = {}
    for curve, step, value in points:
        if "/" in curve:
            rest[curve] = value
        else:
            curves.setdefault(step, {})[curve] = value
    return curves, rest


Points = list[tuple[str, int, float]]


def _tensorboard(logs: Path, name: str) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Any = EventAccumulator(str(logs / "tensorboard" / name), size_guidance={"scalars": 0})
    found.Reload()
    return [
        (tag, event.step, event.value)
        for tag in found.Tags()["scalars"]
        for event in found.Scalars(tag)
    ]


# It looks at the variable of its folder when it is imported, and at no later time.
TRACKIO = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage
rows = SQLiteStorage.get_logs("farense", sys.argv[1])
print(json.dumps(rows, default=str))
"""


def _trackio(logs: Path, name: str) -> Points:
    environment = {**os.environ, "TRACKIO_DIR": str(logs / "trackio")}
    command = [sys.executable, "-P", "-c", TRACKIO, name]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    rows: list[dict[str, Any]] = orjson.loads(done.stdout.splitlines()[-1])
    return [
        (key, row["step"], value)
        for row in rows
        for key, value in row.items()
        if key not in ("step", "timestamp") and isinstance(value, int | float)
    ]


def _mlflow(logs: Path, name: str) -> Points:
    from mlflow.tracking import MlflowClient

    client: Any = MlflowClient(f"sqlite:///{logs}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("farense").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`farense.job` = '{name}'")
    return [
        (metric.key, metric.step, metric.value)
        for key in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, key)
    ]


def _wandb(logs: Path, name: str) -> Points:
    from daemon.track.wandb_files import files_of, history

    return [
        (key, row["_step"], value)
        for path in files_of(logs, name)
        for row in history(path)
        for key, value in row.items()
        if not key.startswith("_")
    ]


READERS = {"tensorboard": _tensorboard, "trackio": _trackio, "mlflow": _mlflow, "wandb": _wandb}

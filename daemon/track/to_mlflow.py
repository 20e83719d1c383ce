"""MLflow: a run in an experiment; each curve is asked how far it is before it is continued."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from mlflow.entities import Metric, Param, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from daemon.track.kinds import PROJECT
from daemon.track.source import Row, TrackedEnd, curves
from daemon.track.writer import TrackedRun, seconds_of

JOB = "farense.job"
# Of one request, and of a setting's value: MLflow's own limits.
METRICS, PARAMS, CHARACTERS = 1000, 100, 6000
ENDED = ("FAILED", "KILLED")
STATE = {"failed": RunStatus.FAILED, "cancelled": RunStatus.KILLED}


class MlflowRun:
    """A run in a SQLite file below the workspace, or where ``MLFLOW_TRACKING_URI`` leads."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = run

    def begin(self) -> int:
        """Find the run by the job's id, or make it."""
        address = os.environ.get("MLFLOW_TRACKING_URI")
        files = None
        if not address:
            self._run.folder.mkdir(parents=True, exist_ok=True)
            address = f"sqlite:///{self._run.folder / 'mlflow.db'}"
            files = (self._run.folder / "artifacts").as_uri()
        self._client = MlflowClient(address)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._experiment(name, files)
        found = self._client.search_runs([experiment], f"tags.`{JOB}` = '{self._run.id}'")
        if found:
            self._id = found[0].info.run_id
            if found[0].info.status in ENDED:
                self._end = found[0].info.status
            self._client.update_run(self._id, RunStatus.to_string(RunStatus.RUNNING))
        else:
            tags = {JOB: self._run.id, "mlflow.source.name": "farense"}
            made = self._client.create_run(experiment, tags=tags, run_name=self._run.name)
            self._id = made.info.run_id
        settings = [
            Param(name, str(value)[:CHARACTERS]) for name, value in self._run.config.items()
        ]
        for at in range(0, len(settings), PARAMS):
            self._client.log_batch(self._id, params=settings[at : at + PARAMS])
        known = self._client.get_run(self._id).data.metrics
        self._held = {
            (name, metric.step)
            for name in known
            for metric in self._client.get_metric_history(self._id, name)
        }
        # A request that was cut off may have left some curves a row behind the others: what each
        # holds decides, not the last step of any.
        return -1

    def _experiment(self, name: str, files: str | None) -> str:
        if (found := self._client.get_experiment_by_name(name)) is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name, artifact_location=files))
        except MlflowException:  # another process has made it meanwhile
            if (found := self._client.get_experiment_by_name(name)) is None:
                raise
            return str(found.experiment_id)

    def rows(self, rows: Sequence[Row]) -> None:
        """Log rows, many in a request."""
        self._log(
            [
                Metric(name, value, int(1000 * seconds_of(row)), row["step"])
                for row in rows
                for name, value in curves(row).items()
            ]
        )

    def outcome(self, kind: str, found: TrackedEnd, step: int) -> None:
        """Log figures as metrics, words as a file, pictures as files."""
        if kind == "evaluation":  # a later one counts, too
            self._held -= {(f"{kind}/{name}", step) for name in found.figures}
        moment = int(1000 * time.time())
        self._log([Metric(f"{kind}/{name}", v, moment, step) for name, v in found.figures.items()])
        self._client.log_dict(self._id, found.summary, f"{kind}.json")
        for path in found.plots.values():
            self._client.log_artifact(self._id, str(path), "plots")
        if kind == "summary":
            state = STATE.get(str(found.summary.get("state")), RunStatus.FINISHED)
            self._end = RunStatus.to_string(state)

    _end = "FINISHED"

    def close(self) -> None:
        """Say that nothing more comes for now."""
        self._client.set_terminated(self._id, self._end)

    def _log(self, metrics: list[Metric]) -> None:
        new = [metric for metric in metrics if (metric.key, metric.step) not in self._held]
        for at in range(0, len(new), METRICS):
            some = new[at : at + METRICS]
            self._client.log_batch(self._id, metrics=some)
            self._held |= {(metric.key, metric.step) for metric in some}

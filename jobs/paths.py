"""Every path farense uses, from the workspace and a job id.

The workspace is ``$FARENSE_HOME``, else the repository root. Jobs carry only paths relative to it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import InvalidInput

REPOSITORY = Path(__file__).resolve().parent.parent

CHECKPOINT = re.compile(r"checkpoint_epoch(\d+)_step(\d+)", re.ASCII)
# The id of a job names files and Redis keys: nothing in it may mean something to either.
# The time with which an id begins: ids of one day are all alike there.
WHEN = re.compile(r"[0-9]{8}-[0-9]{6}-")
JOB_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9_]{1,40}-[a-z]{4}")


@dataclass(frozen=True)
class Workspace:
    """The folder that holds ``configs/ data/ models/ checkpoints_qlora/ logs/ output/``."""

    root: Path

    @classmethod
    def current(cls) -> Workspace:
        """Return the workspace of this process: ``$FARENSE_HOME``, else the repository root."""
        home = os.environ.get("FARENSE_HOME")
        return cls(Path(home).expanduser().resolve() if home else REPOSITORY)

    @property
    def configs(self) -> Path:
        """Presets; the repository's own are used where the workspace has none."""
        return self.root / "configs"

    @property
    def night_settings(self) -> Path:
        """What this machine's daemon does beside training."""
        return self.configs / "daemon" / "night.yaml"

    @property
    def data(self) -> Path:
        """The user's JSON Lines files."""
        return self.root / "data"

    @property
    def imported(self) -> Path:
        """Data frozen by content: ``<sha256>.jsonl``."""
        return self.data / "imported"

    @property
    def models(self) -> Path:
        """Base models, a folder each."""
        return self.root / "models"

    @property
    def runs(self) -> Path:
        """Run directories, one for each job."""
        return self.root / "checkpoints_qlora"

    @property
    def output(self) -> Path:
        """Exports, a folder each."""
        return self.root / "output"

    @property
    def logs(self) -> Path:
        """The daemon's log and, below ``jobs/``, one log for each job."""
        return self.root / "logs"

    @property
    def private(self) -> Path:
        """Server socket, locks and temporary files: readable by the user alone (mode 0700)."""
        return self.root / ".farense"

    @property
    def temporary(self) -> Path:
        """What takes the place of the shared ``/tmp`` for the daemon's children."""
        return self.private / "tmp"

    @property
    def prefix_cache(self) -> Path:
        """Hidden states that many jobs share, a folder for each list of examples."""
        return self.private / "prefix_cache"

    @property
    def token_cache(self) -> Path:
        """Tokenized data files, kept from job to job."""
        return self.private / "tokens"

    @property
    def rehearsals(self) -> Path:
        """What is known of models before a job of theirs is queued, kept from job to job."""
        return self.private / "rehearsals"

    @property
    def baselines(self) -> Path:
        """Losses before training, kept from job to job."""
        return self.private / "baselines"

    @property
    def weight_digests(self) -> Path:
        """What is in the models' weight files, as last read."""
        return self.private / "weight_digests.json"

    @property
    def daemon_log(self) -> Path:
        """The daemon's log: structured JSON, rotated."""
        return self.logs / "daemon.jsonl"

    def job_log(self, job_id: str) -> Path:
        """Return the file of a job's events, one JSON object a line; raises as :meth:`run`."""
        return self.logs / "jobs" / f"{self.run(job_id).job_id}.jsonl"

    def job_stderr(self, job_id: str) -> Path:
        """Return the file of the child's raw standard output and error; raises as :meth:`run`."""
        return self.logs / "jobs" / f"{self.run(job_id).job_id}.stderr"

    def run(self, job_id: str) -> RunDirectory:
        """Return the run directory of a job.

        Raises:
            InvalidInput: ``job_id`` is not the id of a job.
        """
        if not JOB_ID.fullmatch(job_id):
            raise InvalidInput(f"{job_id!r} is not a job id.")
        return RunDirectory(self.runs / job_id)

    def model(self, relative: str) -> Path:
        """Return the folder of a job's model, under the name that it has in the workspace.

        It may be a link that leads out, to a copy that several workspaces share: whoever can make
        one here may read anything already. The path itself may not.

        Raises:
            InvalidInput: the path is absolute or leads out of the workspace.
        """
        path = Path(os.path.normpath(relative))
        if path.is_absolute() or ".." in path.parts:
            raise InvalidInput(
                f"{relative!r} leads out of the workspace {self.root}.",
                "A job names its model by a folder in the workspace, which may be a link.",
            )
        return self.root / path

    def inside(self, relative: str) -> Path:
        """Return the absolute path of ``relative``, links resolved.

        Raises:
            InvalidInput: the path is absolute or leads out of the workspace.
        """
        try:
            path = (self.root / relative).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            # Links in a circle, or a character that no path has.
            raise InvalidInput(f"{relative!r} is not a path: {error}.") from error
        root = self.root.resolve()
        if Path(relative).is_absolute() or (path != root and root not in path.parents):
            raise InvalidInput(
                f"{relative!r} leads out of the workspace {self.root}.",
                "Put the file or folder itself there; links that lead out are not followed.",
            )
        return path


@dataclass(frozen=True)
class RunDirectory:
    """``checkpoints_qlora/<job id>/``: everything a job leaves on disk, the source of truth."""

    path: Path

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return self.path.name

    @property
    def job(self) -> Path:
        """The frozen spec; never changed after enqueue."""
        return self.path / "job.json"

    @property
    def state(self) -> Path:
        """Where the job stands; every transition is written here first."""
        return self.path / "state.json"

    @property
    def lock(self) -> Path:
        """Held (flock) by the child for its whole life."""
        return self.path / "run.lock"

    @property
    def metrics(self) -> Path:
        """The record: one JSON object a row, appended."""
        return self.path / "training_metrics.jsonl"

    @property
    def metrics_json(self) -> Path:
        """The rows as one JSON list, for people."""
        return self.path / "training_metrics.json"

    @property
    def metrics_csv(self) -> Path:
        """The rows as a table, for spreadsheets."""
        return self.path / "training_metrics.csv"

    @property
    def summary(self) -> Path:
        """Written once, at the end, also on failure."""
        return self.path / "training_summary.json"

    @property
    def training_state(self) -> Path:
        """Epoch, step, best validation loss, patience counter: for people."""
        return self.path / "training_state.json"

    @property
    def adapters(self) -> Path:
        """The best adapter so far, as mlx-lm loads it."""
        return self.path / "adapters"

    @property
    def adapter_weights(self) -> Path:
        """The best adapter's arrays; there after its first validation."""
        return self.adapters / "adapters.safetensors"

    @property
    def evaluation(self) -> Path:
        """What the best adapter answered, and how good that was."""
        return self.path / "evaluation"

    @property
    def evaluation_report(self) -> Path:
        """The scores of those answers."""
        return self.evaluation / "evaluation_report.json"

    @property
    def plots(self) -> Path:
        """Pictures of the metrics, drawn at the end."""
        return self.path / "plots"

    @property
    def report(self) -> Path:
        """The page that ``farense report`` makes of it."""
        return self.path / "report.html"

    @property
    def answers(self) -> Path:
        """Of an evaluation: the answers so far, appended one by one."""
        return self.path / "answers.jsonl"

    def newest_checkpoint_step(self) -> int | None:
        """Return the step of the newest checkpoint, whole or not; None where there is none."""
        found = (CHECKPOINT.fullmatch(path.name) for path in self.path.glob("checkpoint_*"))
        return max((int(match[2]) for match in found if match), default=None)

    def checkpoint(self, epoch: int, step: int) -> Path:
        """Return the folder of the checkpoint at ``step`` (counted within the run, from 1)."""
        return self.path / f"checkpoint_epoch{epoch}_step{step}"


def end_of_id(job_id: str) -> str:
    """Return the id of a job or sweep without its time: what a person tells it by."""
    found = WHEN.match(job_id)
    return job_id[found.end() :] if found else job_id

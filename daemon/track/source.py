"""What of a run can be forwarded: the rows that will not be trained again, and what it came to.

A run that is killed goes back to its last checkpoint, and the rows behind that are written anew.
So a row is forwarded once a checkpoint covers it, or the job has ended: no tracker has to take a
step back.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from daemon.runs.snapshot import snapshot_of
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import FINISHED, State
from jobs.storage.files import from_plain, read_json
from jobs.training.checkpoint_files import DESCRIPTION, TORN, newest_first, step_of

Row = Mapping[str, Any]

# Of a row, what is no curve.
NO_CURVE = ("step", "timestamp")
# Of a summary, what only means something on this machine, or stands elsewhere.
NOT_SHOWN = ("adapters", "run_dir", "config", "data", "init_from", "versions", "job", "folder")


@dataclass(frozen=True)
class TrackedEnd:
    """What a run came to.

    Attributes:
        figures: by their names in ``training_summary.json``.
        summary: the same with its words.
        plots: pictures (PNG), by their names.
    """

    figures: dict[str, float]
    summary: dict[str, Any]
    plots: dict[str, Path]


class TrackedFiles:
    """The files of one training job, looked at anew with each call."""

    def __init__(self, workspace: Workspace, job_id: str) -> None:
        self._workspace, self.run = workspace, workspace.run(job_id)
        spec = read_spec(self.run)
        self.name = spec.name or job_id
        self.config = flat(spec.config)
        self._goes_back = spec.config.get("on_divergence") == "rollback"
        self._save_steps = int(spec.config.get("save_steps") or 1)

    @property
    def state(self) -> State | None:
        """The state of the job; None where it cannot be read at the moment, or was removed."""
        found = snapshot_of(self._workspace, self.run.job_id).state
        return None if found is None else found.state

    @property
    def ended(self) -> bool:
        """Whether the job has ended: none that has goes on under its id."""
        return self.state in FINISHED

    def rows(self, *, ended: bool) -> list[Row]:
        """Return the rows that stay, one for each step, in their order."""
        try:
            content = self.run.metrics.read_bytes()
        except OSError:
            return []
        limit = len(content) if ended else self._covered()
        # A torn last line is no row yet.
        whole = content[: content.rfind(b"\n", 0, limit) + 1]
        found: dict[int, dict[str, Any]] = {}
        for line in whole.splitlines():
            row = from_plain(orjson.loads(line))
            there = {name: value for name, value in row.items() if value is not None}
            found.setdefault(int(row["step"]), {}).update(there)
        rows: list[Row] = list(found.values())
        if not ended and rows and not any("val_loss" in row and row["step"] for row in rows):
            # A run that is told to end before its first validation is measured at its last step.
            rows.pop()
        return rows

    def _covered(self) -> int:
        """Return how many bytes of the metrics a resume would keep."""
        folders = newest_first(self.run)
        if self._goes_back:
            # Checkpoints of stops in between are passed over by a run that diverges.
            folders = (path for path in folders if step_of(path) % self._save_steps == 0)
        for path in folders:
            with suppress(*TORN):
                return int(read_json(path / DESCRIPTION)["counters"]["metrics_length"])
        return 0

    def outcome(self) -> TrackedEnd:
        """Return what the run came to, as far as its files tell."""
        summary: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            summary = from_plain(read_json(self.run.summary))
        told = {name: value for name, value in summary.items() if name not in NOT_SHOWN}
        if (state := self.state) is not None:
            told["state"] = str(state)
        return TrackedEnd(figures(told), told, pictures(self.run.plots))

    @property
    def evaluation_time(self) -> int:
        """When its evaluation was written, in a number that tells it from others; 0 without one."""
        with suppress(OSError):
            return self.run.evaluation_report.stat().st_mtime_ns
        return 0

    def evaluation(self) -> TrackedEnd:
        """Return what its adapter's answers are worth."""
        report: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            report = from_plain(read_json(self.run.evaluation_report))
        found = scores(report)
        return TrackedEnd(found, dict(found), pictures(self.run.evaluation))

    def stamp(self) -> tuple[object, ...]:
        """Return what changes when there is something new to forward."""
        kept = sorted(path.name for path in newest_first(self.run))
        return (self.state, self.evaluation_time, *kept)


def curves(row: Row) -> dict[str, float]:
    """Return the figures of a row, by the names that its columns have."""
    return {name: value for name, value in figures(row).items() if name not in NO_CURVE}


def figures(values: Mapping[str, Any]) -> dict[str, float]:
    """Return what is a number among values."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def scores(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of an evaluation: the adapter's, the base model's, and what was gained."""
    base, gain = report.get("base") or {}, report.get("gain") or {}
    means = {
        f"{whose}_{name}": score["mean"]
        for whose, found in (("base", base.get("scores") or {}), ("gain", gain))
        for name, score in found.items()
    }
    return {
        **figures(report),
        **{f"base_{name}": value for name, value in figures(base).items()},
        **figures(means),
    }


def pictures(folder: Path) -> dict[str, Path]:
    """Return the plots in a folder, by their names."""
    return {path.stem: path for path in sorted(folder.glob("*.png"))}


def flat(config: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    """Return settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flat(value, f"{head}{name}.") if isinstance(value, dict) else {head + name: value}
    return found


def after(rows: list[Row], step: int) -> list[Row]:
    """Return the rows behind a step."""
    return [row for row in rows if row["step"] > step]

"""Weights & Biases: a run online where a key is known, else offline, to be synced later."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import wandb

from daemon.track import wandb_files
from daemon.track.kinds import PROJECT
from daemon.track.source import Row, TrackedEnd, curves
from daemon.track.writer import TrackedRun


class WandbRun:
    """A run whose id is the job's. What is written offline lies in a folder for each session."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = run

    def begin(self) -> int:
        """Open the run, and return the last step that it had."""
        folder = Path(os.environ.get("WANDB_DIR") or self._run.folder.parent)
        folder.mkdir(parents=True, exist_ok=True)
        key_known = wandb.login(prompt=False, verify=False)
        mode = os.environ.get("WANDB_MODE") or ("online" if key_known else "offline")
        written = wandb_files.last_step(folder, self._run.id) if mode == "offline" else -1
        self._wandb = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=self._run.id,
            name=self._run.name,
            config=self._run.config,
            dir=str(folder),
            mode=cast(Any, mode),
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
            ),
        )
        # Online it knows itself how far the run was.
        return max(written, int(self._wandb.step) - 1)

    def rows(self, rows: Sequence[Row]) -> None:
        """Log rows."""
        for row in rows:
            self._wandb.log(curves(row), step=row["step"])

    def outcome(self, kind: str, found: TrackedEnd, step: int) -> None:
        """Keep figures and pictures in the run's summary."""
        values: dict[str, object] = {f"{kind}/{k}": v for k, v in found.summary.items()}
        for name, path in found.plots.items():
            values[f"{kind}/{name}"] = wandb.Image(str(path))
        self._wandb.summary.update(values)

    def close(self) -> None:
        """Wait until all of it is written, or sent."""
        self._wandb.finish()

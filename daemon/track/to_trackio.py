"""trackio: a run in its local store, or where its own variables lead."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from daemon.track.kinds import PROJECT
from daemon.track.source import Row, TrackedEnd, curves
from daemon.track.writer import TrackedRun

FOLDER = "TRACKIO_DIR"
ELSEWHERE = ("TRACKIO_SERVER_URL", "TRACKIO_SPACE_ID")


class TrackioRun:
    """A run of trackio's. Its library writes from a thread, so each call opens it and ends it.

    It notes when it was told of a row, not when the row was written.
    """

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        os.environ.setdefault(FOLDER, str(run.folder))
        self._local = not any(os.environ.get(name) for name in ELSEWHERE)

    def begin(self) -> int:
        """Return how far the run is, by its store."""
        import trackio  # noqa: PLC0415 - it reads its folder's variable when it is imported

        self._trackio = trackio
        run = self._open()
        last = run._safe_get_max_step_for_run()
        trackio.finish()
        return -1 if last is None else int(last)

    def _open(self) -> Any:
        return self._trackio.init(
            project=self._project,
            name=self._run.id,
            config=dict(self._run.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def rows(self, rows: Sequence[Row]) -> None:
        """Log rows, and wait until the store holds them."""
        self._open()
        for row in rows:
            self._trackio.log(curves(row), step=row["step"])
        self._trackio.finish()
        self._check_kept(rows[-1]["step"])

    def outcome(self, kind: str, found: TrackedEnd, step: int) -> None:
        """Log figures and pictures at the last step."""
        if kind == "summary" and self._has_summary():
            return  # of a process that was killed before it could note that
        self._open()
        values: dict[str, object] = {f"{kind}/{k}": v for k, v in found.figures.items()}
        for name, path in found.plots.items():
            values[f"{kind}/{name}"] = self._trackio.Image(str(path))
        self._trackio.log(values, step=step)
        self._trackio.finish()

    def _check_kept(self, step: int) -> None:
        """Check that the local store has a row: the library only prints what goes wrong.

        Raises:
            OSError: it has not.
        """
        if not self._local:
            return
        kept = self._store().get_last_step(self._project, self._run.id)
        if kept is None or kept < step:
            raise OSError("trackio has not kept the rows")

    def _has_summary(self) -> bool:
        logged = self._store().get_logs(self._project, self._run.id) if self._local else []
        return any(name.startswith("summary/") for row in logged for name in row)

    def _store(self) -> Any:
        from trackio.sqlite_storage import SQLiteStorage  # noqa: PLC0415 - as in begin

        return SQLiteStorage

    def close(self) -> None:
        """Do nothing: each call has ended what it opened."""

"""Sending a job to trackers at once, for a command that waits for it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from daemon import piped
from daemon.track.kinds import TRACKERS, folder_of
from daemon.track.paths import read_cursor, track_folder, why_behind
from jobs.errors import ExitCode
from jobs.paths import RunDirectory, Workspace

LOCKED = "a daemon is sending it at this moment"
# What leads a tracker elsewhere than below the workspace.
ELSEWHERE = {
    "tensorboard": (),
    "trackio": ("TRACKIO_DIR", "TRACKIO_SERVER_URL", "TRACKIO_SPACE_ID"),
    "wandb": ("WANDB_DIR", "WANDB_API_KEY", "WANDB_MODE"),
    "mlflow": ("MLFLOW_TRACKING_URI",),
}


@dataclass(frozen=True)
class Sent:
    """What became of one tracker.

    Attributes:
        rows: how many it has now.
        place: where they are, for a person.
        shows: the command that shows them; empty where its own variables lead elsewhere.
        why: why not all was sent; empty where it was.
        said: the file with what its library said.
    """

    tracker: str
    rows: int
    place: str
    shows: str
    why: str
    said: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def send(workspace: Workspace, run: RunDirectory, trackers: Sequence[str]) -> Iterator[Sent]:
    """Bring trackers up to where a job is, one after the other.

    Raises:
        WorkspaceError: the workspace cannot be written.
    """
    for tracker in trackers:
        said = track_folder(workspace) / f"{run.job_id}.{tracker}.by-hand.stderr"
        code = _run(workspace, run, tracker, said.open("wb"))
        cursor = read_cursor(run, tracker)
        folder = folder_of(workspace, tracker)
        away = next((name for name in ELSEWHERE[tracker] if os.environ.get(name)), None)
        yield Sent(
            tracker,
            cursor.rows,
            f"as {away} says" if away else f"in {folder.relative_to(workspace.root)}",
            "" if away else TRACKERS[tracker].shows.format(folder=shlex.quote(str(folder))),
            LOCKED if code == ExitCode.LOCKED else why_behind(code, cursor),
            str(said.relative_to(workspace.root)),
        )


def _run(workspace: Workspace, run: RunDirectory, tracker: str, output: Any) -> int:
    command = [sys.executable, "-P", "-m", "daemon.track.courier", run.job_id, tracker]
    with output:
        courier = piped.start(command, workspace, os.environ, output)
    # Closed at once: it takes one look, and ends.
    os.close(courier.pipe)
    try:
        return courier.process.wait()
    finally:
        with suppress(OSError):
            os.killpg(courier.process.pid, signal.SIGKILL)

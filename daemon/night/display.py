"""A Mac's display, put to sleep where a job starts: GPU work beside an active display is ended."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import structlog

from daemon.host import run_tool

SLEEP_NOW = ("pmset", "displaysleepnow")

log = structlog.get_logger(__name__)


def put_to_sleep(platform: str = sys.platform) -> bool:
    """Put a Mac's display to sleep; it wakes at the next key. Nothing is done elsewhere.

    Returns:
        Whether it was asked to sleep; why not is said once.
    """
    if platform != "darwin":
        return False
    try:
        done = run_tool(SLEEP_NOW)
    except (OSError, subprocess.SubprocessError) as error:
        _warn(str(error))
        return False
    if done.returncode != 0:
        _warn(done.stderr.strip() or f"exit code {done.returncode}")
    return done.returncode == 0


@cache
def _warn(reason: str) -> None:
    """Log a warning, once in the life of the process."""
    log.warning("display_not_put_to_sleep", command=" ".join(SLEEP_NOW), reason=reason)

"""Whether jobs may run now: the window of the day, mains power, space on the disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from daemon.host import on_mains
from daemon.settings import Settings
from jobs.paths import Workspace

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
# After a full disk, this much more must be free than was then, before a job is started again.
SPACE_BYTES = 64_000_000
# And then one is started all the same: somebody may have made space before it was measured.
HOLD_SECONDS = 900.0


class Admission:
    """Says why no job may run, if so; asked often, it looks once a second.

    Args:
        free: bytes free on the disk of the workspace.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        mains: Callable[[], bool] = on_mains,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._settings, self._now, self._mains = settings, now, mains
        self._free = free or (lambda: shutil.disk_usage(workspace.root).free)
        self._needed: int | None = None
        self._held_until = 0.0
        self._look_at = 0.0
        self.closed_because: str | None = None

    def disk_is_full(self, free: int | None = None) -> None:
        """Let no job run until there is more space, or a good while has passed.

        Args:
            free: bytes that were free when that was found; None to look now, when somebody may have
                made space already.
        """
        self._needed = (self._free() if free is None else free) + SPACE_BYTES
        self._held_until = time.monotonic() + HOLD_SECONDS
        self._look_at = 0.0

    def look(self) -> str | None:
        """Return why no job may run now, or None; a change is told once."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            reason = self._reason()
            if reason != self.closed_because:
                self.closed_because = reason
                log.info("queue_held" if reason else "queue_open", reason=reason)
        return self.closed_because

    def _reason(self) -> str | None:
        if self._needed is not None:
            if self._free() < self._needed and time.monotonic() < self._held_until:
                return f"the disk is full: {self._needed / 1e6:.0f} MB must be free"
            self._needed = None
        window = self._settings.window
        if window is not None and not window.contains(self._now()):
            return f"outside the window {window}"
        if self._settings.on_mains_only and not self._mains():
            return "not on mains power"
        return None

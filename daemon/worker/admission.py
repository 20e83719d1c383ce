"""Whether jobs may run now: the window of the day, power, a rest, space on the disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from daemon.night.power import Power, PowerWatch
from daemon.night.settings import NightSettings
from daemon.settings import Settings
from jobs.paths import Workspace

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
# After a full disk, this much more must be free than was then, before a job is started again.
SPACE_BYTES = 64_000_000
# And then one is started all the same: somebody may have made space before it was measured.
HOLD_SECONDS = 900.0
# How old may be what is known of the power where jobs depend on it.
POWER_SECONDS = 5.0
# Percent above `battery_floor` at which jobs go on: else they would come and go with each percent.
CHARGED = 5


class Admission:
    """Says why no job may run, if so; asked often, it looks once a second.

    Args:
        night: of this machine.
        power: how it is fed.
        free: bytes free on the disk of the workspace.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        night: NightSettings | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        power: PowerWatch | None = None,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._settings, self._now = settings, now
        self._night, self._power = night or NightSettings(), power or PowerWatch()
        self._free = free or (lambda: shutil.disk_usage(workspace.root).free)
        self._needed: int | None = None
        self._held_until = 0.0
        self._look_at = 0.0
        self._rest: tuple[str, float] | None = None
        self._charging = False
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

    def rest(self, reason: str, minutes: float) -> None:
        """Let no job run for so many minutes."""
        self._rest = reason, time.monotonic() + minutes * 60
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
        if self._rest is not None:
            reason, until = self._rest
            if time.monotonic() < until:
                return reason
            self._rest = None
        window = self._settings.window
        if window is not None and not window.contains(self._now()):
            return f"outside the window {window}"
        return self._of_power()

    def _of_power(self) -> str | None:
        floor = self._night.battery_floor
        if not self._settings.on_mains_only and floor is None:
            return None
        power = self._power.look(POWER_SECONDS)
        if self._settings.on_mains_only and not power.on_mains:
            return "not on mains power"
        if floor is None:
            return None
        self._charging = below(power, floor, held=self._charging)
        if not self._charging:
            return None
        # Not the charge itself: each percent would be told as a reason of its own.
        return f"battery below {floor} %: waits for mains power, or {charged(floor)} %"


def below(power: Power, floor: int, *, held: bool) -> bool:
    """Tell whether a battery is too low for jobs.

    Args:
        floor: percent.
        held: it was too low before: it has to be charged well above the floor.
    """
    if power.on_mains or power.percent is None:
        return False
    return power.percent < (charged(floor) if held else floor)


def charged(floor: int) -> int:
    """Return at how many percent jobs go on that a battery below ``floor`` held."""
    return min(100, floor + CHARGED)

"""The daemon's machine at night, as far as its jobs are concerned: one object for the worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from daemon.night.display import put_to_sleep
from daemon.night.power import PowerWatch
from daemon.night.programs import Programs
from daemon.night.rest import resting
from daemon.night.settings import NightSettings

# Read by Apple's GPU driver in the process that uses it. It is documented nowhere: MLX's authors
# name it where Metal ends GPU work that keeps a display waiting.
RELAXED = {"AGX_RELAX_CDM_CTXSTORE_TIMEOUT": "1"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Night:
    """What is done around jobs on this machine.

    Attributes:
        settings: read once, when the daemon starts.
        power: how the machine is fed.
        programs: others that may hold GPU memory.
    """

    settings: NightSettings = field(default_factory=NightSettings)
    power: PowerWatch = field(default_factory=PowerWatch)
    programs: Programs = field(default_factory=Programs)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a child's environment has beside the daemon's own, which goes before it."""
        return RELAXED if self.settings.gpu_watchdog == "relaxed" else {}

    def resting(self) -> str | None:
        """Return for a person until when a rest lasts that begins now; None where none is set."""
        rest = self.settings.rest
        return None if rest is None else resting(rest, datetime.now(UTC))

    def prepare(self) -> list[str]:
        """Prepare the machine for a child that is about to start.

        Returns:
            What a person should know: which programs hold GPU memory.
        """
        lines = self.programs.make_room(self.settings.unload)
        for line in lines:
            log.warning("gpu_memory_held", reason=line)
        if self.settings.display == "sleep":
            put_to_sleep()
        return lines

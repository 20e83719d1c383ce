"""Which start of the machine this is."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

LINUX = Path("/proc/sys/kernel/random/boot_id")
# Not kern.boottime: that moves whenever the clock is set.
MACOS = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
SECONDS = 5.0


@cache
def boot_id() -> str | None:
    """Return an id that stays the same until the machine is started again; None if unknown."""
    return _from_sysctl() if sys.platform == "darwin" else _from_file(LINUX)


def _from_file(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def _from_sysctl() -> str | None:
    try:
        done = subprocess.run(MACOS, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None

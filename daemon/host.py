"""This machine: which start of the system it is, keeping it awake."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

LINUX = Path("/proc/sys/kernel/random/boot_id")
# Not kern.boottime: that moves whenever the clock is set.
MACOS = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
# For a tool of the system to answer.
SECONDS = 5.0
# -i: no idle sleep; -s: no system sleep on mains power. The display may sleep: a display that is on
# lets the GPU's watchdog kill long kernels.
CAFFEINATE = ("caffeinate", "-is", "-w")

# Kept so that they are reaped when they end, which they do with the process they wait for.
_started: list[subprocess.Popen[bytes]] = []


def keep_awake(pid: int, platform: str = sys.platform) -> subprocess.Popen[bytes] | None:
    """Keep a Mac awake until the process ``pid`` ends.

    Returns:
        The process that does it, which ends by itself; None elsewhere, and where it cannot be
        started, which is said once.
    """
    if platform != "darwin":
        return None
    _started[:] = [process for process in _started if process.poll() is None]
    try:
        process = subprocess.Popen(
            [*CAFFEINATE, str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C is not for it: the child still writes its checkpoint.
            start_new_session=True,
        )
    except OSError as error:
        _warn(f"caffeinate cannot be started: {error.strerror}. This Mac may fall asleep.")
        return None
    _started.append(process)
    return process


@cache
def _warn(text: str) -> None:
    """Log a warning, once in the life of the process."""
    import structlog  # noqa: PLC0415 - clients ask for the start of the system, and log nothing

    structlog.get_logger(__name__).warning("mac_not_kept_awake", reason=text)


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

"""This machine: which start of the system it is, keeping it awake, mains or battery."""

from __future__ import annotations

import re
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
POWER_SUPPLIES = Path("/sys/class/power_supply")
DRAWING_FROM = re.compile(r"drawing from '([^']+)'", re.IGNORECASE)

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


def on_mains(platform: str = sys.platform) -> bool:
    """Tell whether the machine runs on mains power; so it does where nobody can tell."""
    if platform != "darwin":
        return mains_in(POWER_SUPPLIES)
    try:
        done = subprocess.run(
            ["pmset", "-g", "batt"],  # noqa: S607 - found on the PATH, as everything of macOS
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return True
    return mains_said(done.stdout)


def mains_said(output: str) -> bool:
    """Tell what ``pmset -g batt`` says: mains power, or a battery (a UPS is one too)."""
    found = DRAWING_FROM.search(output)
    return found is None or found[1] not in ("Battery Power", "UPS Power")


def mains_in(folder: Path) -> bool:
    """Tell what Linux says in ``/sys/class/power_supply``.

    A laptop charged by USB-C may call its mains supply offline: its battery then says "Charging".
    The batteries of mice and keyboards do not count.
    """
    supplies = [_supply(path) for path in sorted(folder.glob("*"))]
    mains = [supply for supply in supplies if supply["type"] == "Mains"]
    batteries = [s for s in supplies if s["type"] == "Battery" and s["scope"] != "Device"]
    if not batteries or any(supply["online"] == "1" for supply in mains):
        return True
    said = {battery["status"] for battery in batteries}
    if "Discharging" in said:
        return False
    return "Charging" in said or not mains


def _supply(folder: Path) -> dict[str, str]:
    return {name: _read(folder / name) for name in ("type", "online", "scope", "status")}


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):  # not every supply has every file
        return ""


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

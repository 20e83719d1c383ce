"""This machine: which start of the system it is, keeping it awake."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
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


def run_tool(
    command: Sequence[str], seconds: float | None = SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a tool of the system to its end, and return its exit code and what it said.

    Args:
        seconds: that are waited for it; None: however long it takes.

    Raises:
        OSError, subprocess.SubprocessError: it cannot be started, or takes longer.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )


def host_name() -> str:
    """Return this machine's name as its owner knows it."""
    return socket.gethostname().removesuffix(".local")


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
        done = run_tool(MACOS)
    except (OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout.strip() or None

"""What a process takes, as Linux tells it in ``/proc``: memory, open files, processor time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat behind the command's name, which may hold spaces: proc(5) counts from 1.
USER, SYSTEM = 14 - 3, 15 - 3
GROUP = 5 - 3


@dataclass(frozen=True)
class Footprint:
    """What a process holds at a moment.

    Attributes:
        resident_mb: resident memory, pages that it shares with others included.
        private_mb: of it, what is its own.
        files: open file descriptors.
    """

    resident_mb: float
    private_mb: float
    files: int


def footprint(pid: int) -> Footprint:
    """Return what a process holds now."""
    kibibytes = {
        name: int(rest.split()[0])
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
        for name, _, rest in [line.partition(":")]
    }
    private = kibibytes["Private_Clean"] + kibibytes["Private_Dirty"]
    files = len(list((PROC / str(pid) / "fd").iterdir()))
    return Footprint(kibibytes["Rss"] / 1024, private / 1024, files)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process itself has taken so far, its children's not."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[USER]) + int(fields[SYSTEM])) / TICKS


def require_proc() -> None:
    """End the program where the system has no ``/proc``."""
    if not (PROC / "self" / "smaps_rollup").exists():
        sys.exit("This measures with /proc/PID/smaps_rollup: it needs Linux.")


def command_lines() -> list[str]:
    """Return the command line of every process, as `ps` shows it."""
    if not (PROC / "self" / "cmdline").exists():
        listing = subprocess.run(
            ["ps", "-axww", "-o", "args="],  # noqa: S607 - the one on the PATH
            capture_output=True,
            check=True,
        )
        return listing.stdout.decode(errors="replace").splitlines()
    lines = []
    for path in PROC.glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines


def group_of(pid: int) -> list[str]:
    """Return the names of the commands in the process group that ``pid`` leads."""
    names = []
    for path in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            head, _, rest = path.read_text().rpartition(")")
            if int(rest.split()[GROUP]) == pid:
                names.append(head.partition("(")[2])
    return names


def without_reader(
    command: Sequence[str | Path],
    environment: dict[str, str] | None = None,
    stderr: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output nobody reads, as behind ``| head`` once it has ended."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            command, stdout=writing, stderr=stderr, env=environment, text=True, check=False
        )
    finally:
        os.close(writing)

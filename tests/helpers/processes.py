"""What anybody on this machine sees of its processes."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


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

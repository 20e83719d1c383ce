"""Before training: whether memory and disk will do for the whole run.

A night is lost when a run meets the limit at its longest batch, hours later; a step on that batch
and a little arithmetic tell before. Sizes are in bytes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.config.config import TrainConfig
from jobs.config.step_plan import Schedule
from jobs.errors import WorkspaceError
from jobs.storage.formatting import size_text

# Above this share of the memory a run is told that it is tight.
TIGHT = 0.8
# What a row takes in the record, in its two views (while a new one stands beside the old), and in
# the job's log: measured, rounded up.
ROW_BYTES = 3_000
# The small files of a run, and the progress that its log gets every second of a night.
FIXED_BYTES = 10_000_000


@dataclass(frozen=True)
class MemoryLimits:
    """How much memory this process may hold in all, bytes; None where nothing is known.

    Attributes:
        whole: of the machine, its control groups and its device.
        available: of that, what other programs leave at this moment.
    """

    whole: int | None
    available: int | None


def memory_warning(step_peak: int, available: int | None) -> str | None:
    """Return a warning where a step on the largest batch takes nearly all that is free; else None.

    What other programs hold may be free in an hour: it never refuses a night's run.

    Args:
        step_peak: the peak of that step, the allocator's cache included.
        available: see :class:`MemoryLimits`.
    """
    if available is None or step_peak <= TIGHT * available:
        return None
    return (
        f"Memory is tight: a training step on the largest batch needs {size_text(step_peak)} of "
        f"memory, and {size_text(available)} are available now."
    )


def memory_limits(*device_limits: int, root: Path = Path("/")) -> MemoryLimits:
    """Return the limits of this machine.

    On Linux: what is free or can be freed, with what the process holds already, within the limits
    of its control groups.

    Args:
        device_limits: further limits; on a Mac, those of MLX's ``device_info``: ``memory_size``
            and ``max_recommended_working_set_size``.
        root: where ``/proc`` and ``/sys`` are found.
    """
    limits = [*device_limits, *_control_group_limits(root)]
    if total := _kibibytes(root / "proc/meminfo", "MemTotal"):
        limits.append(total)
    whole = min(limits, default=None)
    free = _kibibytes(root / "proc/meminfo", "MemAvailable")
    if free is not None:
        limits.append(free + (_kibibytes(root / "proc/self/status", "VmRSS") or 0))
    return MemoryLimits(whole, min(limits, default=None))


def disk_needed(
    config: TrainConfig,
    schedule: Schedule,
    *,
    adapter_bytes: int,
    state_bytes: int,
    cache_bytes: int = 0,
) -> int:
    """Return the most that a run will ever hold on disk.

    Args:
        adapter_bytes: of the adapter's arrays.
        state_bytes: of the other arrays in a checkpoint: optimizer moments, gradients.
        cache_bytes: what the prefix cache will write; 0 where it is complete or not used.
    """
    # Those kept, a regular one beside those of stops, and the one being written.
    checkpoints = config.keep_checkpoints + 2
    each = 2 * adapter_bytes + state_bytes  # the adapter of the step, and the best until then
    best = 2 * adapter_bytes  # adapters/, and the next one beside it
    rows = schedule.total_steps // config.log_steps + len(schedule.validation_steps) + 2
    return checkpoints * each + best + rows * ROW_BYTES + cache_bytes + FIXED_BYTES


def check_disk(run: Path, needed: int) -> str | None:
    """Compare what a run will hold on disk with what is free; what it holds already counts as free.

    Args:
        run: the run directory.
        needed: see :func:`disk_needed`.

    Returns, raises: as :func:`compare_disk`.
    """
    return compare_disk(run, shutil.disk_usage(run).free + _held(run), needed)


def compare_disk(folder: Path, free: int, needed: int) -> str | None:
    """Compare what a run will hold on disk with what is free there.

    Args:
        folder: of the disk, for the message.
        needed: see :func:`disk_needed`.

    Returns:
        A warning where less than twice as much is free, else None.

    Raises:
        WorkspaceError: it will not fit.
    """
    figures = (
        f"checkpoints, metrics and cache of this run need up to {size_text(needed)}, "
        f"and {folder} has room for {size_text(free)}"
    )
    if needed > free:
        raise WorkspaceError(
            f"Not enough disk space: {figures}.",
            "Free some space, or lower keep_checkpoints, lora.rank or prefix_cache_gb.",
        )
    return f"Disk space is tight: {figures}." if free < 2 * needed else None


def _held(folder: Path) -> int:
    """Return the bytes of the files below ``folder``; several links to one file count once."""
    files = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum({stat.st_ino: stat.st_size for stat in files}.values())


def _control_group_limits(root: Path) -> Iterator[int]:
    """Yield the memory limits of this process's control group and those around it, v2 and v1.

    Inside a container its path may be that of the host: only the folders that exist are looked at.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mount, name = "sys/fs/cgroup", "memory.max"
        if controllers == "memory":
            mount, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        inner = Path(path.lstrip("/"))
        for group in (inner, *inner.parents):
            text = _text(root / mount / group / name).strip()
            if text.isdecimal():
                yield int(text)


def _kibibytes(path: Path, name: str) -> int | None:
    """Return the bytes of a ``Name:  123 kB`` line; None where there is none."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", _text(path), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

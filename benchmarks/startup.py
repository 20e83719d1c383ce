"""How long `farense --help` and `farense status` take, beside what they cannot do without.

Run it with `python benchmarks/startup.py` on a quiet machine: it stores 1,000 jobs in a server of
its own, times whole processes in pairs, and prints medians with the least and the greatest.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from daemon.broker import Broker
from daemon.records import JobRecord
from daemon.settings import Settings
from jobs.paths import Workspace
from jobs.state import State

RUNS = 15
JOBS = 1000
FARENSE = str(Path(sys.executable).with_name("farense"))
IMPORTS = [sys.executable, "-c", "import click, redis"]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        broker = Broker(workspace, Settings())
        broker.ensure()
        try:
            fill(broker)
            help_times, above = measure(workspace)
        finally:
            broker.close()
            if broker.server is not None:
                broker.server.shut_down()
    report("farense --help", help_times)
    report(f"farense status, {JOBS:,} jobs, above `import click, redis`", above)


def fill(broker: Broker) -> None:
    """Store records of finished jobs."""
    for number in range(JOBS):
        letters = "".join(chr(ord("a") + number // 26**place % 26) for place in (3, 2, 1, 0))
        job_id = f"20261122-220104-bench-{letters}"
        record = JobRecord(
            id=job_id, preset="bench", state=State.COMPLETED, run_dir=f"checkpoints_qlora/{job_id}"
        )
        broker.store.create(replace(record, created_at=f"2026-11-22T22:01:04.{number:03}+00:00"))


def measure(workspace: Workspace) -> tuple[list[float], list[float]]:
    """Return the seconds of `--help`, and those of `status` above the imports beside it."""
    environment = os.environ | {"FARENSE_HOME": str(workspace.root)}
    help_times, above = [], []
    for _ in range(RUNS + 1):
        help_times.append(seconds([FARENSE, "--help"], environment))
        bare = seconds(IMPORTS, environment)
        above.append(seconds([FARENSE, "status"], environment) - bare)
    return help_times[1:], above[1:]  # the first run warms the file cache


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Return the wall time of a command."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return time.perf_counter() - started


def report(name: str, times: list[float]) -> None:
    """Print a line."""
    spread = f"{min(times):.3f} to {max(times):.3f}"
    print(f"{name}: median {statistics.median(times):.3f} s ({spread}, {len(times)} runs)")


if __name__ == "__main__":
    main()

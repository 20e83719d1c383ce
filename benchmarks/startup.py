"""How long `farense --help` and `farense status` take, beside what they cannot do without.

Run it with `python -m benchmarks.startup` on a quiet machine: it stores 10,000 jobs in a server of
its own, of which all, some or none have ended, times whole processes in pairs, and prints medians
with the least and the greatest. So it does for the imports of a training child.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.results import results_folder, spread, write_results
from daemon.queue.broker import Broker
from daemon.settings import Settings
from daemon.store.records import JobRecord
from jobs.paths import Workspace
from jobs.state import State

RUNS = 15
JOBS = 10_000
WAITING = (0, 100, 1_000, 10_000)
FARENSE = str(Path(sys.executable).with_name("farense"))
IMPORTS = [sys.executable, "-c", "import click, redis"]
# Of a training child: the interpreter, and what it imports before it looks at its job.
PYTHON = {
    "python -P -c pass": "pass",
    "the imports of a training child": "import jobs.training.session",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each command ({RUNS})")
    parser.add_argument("--quick", action="store_true", help="write no results")
    options = parser.parse_args()
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        broker = Broker(workspace, Settings())
        broker.ensure()
        try:
            results["farense --help"] = [
                seconds(workspace, [FARENSE, "--help"]) for _ in range(options.runs)
            ]
            for name, program in PYTHON.items():
                command = [sys.executable, "-P", "-c", program]
                results[name] = [seconds(workspace, command) for _ in range(options.runs)]
            for waiting in WAITING:
                fill(broker, waiting)
                name = f"farense status, {JOBS:,} jobs of which {waiting:,} wait, above the imports"
                results[name] = above_imports(workspace, [FARENSE, "status"], options.runs)
        finally:
            broker.close()
            if broker.server is not None:
                broker.server.shut_down()
    for name, times in results.items():
        print(f"{name}: {spread(times, 3)} s, {len(times)} runs")
    write_results(results_folder(quick=options.quick) / "startup.json", {"seconds": results})


def fill(broker: Broker, waiting: int) -> None:
    """Store records of jobs, of which the newest ``waiting`` wait and the others have ended."""
    broker.redis.flushall()
    records = [record_number(number, waits=number >= JOBS - waiting) for number in range(JOBS)]
    for first in range(0, JOBS, 1000):
        broker.store.create_many(records[first : first + 1000])


def record_number(number: int, *, waits: bool) -> JobRecord:
    """Return a record as a job leaves it that has trained, or that waits."""
    letters = "".join(chr(ord("a") + number // 26**place % 26) for place in (3, 2, 1, 0))
    job_id = f"20261122-220104-bench-{letters}"
    record = JobRecord(
        id=job_id,
        preset="bench",
        state=State.QUEUED,
        run_dir=f"checkpoints_qlora/{job_id}",
        created_at=f"2026-11-22T22:01:{number // 1000:02}.{number % 1000:03}000+00:00",
        updated_at="2026-11-22T22:01:04.000+00:00",
        num_epochs=3,
        total_steps=900,
        home="a-machine.local:/home/somebody/farense",
    )
    if waits:
        return record
    done = {"attempt": 1, "epoch": 3, "step": 900, "loss": 1.2345678, "val_loss": 1.3456789}
    judged = {"best_val_loss": 1.3, "overfitting_gap": 0.1, "gap_status": "BOM"}
    times = dict.fromkeys(("started_at", "finished_at"), record.updated_at)
    return replace(record, state=State.COMPLETED, **done, **judged, **times)  # type: ignore[arg-type]  # each of its type


def above_imports(workspace: Workspace, command: list[str], runs: int) -> list[float]:
    """Return the seconds of a command above those of the imports, one run of each in turn."""
    times = []
    for _ in range(runs + 1):
        bare = seconds(workspace, IMPORTS)
        times.append(seconds(workspace, command) - bare)
    return times[1:]  # the first run warms the file cache


def seconds(workspace: Workspace, command: list[str]) -> float:
    """Return the wall time of a command."""
    environment = os.environ | {"FARENSE_HOME": str(workspace.root)}
    started = time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

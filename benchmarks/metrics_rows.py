"""What a row of metrics costs as rows pile up: time, the rewrites apart, and resident memory.

Run it with `python benchmarks/metrics_rows.py`: about two minutes. It appends 100,000 rows in one
process, every twentieth from a validation (the presets' cadence), and prints a line for each
10,000. The rewrites of the JSON and CSV views come ever more seldom and take ever longer; what they
cost is the difference between "a row" and "append".
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from jobs.events import TrainMetrics
from jobs.paths import RunDirectory
from jobs.state import now
from jobs.training.metrics import MetricsFiles

ROWS = 100_000
WINDOW = 10_000
ROWS_PER_VALIDATION = 20
STATM = Path("/proc/self/statm")


class TimedFiles(MetricsFiles):
    """The metrics files, with the time that rewriting took and how often it was done."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__(run)
        self.seconds, self.count = 0.0, 0

    def rewrite(self) -> None:
        """Rewrite the views, on the clock."""
        started = time.perf_counter()
        super().rewrite()
        self.seconds += time.perf_counter() - started
        self.count += 1


def main() -> None:
    """Measure and print."""
    print(f"{'rows':>8} {'append':>9} {'rewrites':>9} {'a row':>9} {'so far':>9} {'resident':>9}")
    print(f"{'':>8} {'µs a row':>9} {'':>9} {'µs':>9} {'µs a row':>9} {'MB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        files = TimedFiles(RunDirectory(Path(folder)))
        total = 0.0
        for end in range(WINDOW, ROWS + 1, WINDOW):
            rewriting, count = files.seconds, files.count
            seconds = append_window(files, end)
            total += seconds
            rewriting, count = files.seconds - rewriting, files.count - count
            appending, whole = (1e6 * s / WINDOW for s in (seconds - rewriting, seconds))
            so_far = 1e6 * total / end
            times = f"{appending:9.1f} {count:9} {whole:9.1f} {so_far:9.1f}"
            print(f"{end:8,} {times} {resident_mb():9.1f}", flush=True)


def append_window(files: MetricsFiles, end: int) -> float:
    """Append the rows up to ``end``; return the seconds it took."""
    started = time.perf_counter()
    for step in range(end - WINDOW + 1, end + 1):
        files.add(row(step, validated=step % ROWS_PER_VALIDATION == 0))
    return time.perf_counter() - started


def row(step: int, *, validated: bool) -> TrainMetrics:
    """Return a row with as many digits as real ones have."""
    loss = 1 + 1 / step
    return TrainMetrics(
        epoch=1 + step // 1000,
        step=step,
        update=step // 4,
        loss=loss,
        val_loss=loss + 0.1 if validated else None,
        train_eval_loss=loss - 0.1 if validated else None,
        overfitting_gap=0.2 if validated else None,
        learning_rate=2e-4,
        grad_norm=loss / 3,
        tokens_per_second=500 * loss,
        memory_mb=1234.567,
        elapsed_time_sec=step / 3,
        timestamp=now(),
    )


def resident_mb() -> float:
    """Return the resident memory of this process; where it cannot be asked, the peak."""
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


if __name__ == "__main__":
    main()

"""Many jobs through one daemon, and through two: is any lost or run twice, and what grows?

    python -m benchmarks.queue_load                # 1,000 jobs of a child that only speaks
    python -m benchmarks.queue_load --real 50      # real training children on a tiny model
    python -m benchmarks.queue_load --two          # two daemons, two workspaces, one Redis

Jobs are enqueued in one call before the daemon is started. While it works through them its memory
and its open files are read some ten times a second. "After N jobs" is the median of what was read
while the jobs around the Nth ended.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.queue_room import (
    REAL,
    Room,
    await_end,
    fresh_room,
    presets,
    two_rooms,
)
from benchmarks.results import results_folder, say, table, write_results
from tests.helpers.load import quick_child, verdict
from tests.helpers.processes import Footprint, footprint, require_proc

STEPS = 3
LOOK_SECONDS = 0.1
JOB_LIMIT = 20.0

Seen = list[tuple[int, Footprint]]


class Watch:
    """Reads what a daemon holds, beside how many jobs have ended."""

    def __init__(self, pid: int) -> None:
        self.pid, self.seen = pid, list[tuple[int, Footprint]]()
        self._look_at = 0.0

    def look(self, ended: int) -> None:
        """Note what the daemon holds now, if the last look is long enough ago."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            self.seen.append((ended, footprint(self.pid)))


def around(seen: Seen, ended: int, reach: int) -> dict[str, float]:
    """Return the medians of what was seen while the jobs around the ``ended``-th ended."""
    near = [print_ for count, print_ in seen if abs(count - ended) <= reach]
    if not near:
        sys.exit(f"Nothing was seen around job {ended}: the jobs end too fast.")
    return {
        name: statistics.median(getattr(print_, name) for print_ in near)
        for name in ("resident_mb", "private_mb", "files")
    } | {"most_files": max(print_.files for print_ in near), "looks": len(near)}


def load(count: int, real: bool) -> dict[str, Any]:
    """Run ``count`` jobs through one daemon."""
    short: dict[str, Any] = {"max_steps": 2, "num_epochs": 1, "gap_examples": 2}
    settings = short if real else {}
    child = REAL if real else quick_child(STEPS, 0)
    with fresh_room() as queue:
        began = time.perf_counter()
        records = queue.client.enqueue_many(presets(count, **settings))
        enqueued = time.perf_counter() - began
        watch = Watch(queue.start(child))
        seconds = await_end(queue.client, count, JOB_LIMIT * count, watch.look)
        wrong = verdict([queue.workspace], queue.client, [record.id for record in records])
    first = min(100, count // 5)
    marks = [first * number for number in range(1, count // first + 1)]
    reach = max(1, first // 10)
    return {
        "jobs": count,
        "child": "real" if real else "quick",
        "enqueue_seconds": enqueued,
        "seconds": seconds,
        "wrong": wrong,
        "after": {mark: around(watch.seen, mark, reach) for mark in marks},
        "idle_at_end": vars(watch.seen[-1][1]),
    }


def show_load(result: dict[str, Any]) -> None:
    """Print what one daemon did."""
    marks = result["after"]
    head = [f"{result['jobs']} jobs, {result['child']} child, after", *map(str, marks)]
    rows = [
        [label, *(f"{values[name]:.{digits}f}" for values in marks.values())]
        for label, name, digits in (
            ("resident memory, MB", "resident_mb", 2),
            ("of it its own, MB", "private_mb", 2),
            ("open files", "files", 0),
            ("most open files", "most_files", 0),
        )
    ]
    first, *_, last = marks.values()
    growth = ", ".join(
        f"{name} {(last[name] / first[name] - 1) * 100:+.1f}%"
        for name in ("resident_mb", "private_mb", "files")
    )
    print(table(head, rows))
    print(f"\nFrom the first to the last: {growth}.")
    print(
        f"{result['seconds']:.1f} s, {result['seconds'] / result['jobs'] * 1000:.0f} ms a job. "
        f"{result['wrong'] or 'None was lost, none ran twice.'}\n"
    )


def share(count: int) -> dict[str, Any]:
    """Run ``count`` jobs, all enqueued in one workspace, through the daemons of two."""
    with two_rooms() as queues:
        first = queues[0]
        records = first.client.enqueue_many(presets(count))
        for queue in queues:
            queue.start(quick_child(STEPS, 0))
        seconds = await_end(first.client, count, JOB_LIMIT * count, lambda ended: None)
        ids = [record.id for record in records]
        wrong = verdict([queue.workspace for queue in queues], first.client, ids)
        by = _ran_in(queues, ids)
    return {"jobs": count, "seconds": seconds, "wrong": wrong, "ran_in": by}


def _ran_in(queues: Sequence[Room], ids: Sequence[str]) -> dict[str, int]:
    """Return how many jobs ran in each workspace: their logs are there."""
    names = ("the client's workspace", "the other workspace")
    found = Counter(
        name
        for name, queue in zip(names, queues, strict=True)
        for job_id in ids
        if queue.workspace.job_log(job_id).exists()
    )
    return {name: found[name] for name in names}


def show_share(result: dict[str, Any]) -> None:
    """Print what two daemons did."""
    where = ", ".join(f"{count} in {name}" for name, count in result["ran_in"].items())
    print(f"Two daemons on one Redis, {result['jobs']} jobs in {result['seconds']:.1f} s: {where}.")
    print(f"{result['wrong'] or 'None was lost, none ran twice.'}\n")


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="of the quick child (1,000)")
    parser.add_argument("--real", type=int, metavar="N", help="N real training children instead")
    parser.add_argument("--two", action="store_true", help="two daemons on one Redis instead")
    parser.add_argument("--quick", action="store_true", help="write no results")
    options = parser.parse_args()
    require_proc()
    if options.two:
        say("two daemons ...")
        name, result = "queue_two", share(options.jobs)
        show_share(result)
    else:
        count, real = options.real or options.jobs, options.real is not None
        say(f"{count} jobs ...")
        name, result = ("queue_real" if real else "queue_load"), load(count, real)
        show_load(result)
    path: Path = results_folder(quick=options.quick) / f"{name}.json"
    write_results(path, result)
    if result["wrong"]:
        sys.exit(1)


if __name__ == "__main__":
    main()

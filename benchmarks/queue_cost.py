"""What the queue itself costs: in seconds before a job starts, and of processor time while it runs.

    python -m benchmarks.queue_cost launch         # from the record to the child and its first word
    python -m benchmarks.queue_cost bulk           # 1,000 jobs in one call
    python -m benchmarks.queue_cost daemon         # processor time beside a job of five minutes
    python -m benchmarks.queue_cost idle           # the same without a job

`launch` enqueues one job after another and waits for each to end, with a daemon that has nothing
else to do. The child is exec'ed when the daemon logs `child_started`: it does so as soon as the
system says that the exec went well. `daemon` runs a child that says what a real one says, once a
second; `--stored N` puts N jobs into the workspace first, `--waiting` ones that wait rather than
ones that have ended.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

from benchmarks.queue_room import (
    REAL,
    SAMPLE,
    Room,
    await_end,
    daemon_events,
    enqueue_by_command,
    enqueue_one,
    fresh_room,
    presets,
    real_room,
    store_jobs,
)
from benchmarks.results import results_folder, say, spread, write_results
from jobs.storage.files import whole_lines
from tests.helpers.load import quick_child
from tests.helpers.processes import cpu_seconds, require_proc

BULK_RUNS = 5
PACE_SECONDS = 1.0
# What a daemon's own start takes is not counted.
SETTLING_SECONDS = 5.0


def launch(times: int) -> dict[str, Any]:
    """Enqueue jobs one after another, of the quick child and of the real one."""
    results = {}
    with fresh_room() as queue:
        queue.start(quick_child(1, 0))
        results["quick child"] = _launched(queue, times, tiny=True)
        results["quick child, by the command"] = _launched(queue, times, tiny=True, command=True)
    with real_room() as queue:
        queue.start(REAL)
        results["real child"] = _launched(queue, times, tiny=False)
    for child, found in results.items():
        for name, values in found.items():
            print(f"{child}, {name}: {spread(values, 3)} s, {len(values)} jobs")
    return results


def _launched(
    queue: Room, times: int, *, tiny: bool, command: bool = False
) -> dict[str, list[float]]:
    """Return the seconds of each leg of the way; the first job, which warms up, is left out.

    Args:
        command: `farense enqueue` rather than a client that is at work already.
    """
    found: dict[str, list[float]] = {
        "from the order's time to the exec": [],
        "from the exec to `started`": [],
        "from its last word to the end of the job": [],
    }
    enqueue = enqueue_by_command if command else enqueue_one
    data = {"train": str(SAMPLE / "train.jsonl"), "valid": None}
    for preset in presets(times + 1, tiny=tiny, max_steps=1, num_epochs=1, data=data):
        job_id = enqueue(queue, preset)
        await_end(queue.client, 1, 120, lambda ended: None)
        record = queue.client.job(job_id)
        log = queue.workspace.job_log(job_id)
        said = {line["event"]: line["time"] for line in map(orjson.loads, whole_lines(log))}
        if "finished" not in said:
            sys.exit(f"{job_id} is {record.state}: {record.reason}")
        started, last = _moment(said["started"]), _moment(said["finished"])
        exec_at = _moment(daemon_events(queue.workspace, "child_started")[job_id]["time"])
        end = _moment(str(record.finished_at))
        legs = (exec_at - _moment(record.created_at), started - exec_at, end - last)
        for values, seconds in zip(found.values(), legs, strict=True):
            values.append(seconds)
    return {name: values[1:] for name, values in found.items()}


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def bulk(count: int) -> dict[str, Any]:
    """Enqueue ``count`` jobs in one call, each time in a fresh workspace."""
    seconds = []
    for _ in range(BULK_RUNS):
        with fresh_room() as queue:
            wanted = presets(count)
            began = time.perf_counter()
            queue.client.enqueue_many(wanted)
            seconds.append(time.perf_counter() - began)
    print(f"{count:,} jobs enqueued in one call: {spread(seconds)} s, {BULK_RUNS} runs")
    return {"jobs": count, "seconds": seconds}


def daemon(minutes: float, stored: int, *, waiting: bool) -> dict[str, Any]:
    """Measure the daemon's processor time while one job runs."""
    steps = round(minutes * 60 / PACE_SECONDS)
    with fresh_room() as queue:
        store_jobs(queue, stored, waiting=waiting)
        if not waiting:
            queue.client.enqueue(presets(1)[0])
        pid = queue.start(quick_child(steps, PACE_SECONDS))
        time.sleep(SETTLING_SECONDS)
        seconds = minutes * 60 - SETTLING_SECONDS
        return _spent(queue, pid, seconds, f"a job, {_about(stored, waiting)}")


def idle(minutes: float, stored: int) -> dict[str, Any]:
    """Measure the daemon's processor time while nothing is to be done."""
    with fresh_room() as queue:
        store_jobs(queue, stored, waiting=False)
        pid = queue.start(quick_child(1, 0))
        time.sleep(SETTLING_SECONDS)
        return _spent(queue, pid, minutes * 60, f"no job, {_about(stored, waiting=False)}")


def _about(stored: int, waiting: bool) -> str:
    return f"{stored:,} {'that wait' if waiting else 'that have ended'}"


def _spent(queue: Room, pid: int, seconds: float, what: str) -> dict[str, Any]:
    """Return what daemon and server take within ``seconds``, a tenth of it at a time."""
    pids = {"daemon": pid, "server": queue.server_pid}
    before = {name: [cpu_seconds(pid)] for name, pid in pids.items()}
    began = time.perf_counter()
    for part in range(1, 11):
        time.sleep(max(0.0, began + seconds * part / 10 - time.perf_counter()))
        for name, pid in pids.items():
            before[name].append(cpu_seconds(pid))
    wall = time.perf_counter() - began
    result: dict[str, Any] = {"what": what, "wall_seconds": wall}
    for name, readings in before.items():
        total = readings[-1] - readings[0]
        parts = [b - a for a, b in itertools.pairwise(readings)]
        result[name] = {"cpu_seconds": total, "share": total / wall, "tenths": parts}
        shares = spread([part / wall * 1000 for part in parts])
        print(f"{what}: {name} {total:.2f} s of {wall:.0f} s: {total / wall:.2%}; tenths {shares}%")
    return result


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("launch", "bulk", "daemon", "idle"))
    parser.add_argument("--times", type=int, default=20, help="jobs of `launch` (20)")
    parser.add_argument("--jobs", type=int, default=1000, help="of `bulk` (1,000)")
    parser.add_argument("--minutes", type=float, default=5.2, help="of `daemon`, `idle` (5.2)")
    parser.add_argument("--stored", type=int, default=0, help="jobs stored before (0)")
    parser.add_argument("--waiting", action="store_true", help="stored jobs wait")
    parser.add_argument("--quick", action="store_true", help="write no results")
    options = parser.parse_args()
    require_proc()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "launch": lambda: launch(options.times),
        "bulk": lambda: bulk(options.jobs),
        "daemon": lambda: daemon(options.minutes, options.stored, waiting=options.waiting),
        "idle": lambda: idle(options.minutes, options.stored),
    }
    say(f"{options.part} ...")
    result = parts[options.part]()
    name = f"queue_{options.part}" + (f"_{options.stored}" if options.stored else "")
    name += "_waiting" if options.waiting else ""
    write_results(results_folder(quick=options.quick) / f"{name}.json", result)


if __name__ == "__main__":
    main()

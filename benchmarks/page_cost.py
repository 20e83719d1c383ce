"""What the page to watch costs with many jobs: its first view, an update, and the daemon's part.

    python -m benchmarks.page_cost                     # 10,000 jobs: 5,000 that wait, 5,000 ended
    python -m benchmarks.page_cost --stored 100

The server's time for an update is the processor time of its process over half a minute with a page
open on the queue, for each second. The daemon's is measured beside a job of the quick child, by
turns with a page open and without. Chromium opens the page as a person does.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.queue_room import Room, fresh_room, presets, store_jobs
from benchmarks.results import results_folder, say, spread, write_results
from daemon.page.source import PageSource
from daemon.page.topics import Topics
from tests.helpers.browser import browser
from tests.helpers.load import quick_child
from tests.helpers.page_process import PageProcess, serving
from tests.helpers.processes import cpu_seconds, require_proc

LOOKS, VIEWS, TURNS = 20, 5, 3
OPEN_SECONDS = 10.0
# What a daemon's and a page's own start take is not counted.
SETTLING_SECONDS = 5.0
HUGE = 100_000
SHOWN = "() => document.querySelectorAll('tbody tr').length >= 25 && performance.now()"


def measured(stored: int) -> dict[str, Any]:
    """Return the costs with ``stored`` jobs, half of which have ended."""
    with fresh_room() as queue:
        store_jobs(queue, stored // 2, waiting=False)
        # The running job goes first: it is under way while all is measured.
        queue.client.enqueue_many(presets(1))
        store_jobs(queue, stored - stored // 2, waiting=True)
        daemon = queue.start(quick_child(HUGE, 0.1))
        time.sleep(SETTLING_SECONDS)
        looked = look_ups(queue)
        with serving(queue.workspace) as page:
            return {
                "jobs": stored,
                "look_up_ms": looked,
                "first_view_ms": first_views(page),
                **by_turns(page, daemon, queue.server_pid),
            }


def look_ups(queue: Room) -> list[float]:
    """Return the milliseconds of looking up the queue's first page, in a process of its own."""
    source = PageSource(queue.workspace)
    topics = Topics(source)
    try:
        topics.see("board:0:0")
        return [1000 * timed(lambda: topics.see("board:0:0")) for _ in range(LOOKS)]
    finally:
        source.close()


def timed(do: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def first_views(page: PageProcess) -> list[float]:
    """Return the milliseconds from the start of a navigation until both tables are there."""
    found = []
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as chromium:
        for _ in range(VIEWS + 1):
            with chromium.visit(page.link) as seen:
                shown = seen.page.wait_for_function(SHOWN)
                found.append(float(shown.json_value()))
    return found[1:]  # the first fills the browser's own caches


def by_turns(page: PageProcess, daemon: int, server: int) -> dict[str, list[float]]:
    """Return processor milliseconds a second, with a page open and without, by turns."""
    assert page.process is not None
    pids = {"page": page.process.pid, "daemon": daemon, "valkey": server}
    found: dict[str, list[float]] = {}
    for _ in range(TURNS):
        for name, value in spent(pids).items():
            found.setdefault(f"{name}_closed_ms", []).append(value)
        stream = page.events("now", "board:0:0")
        next(stream)
        for name, value in spent(pids).items():
            found.setdefault(f"{name}_open_ms", []).append(value)
        stream.close()  # type: ignore[attr-defined]  # it is a generator
    return found


def spent(pids: dict[str, int]) -> dict[str, float]:
    """Return what processes take of a processor, in milliseconds a second."""
    before, began = {name: cpu_seconds(pid) for name, pid in pids.items()}, time.perf_counter()
    time.sleep(OPEN_SECONDS)
    took = time.perf_counter() - began
    return {name: 1000 * (cpu_seconds(pid) - before[name]) / took for name, pid in pids.items()}


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="write no results")
    options = parser.parse_args()
    require_proc()
    found = measured(options.stored)
    for name, values in found.items():
        if isinstance(values, list):
            print(f"{name}: {spread(values, 1)}, {len(values)} times")
    for who in ("page", "daemon", "valkey"):
        more = statistics.median(found[f"{who}_open_ms"]) - statistics.median(
            found[f"{who}_closed_ms"]
        )
        say(f"{who}: an open page costs {more:+.1f} ms a second")
    path = results_folder(quick=options.quick) / "page_cost.json"
    write_results(path, found)


if __name__ == "__main__":
    main()

"""The proof itself: it finds two children at a time where there are two, and none where not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.errors import ExitCode
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from tests.helpers.lock_log import overlaps, runs
from tests.helpers.phase_notes import Phase, read_lines, spans
from tests.helpers.runs import make_run
from tests.helpers.servers import HELPERS
from tests.helpers.specs import write_spec
from tests.helpers.waiting import wait_until

STORM = str(HELPERS.parent / "children" / "storm.py")
# The same child, with a run.lock that everybody gets.
LAWLESS = (
    "import contextlib, sys; import jobs.__main__ as program; "
    "from tests.children.storm import main; "
    "program.hold = lambda path, **about: contextlib.nullcontext(); sys.exit(main())"
)


class Children:
    """Children of one job, all alive until the test ends."""

    def __init__(self, run: RunDirectory, control: Path) -> None:
        self.run, self.control = run, control
        self.theirs, self._ours = os.pipe()
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, attempt: int, *program: str) -> subprocess.Popen[bytes]:
        arguments = [str(self.control), str(self.run.path), "--attempt", str(attempt)]
        process = subprocess.Popen(
            [sys.executable, "-P", *program, *arguments, "--pipe", str(self.theirs)],
            pass_fds=(self.theirs,),
            stderr=subprocess.DEVNULL,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
        os.close(self.theirs)
        os.close(self._ours)

    @property
    def count(self) -> int:
        return len(self._started)

    @property
    def log(self) -> Path:
        return self.control / "locks" / f"{self.run.job_id}.jsonl"

    @property
    def notes(self) -> Path:
        return self.control / "notes" / f"{self.run.job_id}.jsonl"


@pytest.fixture
def children(workspace: Workspace, tiny_model: Path, tmp_path: Path) -> Iterator[Children]:
    run = make_run(workspace, tiny_model)
    write_spec(run, replace(read_spec(run), name="victim"))
    found = Children(run, tmp_path / "control")
    yield found
    found.close()


def test_one_child_at_a_time_is_found_innocent(children: Children) -> None:
    first = children.start(1, STORM)
    wait_until(lambda: runs(children.log), "the first child")
    assert children.start(1, STORM).wait() == ExitCode.LOCKED
    first.kill()
    first.wait()
    assert children.start(2, STORM).wait() == ExitCode.OK
    assert runs(children.log) == [1, 2]
    assert overlaps(children.log) == []


def test_two_at_a_time_are_found_out(children: Children) -> None:
    for attempt in (1, 2):
        children.start(attempt, "-c", LAWLESS)
        wait_until(lambda: len(runs(children.log)) == children.count, f"child {attempt}")
    wait_until(lambda: len(overlaps(children.log)) > 2, "the writes of both")
    found = "\n".join(overlaps(children.log))
    assert "another held the lock" in found
    assert "attempt 1" in found


def test_notes_say_in_which_phase_a_child_was_killed(children: Children) -> None:
    process = children.start(1, STORM)
    wait_until(lambda: [s for s in spans(children.notes) if s.phase is Phase.FILL], "the filling")
    process.kill()
    process.wait()
    *before, last = spans(children.notes)
    killed_at = read_lines(children.notes)[-1]["at"]
    assert last.end is None
    assert last.holds(killed_at, killed_at + 9)
    assert not before[0].holds(killed_at, killed_at + 9)

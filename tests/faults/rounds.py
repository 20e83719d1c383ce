"""One round of the storm: jobs are queued, one is struck in a phase, and all come to their end.

``python -P -m tests.faults.rounds SEED FOLDER MODEL`` plays one in a process of its own, on a disk
of its own where its fault is a full one, and prints the result as JSON.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import orjson

from jobs.errors import FarenseError
from jobs.state import read_state
from tests.faults.judge import judged
from tests.faults.plan import Fault, Plan, plan
from tests.faults.stage import Stage
from tests.faults.strikes import Struck, strike
from tests.helpers.phase_notes import Phase, Span
from tests.helpers.waiting import wait_until

SETTLE_SECONDS = 60.0
# Much less would not do: after a full disk the queue waits for 64 MB of new space.
DISK = "size=96m"
LOOK_SECONDS = 0.001
# Typical lengths of the made-up phases; of a real one, most are struck at once.
REAL_SECONDS = {Phase.START: 1.5}
SECONDS = {
    Phase.START: 0.15,
    Phase.FILL: 0.2,
    Phase.STEPS: 0.14,
    Phase.VALIDATION: 0.15,
    Phase.CHECKPOINT: 0.15,
    Phase.FINISH: 0.18,
}
# After these a client can enqueue at once: the queue is there, or is started by it.
ACCEPTING = (
    Fault.KILL_CHILD, Fault.KILL_DAEMON, Fault.KILL_VALKEY, Fault.KILL_ALL, Fault.WIPE,
    Fault.BAD_MESSAGES, Fault.BAD_RECORDS, Fault.BAD_EVENTS,
)  # fmt: skip
# By namespaces that every user may have on most systems; else root has the second.
UNSHARE = (["unshare", "--user", "--map-root-user", "--mount"], ["unshare", "--mount"])


@dataclass
class Result:
    """What came of a round.

    Attributes:
        missed: why it does not count; empty where the fault hit the phase.
        problems: what was wrong in the end.
        ends: of the jobs: name, state, attempts, class of failure, reason.
    """

    seed: int
    fault: str
    phase: str
    victim: str
    missed: str = ""
    problems: list[str] = field(default_factory=list)
    ends: list[list[str | int | None]] = field(default_factory=list)
    seconds: float = 0.0


def play(seed: int, folder: Path, model: Path) -> Result:
    """Play a round, in a process of its own where it needs a disk of its own."""
    found = plan(seed)
    if found.fault is not Fault.FULL_DISK:
        return play_here(found, folder, model)
    if (unshare := private_mounts()) is None:
        missed = "a disk of one's own cannot be mounted here (unshare --user --mount)"
        return Result(seed, found.fault, found.phase, found.victim, missed)
    command = [sys.executable, "-P", "-m", "tests.faults.rounds", str(seed)]
    command += [str(folder), str(model)]
    done = subprocess.run([*unshare, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    return Result(**orjson.loads(done.stdout))


@cache
def private_mounts() -> list[str] | None:
    """Return the command below which disks are mounted that nobody else sees; None if forbidden."""
    for unshare in UNSHARE:
        command = [*unshare, "mount", "-t", "tmpfs", "farense-test", "/mnt"]
        with suppress(FileNotFoundError):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return unshare
    return None


def play_here(found: Plan, folder: Path, model: Path) -> Result:
    """Play a round in this process."""
    began = time.monotonic()
    result = Result(found.seed, found.fault, found.phase, found.victim)
    with Stage(found, folder, model) as stage:
        for name in found.jobs:
            stage.enqueue(name)
        stage.start_daemon()
        try:
            span = phase_begun(stage)
        except AssertionError as error:
            unfinished = _open(stage)  # looks whether the daemon lives, too
            result.problems = [str(error), *stage.deaths, *unfinished]
            return result
        if span is None:
            result.missed = "the victim had ended"
            return result
        struck = strike(stage, span.pid)
        if found.fault in ACCEPTING:
            stage.enqueue("late")
        unfinished = unsettled(stage)
        struck.hit = was_hit(stage, struck)
        result.missed = "" if struck.hit else "the phase was over"
        result.problems = [*unfinished, *judged(stage, struck)]
        result.ends = ends(stage)
    result.seconds = round(time.monotonic() - began, 2)
    return result


def phase_begun(stage: Stage) -> Span | None:
    """Wait for the moment of the plan; return the phase, None where it did not come about."""
    wanted = stage.plan

    def begun() -> list[Span]:
        spans = [span for span in stage.phases() if span.phase is wanted.phase]
        return spans[wanted.beginning - 1 : wanted.beginning]

    def over() -> bool:
        return read_state(stage.workspace.run(stage.victim)).finished

    wait_until(lambda: begun() or over(), f"phase {wanted.phase}", interval=LOOK_SECONDS)
    if not begun():
        return None
    (span,) = begun()
    seconds = REAL_SECONDS if wanted.victim == "real" else SECONDS
    until = span.begin + wanted.delay * seconds.get(wanted.phase, 0.0)
    wait_until(lambda: time.monotonic() >= until, "the moment", interval=LOOK_SECONDS)
    return span


def was_hit(stage: Stage, struck: Struck) -> bool:
    """Tell whether the notes of the victim show it in the phase when it was struck."""
    return any(
        span.phase is stage.plan.phase and span.holds(struck.first, struck.last)
        for span in stage.phases()
    )


def unsettled(stage: Stage) -> list[str]:
    """Wait until every job has ended and the queue is empty; return what did not come to that."""
    try:
        wait_until(lambda: not _open(stage), timeout=SETTLE_SECONDS)
    except AssertionError:
        return [f"after {SETTLE_SECONDS:.0f} s: {found}" for found in _open(stage)]
    return []


def _open(stage: Stage) -> list[str]:
    stage.keep_daemon()
    found = []
    for job_id, name in stage.accepted.items():
        state = read_state(stage.workspace.run(job_id))
        if not state.finished:
            found.append(f"{name} is {state}")
    if found:
        return found
    try:
        records = {record.id: record for record in stage.client.jobs(all=True)}
        for job_id, name in stage.accepted.items():
            if job_id not in records or not records[job_id].finished:
                found.append(f"the record of {name} is {records.get(job_id)}")
        queue = stage.broker.queue()
        if count := queue.storage.queue_size():
            found.append(f"{count} messages are on the queue")
    except (FarenseError, OSError) as error:
        found.append(str(error))
    return found


def ends(stage: Stage) -> list[list[str | int | None]]:
    """Return for the report how each job ended."""
    found: list[list[str | int | None]] = []
    for job_id, name in stage.accepted.items():
        state = read_state(stage.workspace.run(job_id))
        found.append([name, state.state.value, state.attempt, state.failure, state.reason])
    return found


def main() -> int:
    seed, folder, model = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    found = plan(seed)
    if found.fault is Fault.FULL_DISK:
        root = folder / "workspace"
        root.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", DISK, "farense-test", str(root)]
        subprocess.run(mount, check=True)
    result = play_here(found, folder, model)
    # The disk is gone with this process.
    shutil.copytree(folder / "workspace" / "logs", folder / "logs", dirs_exist_ok=True)
    sys.stdout.buffer.write(orjson.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

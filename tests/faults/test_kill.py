"""kill -9 at seeded random times: the resumed run ends with the bits of one never killed.

`make test` kills a few times, `make faults` fifty times (FARENSE_FAULT_KILLS).
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ExitCode
from jobs.paths import RunDirectory, Workspace
from jobs.state import read_state
from tests.children import phases
from tests.children.phases import Notes, Phase
from tests.helpers.runs import make_run, numbers, run_child
from tests.helpers.waiting import TIMEOUT, wait_until

SEED = 1910
KILLS = int(os.environ.get("FARENSE_FAULT_KILLS", "5"))
PHASES = (Phase.FILL, Phase.UPDATE, Phase.VALIDATION, Phase.CHECKPOINT)
# A round has five targets, which two runs share.
KILLS_OF_FIRST_RUN = (1, 2, 3)
SETTINGS: dict[str, Any] = {
    "train": 40,
    "gradient_accumulation": 4,
    "save_steps": 5,
    "eval_steps": 6,
}


@dataclass(frozen=True)
class Run:
    """A run directory in its workspace."""

    workspace: Workspace
    directory: RunDirectory

    @classmethod
    def make(cls, workspace: Workspace, model: Path, number: int) -> Run:
        job_id = f"20261122-21{number // 60:02}{number % 60:02}-tiny-kill"
        return cls(workspace, make_run(workspace, model, job_id, **SETTINGS))

    def result(self) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """Return what must not depend on kills: digests of the adapter's files, metrics rows."""
        here = str(self.workspace.root).encode()  # adapter_config.json names the model's folder
        adapters = {
            path.name: hashlib.sha256(path.read_bytes().replace(here, b"")).hexdigest()
            for path in self.directory.adapters.iterdir()
        }
        return adapters, numbers(self.directory)


# From here on it is worth compiling, so that compiled steps are killed too.
MANY = 20


@dataclass(frozen=True)
class Kill:
    """When to kill: ``delay`` seconds after the ``beginning``-th beginning of a phase."""

    target: Phase
    beginning: int
    delay: float


@pytest.mark.timeout(120 + 30 * KILLS)
def test_killed_anywhere_and_resumed_the_bits_are_the_same(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if KILLS < MANY:
        # A fresh workspace would spend its time in the C++ compiler.
        monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    else:
        kernels = tmp_path / "kernels"
        kernels.mkdir()
        monkeypatch.setenv("TMPDIR", str(kernels))
    whole = Run.make(Workspace(tmp_path / "whole"), tiny_model, 0)
    measured = undisturbed(whole, tmp_path)
    expected = whole.result()
    fallen: Counter[Phase] = Counter()
    dice = random.Random(SEED)  # noqa: S311 - no secret
    for number, targets in enumerate(runs_to_break(dice, fallen), 1):
        cold = Phase.FILL in targets  # about every other run; the others find the cache filled
        workspace = Workspace(tmp_path / f"cold{number}") if cold else whole.workspace
        broken = Run.make(workspace, tiny_model, number)
        plans = [planned(target, len(targets), measured, dice) for target in targets]
        found = broken_and_resumed(broken, plans, tmp_path / f"notes{number}")
        fallen.update(found)
        assert broken.result() == expected, f"killed as planned in {plans}, fell into {found}"
        if cold:
            shutil.rmtree(workspace.root)
    assert not lacking(fallen), f"the kills fell into {fallen}"


def lacking(fallen: Counter[Phase]) -> list[Phase]:
    """Return the phases into which less than a tenth of the kills fell, or none at all."""
    return [phase for phase in PHASES if fallen[phase] < max(1, fallen.total() // 10)]


def runs_to_break(dice: random.Random, fallen: Counter[Phase]) -> Iterator[list[Phase]]:
    """Yield the phases that each run is to be killed in: rounds, then what they missed.

    Args:
        fallen: the kills so far; the caller counts them.
    """
    for _ in range(math.ceil(KILLS / (len(PHASES) + 1))):
        later = [*PHASES[1:], Phase.OTHER]
        dice.shuffle(later)
        # A fill comes first in its run: later the cache is full.
        targets = [Phase.FILL, *later]
        count = dice.choice(KILLS_OF_FIRST_RUN)
        yield targets[:count]
        yield targets[count:]
    for _ in range(KILLS):
        if missed := lacking(fallen) or [Phase.OTHER] * (fallen.total() < KILLS):
            yield missed[:1]


def planned(target: Phase, kills: int, measured: Notes, dice: random.Random) -> Kill:
    """Return a kill in ``target`` that leaves enough of the run for as many others."""
    beginning = dice.randint(1, max(1, measured.beginnings(target) // kills))
    # Well before the end of a phase; OTHER begins with the process and lasts as long.
    longest = measured.shortest_seconds(target) * (1 / kills if target is Phase.OTHER else 0.5)
    return Kill(target, beginning, dice.uniform(0, longest))


def undisturbed(run: Run, folder: Path) -> Notes:
    """Carry the run out; return what the child noted."""
    process, notes = start(run, folder / "notes")
    assert process.wait(2 * TIMEOUT) == ExitCode.OK
    return notes


def broken_and_resumed(run: Run, plans: list[Kill], notes_path: Path) -> list[Phase]:
    """Kill the run as planned, then let it end by hand; return the phases the kills fell into."""
    found: list[Phase] = []
    for number, plan in enumerate(plans):
        phase = kill(run, plan, notes_path.with_suffix(f".{number}"))
        if phase is None:
            return found
        found.append(phase)
    finished = run_child(run.directory)
    assert finished.returncode == ExitCode.OK, (plans, found, finished.stderr)
    return found


def kill(run: Run, plan: Kill, notes_path: Path) -> Phase | None:
    """Start the run and kill it; return the phase it was in, None where it had ended."""
    process, notes = start(run, notes_path)
    try:
        wait_until(lambda: notes.beginnings(Phase.OTHER) or process.poll() is not None, "a start")
        deadline = time.monotonic() + TIMEOUT
        # Busy: phases last milliseconds.
        while notes.beginnings(plan.target) < plan.beginning and process.poll() is None:
            assert time.monotonic() < deadline, f"{plan} did not come about"
        begun = time.perf_counter()
        while time.perf_counter() - begun < plan.delay:
            pass
    finally:
        process.kill()
        code = process.wait()
    assert code in (-9, ExitCode.OK), f"the child ended with {code}: {plan}"
    # The run ends with its last write of `state.json`, a little before its process does.
    ended = read_state(run.directory).finished
    return notes.phase if code == -9 and not ended else None


def start(run: Run, notes_path: Path) -> tuple[subprocess.Popen[bytes], Notes]:
    """Start the child that notes its phases."""
    notes = Notes(notes_path)
    process = subprocess.Popen(
        [sys.executable, "-P", str(phases.__file__), str(notes_path), str(run.directory.path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return process, notes

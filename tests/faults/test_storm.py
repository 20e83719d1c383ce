"""A night of jobs, and what may happen in it: nothing is lost, and nothing runs twice at a time.

In each round jobs are queued and one of them is struck in a phase of its life, as a seed has it
(:mod:`tests.faults.plan`). A round counts only if the notes of the child show that the blow fell
into the phase; else the next seed is played. `make test` plays a few rounds, `make faults` two
hundred (FARENSE_FAULT_ROUNDS); FARENSE_FAULT_SEED=137 goes on from there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.plan import Fault, plan
from tests.faults.report import Report
from tests.faults.rounds import play
from tests.helpers.phase_notes import Phase

ROUNDS = int(os.environ.get("FARENSE_FAULT_ROUNDS", "5"))
FIRST = int(os.environ.get("FARENSE_FAULT_SEED", "1"))
REPORT = os.environ.get("FARENSE_FAULT_REPORT")
REPEAT = (
    "FARENSE_FAULT_SEED={seed} FARENSE_FAULT_ROUNDS=1 .venv/bin/pytest tests/faults/test_storm.py"
)
# After so many the rest would tell nothing new.
MOST_FAILURES = 3


@pytest.mark.timeout(120 + 60 * ROUNDS)
def test_whatever_happens_every_job_comes_to_its_end(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(Path(REPORT) if REPORT else tmp_path / "report.jsonl", FIRST)
    seed = FIRST
    while report.counted < ROUNDS and len(report.failed) < MOST_FAILURES:
        folder = tmp_path / f"round{seed}"
        folder.mkdir()
        result = play(seed, folder, tiny_model)
        report.add(result)
        if not result.problems:
            shutil.rmtree(folder)
        seed += 1
    with capsys.disabled():
        print("", *report.table(), sep="\n")
    told = [
        f"seed {found.seed} ({found.fault} in {found.phase}); repeat it alone: "
        f"{REPEAT.format(seed=found.seed)}\n" + "\n".join(found.problems)
        for found in report.failed
    ]
    assert not told, "\n\n".join(told)


def test_every_fault_is_planned_in_every_phase() -> None:
    plans = [plan(seed) for seed in range(1, 201)]
    assert len({(found.fault, found.phase) for found in plans}) == len(Fault) * len(Phase)
    real = {(found.fault) for found in plans if found.victim == "real"}
    assert real == set(Fault)
    assert len(plans) / 12 < sum(found.victim == "real" for found in plans) < len(plans) / 7

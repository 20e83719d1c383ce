"""The table of `farense status`: what it shows, and how it gives way on a narrow terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cli.show.render import job_details, status_table
from cli.show.table import aligned, column_widths, display_width, shortened
from daemon.store.progress import advanced, phase_lines
from daemon.store.records import JobRecord
from jobs.events import Envelope, PrefixCached, Progress
from jobs.state import State
from jobs.storage.formatting import local, local_exact

LONGEST_STATE = "early_stopped"


def record(state: State = State.RUNNING, **changes: Any) -> JobRecord:
    values: dict[str, Any] = {
        "id": "20251122-220104-v2-kqzd",
        "preset": "v2",
        "run_dir": "checkpoints_qlora/20251122-220104-v2-kqzd",
        "step": 640,
        "total_steps": 1272,
        "epoch": 2,
        "num_epochs": 3,
        "loss": 1.23456,
        "val_loss": 1.3,
        "best_val_loss": 1.25,
        "overfitting_gap": 0.081,
        "gap_status": "BOM",
        "steps_per_second": 2.05,
        "eta_seconds": 308.0,
    }
    return JobRecord(state=state, **{**values, **changes})


def test_a_row_answers_everything_at_a_glance() -> None:
    heading, row = status_table([record(name="noite")])
    assert " ".join(heading.split()) == "JOB PRESET STATE STEP LOSS BEST VAL GAP SPEED LEFT"
    assert row.split() == [
        *("20251122-220104-v2-kqzd", "v2", "(noite)", "running", "640/1272"),
        *("1.2346", "1.2500", "0.081", "BOM", "2.05/s", "5m", "08s"),
    ]


def test_a_queued_job_has_no_figures_to_show() -> None:
    queued = JobRecord("20251122-220104-v2-kqzd", "v2", State.QUEUED, "x", total_steps=1272)
    assert status_table([queued])[1].split() == [
        *("20251122-220104-v2-kqzd", "v2", "queued", "0/1272"),
    ]


def test_a_finished_job_has_neither_speed_nor_time_left() -> None:
    heading, row = status_table([record(State.COMPLETED)])
    assert heading.split()[-1] == "GAP"
    assert row.split()[-2:] == ["0.081", "BOM"]


def test_an_ended_job_says_when_it_ended_how_long_it_took_and_why() -> None:
    times = {
        "started_at": "2026-07-22T21:00:00.000+00:00",
        "attempt_started_at": "2026-07-22T23:00:00.000+00:00",
        "finished_at": "2026-07-22T23:30:00.000+00:00",
        "ran_seconds": 3725.0,
    }
    failed = record(State.FAILED, reason="It ran out of memory: lower batch_size.", **times)
    heading, row = status_table([failed])
    for name, cell in {
        "ENDED": local("2026-07-22T23:30:00+00:00"),
        "DURATION": "1h 02m",
        "REASON": "It ran out of memory: lower batch_size.",
    }.items():
        assert cell in row
        assert name in heading
    assert row.endswith("lower batch_size.")
    assert status_table([failed], display_width(row) - 10)[1].endswith("…")
    assert "REASON" not in status_table([failed], 60)[0]


@pytest.mark.parametrize("state", list(State))
def test_every_state_stands_under_its_own_name(state: State) -> None:
    assert f" {state.value} " in status_table([record(state)])[1]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 140])
def test_a_narrow_terminal_keeps_ids_and_states_whole(width: int) -> None:
    records = [record(state, gap_status="EXCELENTE") for state in State]
    lines = status_table(records, width)
    assert max(map(display_width, lines)) <= max(width, len(records[0].id) + 2 + len(LONGEST_STATE))
    for line, job in zip(lines[1:], records, strict=True):
        assert line.startswith(job.id)
        assert job.state.value in line


def test_a_usual_table_is_whole_at_160_columns() -> None:
    jobs = [record(gap_status="EXCELENTE", name="noite longa"), record(State.EARLY_STOPPED)]
    assert status_table(jobs, 160) == status_table(jobs)


def test_columns_line_up_below_accents_and_wide_characters() -> None:
    lines = status_table([record(name="épocaa"), record(name="足球"), record(name="época")])
    starts = {display_width(line[: line.index("running")]) for line in lines[1:]}
    assert len(starts) == 1
    assert display_width("足球") == 4
    assert display_width("e\u0301poca") == display_width("época")


def test_a_name_cannot_write_to_the_terminal() -> None:
    (row,) = status_table([record(name="a\x1b[2Jb\nc")])[1:]
    assert "\x1b" not in row
    assert "\n" not in row


def test_long_names_are_cut_where_one_can_see_it() -> None:
    assert shortened("v2 (a very long name indeed)", 12) == "v2 (a very …"
    assert shortened("v2", 12) == "v2"


def test_colour_does_not_move_columns() -> None:
    from click import unstyle

    jobs = [record(state) for state in State]
    coloured = status_table(jobs, colour=True)
    assert any("\x1b[" in line for line in coloured)
    assert [unstyle(line).rstrip() for line in coloured] == status_table(jobs)


def test_the_details_leave_out_what_is_not_known() -> None:
    lines = job_details(JobRecord("20251122-220104-v2-kqzd", "v2", State.QUEUED, "x"))
    assert [line.split()[0] for line in lines] == ["Job", "Preset", "State", "Step", "Run"]


def test_the_details_say_why_a_job_failed() -> None:
    failed = record(State.FAILED, reason="Out of memory.\nLower batch_size.", attempt=3)
    text = "\n".join(job_details(failed))
    assert "Reason         Out of memory.\n               Lower batch_size." in text
    assert "640/1272 (epoch 2 of 3)" in text
    assert "Best val loss  1.2500" in text


def test_the_details_tell_how_attempts_failed() -> None:
    killed: dict[str, Any] = {
        "attempt": 1,
        "class": "killed",
        "how": "SIGKILL",
        "at": "2025-11-22T22:10:00+00:00",
    }
    memory: dict[str, Any] = {
        "attempt": 2,
        "class": "out_of_memory",
        "at": "2025-11-22T23:10:00+00:00",
    }
    once = "\n".join(job_details(record(attempt=1, failure="killed", history=[killed])))
    assert "Failure        killed (SIGKILL)\n" in once
    assert "History" not in once
    again = "\n".join(job_details(record(attempt=2, failure="killed", history=[killed])))
    assert "Failure        killed (SIGKILL) (attempt 1)\n" in again
    twice = record(State.FAILED, attempt=2, failure="out_of_memory", history=[killed, memory])
    text = "\n".join(job_details(twice))
    assert "Failure        out of memory\n" in text
    assert (
        f"History        attempt 1: killed (SIGKILL), {local_exact(killed['at'])}\n"
        f"               attempt 2: out of memory, {local_exact(memory['at'])}\n"
    ) in text
    # Of a daemon that had no history yet.
    assert "Failure        hang" in "\n".join(job_details(record(failure="hang")))


def test_cells_are_padded_to_the_widest_of_their_column() -> None:
    rows = [["a", "1"], ["bbb", "22"]]
    assert [aligned(row, column_widths(rows), [False, True]) for row in rows] == [
        "a     1",
        "bbb  22",
    ]


def test_what_is_no_step_is_told_with_its_own_time_left() -> None:
    fill = Envelope(PrefixCached("t", 120, 680, 90.0, 35.0, 185.0), "x", 1, "2025-11-22T22:01:04Z")
    filling = advanced(record(step=0), fill)
    assert phase_lines([filling]) == [
        "20251122-220104-v2-kqzd is computing prefix states 120/680, 3m 05s left."
    ]
    assert "Doing          computing prefix states 120/680, 3m 05s left" in job_details(filling)
    step = Envelope(Progress(1, 1272, 1, None, None), "x", 1, "2025-11-22T22:05:04Z")
    assert phase_lines([advanced(filling, step), replace(filling, state=State.PAUSED)]) == []

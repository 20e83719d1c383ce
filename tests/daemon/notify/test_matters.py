"""What is said: titles and bodies as a person reads them on a lock screen."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.notify.happening import Happening, What
from daemon.notify.kinds import NoticeKind
from daemon.notify.matters import (
    BestSoFar,
    Matter,
    SweepEnd,
    notice_of,
    of_daemon_gone,
    of_held,
    of_job,
    of_morning,
    of_queue_empty,
    of_sweep,
)
from daemon.store.records import JobRecord
from jobs.state import JobState, State
from jobs.sweep.trial import Trial

ID = "20251122-220104-v2-kqzd"
OTHER = "20251121-220104-v2-abcd"
RAN = {"attempt_started_at": "2025-11-22T22:01:04+00:00", "ran_seconds": 3725.0}
HOST = "mini"


def happening(what: What = What.JOB_ENDED, **detail: Any) -> Happening:
    subject = ID if what in (What.JOB_ENDED, What.SWEEP_ENDED) else None
    return Happening(what, subject, detail, "2025-11-23T03:12:00+00:00", "1-a")


def job(state: State, best: BestSoFar | None = None, **values: Any) -> Matter:
    fields = {"id": ID, "preset": "v2", "state": state, "run_dir": "x", **RAN, **values}
    record = JobRecord(**fields)
    return of_job(happening(), record, JobState(state, reason=record.reason), best)


def test_a_finished_training_says_its_loss_and_its_gap_with_the_word() -> None:
    matter = job(
        State.COMPLETED, best_val_loss=0.265, overfitting_gap=0.084, gap_status="BOM",
        baseline_val_loss=3.0,
    )  # fmt: skip
    assert matter.title == "v2 finished after 1h 02m"
    assert matter.body == f"Best val loss 0.2650, gap 0.084 BOM.\n{ID}"
    assert matter.kinds == (NoticeKind.FINISHED,)
    assert matter.data["job"]["gap_status"] == "BOM"


def test_one_that_was_evaluated_says_its_scores_too() -> None:
    matter = job(
        State.EARLY_STOPPED, name="slower", best_val_loss=0.265, overfitting_gap=0.4,
        gap_status="CRÍTICO", token_f1=0.53, exact_match=0.25,
    )  # fmt: skip
    assert matter.title == "slower stopped early after 1h 02m"
    assert "gap 0.400 CRÍTICO.\nToken F1 0.530, exact match 0.250." in matter.body
    assert matter.kinds == (NoticeKind.EARLY_STOPPED,)


def test_one_that_has_learned_nothing_says_so() -> None:
    matter = job(
        State.COMPLETED, best_val_loss=84.68, overfitting_gap=0.0, baseline_val_loss=5.0,
        gap_status="SEM APRENDIZAGEM",
    )  # fmt: skip
    assert "Best val loss 84.6800, SEM APRENDIZAGEM." in matter.body
    assert "try a lower learning rate" in matter.body


def test_the_best_is_one_message_with_what_it_was_better_than() -> None:
    best = BestSoFar(3, 0.3, OTHER)
    matter = job(State.COMPLETED, best, best_val_loss=0.265)
    assert matter.kinds == (NoticeKind.FINISHED, NoticeKind.BEST)
    assert matter.title == "v2 finished after 1h 02m, the best so far"
    assert f"before: 0.3000 ({OTHER})" in matter.body


def test_an_evaluation_says_its_scores() -> None:
    matter = job(State.COMPLETED, evaluates=OTHER, kind="evaluate", token_f1=0.53, exact_match=0.25)
    assert matter.title == "v2 was evaluated"
    expected = f"Token F1 0.530, exact match 0.250.\nMore: farense report {OTHER}"
    assert matter.body == expected


@pytest.mark.parametrize(
    ("values", "last"),
    [
        ({}, f"Again: farense retry {ID}"),
        ({"checkpoint_step": 7}, f"Again: farense retry {ID} --from-checkpoint"),
        ({"failure": "bad_input"}, f"More: farense logs {ID}"),
    ],
)
def test_a_failure_says_why_and_what_to_type(values: dict[str, Any], last: str) -> None:
    matter = job(State.FAILED, reason="It ran out of memory. " + "x" * 400, **values)
    assert matter.title == "v2 failed after 1h 02m"
    lines = matter.body.splitlines()
    assert lines[0].startswith("It ran out of memory. xxx")
    assert len(lines[0]) <= 300
    assert lines[1] == f"More: farense logs {ID}"
    assert lines[-1] == last


def test_a_failed_job_whose_files_are_gone_is_told_by_its_id() -> None:
    state = JobState(State.FAILED, reason="its files are gone")
    matter = of_job(happening(), None, state)
    assert matter.title == "v2 failed"
    assert matter.body.startswith("its files are gone\n")


def test_names_and_reasons_cannot_steer_a_terminal() -> None:
    matter = job(State.FAILED, name="a\x1b[2J", reason="b\x1b[2J\u202ec")
    assert "\x1b" not in matter.title + matter.body + matter.line
    assert "\u202e" not in matter.body


def test_a_sweep_says_its_best_and_what_failed() -> None:
    trials = [
        Trial(0, {}, {"lora.rank": 4}, State.COMPLETED, value=1.25),
        Trial(1, {}, {"lora.rank": 2}, State.FAILED, failure="out_of_memory"),
    ]
    record = JobRecord(
        OTHER, "v2", State.COMPLETED, "x", best_val_loss=1.25, overfitting_gap=0.01,
        gap_status="EXCELENTE", token_f1=0.5,
    )  # fmt: skip
    end = SweepEnd(
        ID, "night", State.COMPLETED, "its time was up", "val loss", trials, trials[0], record
    )
    matter = of_sweep(happening(What.SWEEP_ENDED), end)
    assert matter.title == "Sweep night ended"
    assert matter.body.splitlines() == [
        "Best: trial 0 (lora.rank=4).",
        "Best val loss 1.2500, gap 0.010 EXCELENTE, token F1 0.500.",
        "2 trials, 1 failed; its time was up.",
        f"More: farense sweep status {ID}",
    ]
    none = SweepEnd(ID, "night", State.FAILED, "no trial had a result", "val loss", [], None)
    assert of_sweep(happening(What.SWEEP_ENDED), none).title == "Sweep night failed"


def test_held_jobs_say_why_how_many_wait_and_what_to_do() -> None:
    reason = "the disk is full: 64 MB must be free"
    matter = of_held(happening(What.HELD, reason=reason, waiting=1), HOST)
    assert matter.title == "Jobs are held: the disk is full"
    assert matter.body.splitlines() == [
        "The disk is full: 64 MB must be free.",
        "1 job waits on mini.",
        "To make space: farense prune, farense cache clear",
    ]


def test_an_empty_queue_says_what_was_done() -> None:
    detail = {"ended": {"completed": 3, "failed": 1}, "since": None, "paused": 2}
    matter = of_queue_empty(happening(What.QUEUE_EMPTY, **detail), HOST)
    assert matter.title == "The queue of mini is empty"
    assert matter.body.startswith("4 jobs ended: 3 completed, 1 failed.\n2 jobs are paused")


def test_a_daemon_that_is_gone_says_since_when_and_what_to_type() -> None:
    gone = of_daemon_gone(happening(What.DAEMON_GONE, since=None, running=ID), HOST)
    assert gone.title == "The daemon of mini is gone"
    assert gone.body.endswith("To start one: farense daemon")
    detail = {"since": "2025-11-23T03:12:00+00:00", "back": True, "rebooted": True}
    back = of_daemon_gone(happening(What.DAEMON_GONE, **detail), HOST)
    assert back.title == "The daemon of mini was gone, and is back"
    assert "The machine was started again." in back.body


def test_the_morning_is_its_text() -> None:
    matter = of_morning(happening(What.WINDOW_ENDED), "3 jobs since 22:00\nDisk: 9 GB\n")
    assert (matter.title, matter.body) == ("3 jobs since 22:00", "Disk: 9 GB")


def test_several_of_a_kind_are_gathered_into_lines() -> None:
    ends = [job(State.COMPLETED, best_val_loss=number / 10) for number in range(8)]
    notice = notice_of(NoticeKind.FINISHED, ends)
    assert notice.title == "8 jobs finished"
    lines = notice.body.splitlines()
    assert lines[0] == f"{ID}: completed: best val loss 0.3000"
    assert lines[-2:] == ["and 3 more", "More: farense status"]
    assert notice.as_event()["count"] == 8


def test_failures_of_one_reason_are_counted() -> None:
    ids = [f"20251122-220104-v2-{chr(97 + n // 26)}{chr(97 + n % 26)}aa" for n in range(500)]
    ends = [job(State.FAILED, id=one, reason=f"it said nothing: {one}.stderr") for one in ids]
    notice = notice_of(NoticeKind.FAILED, [*ends, *ends])
    assert notice.title == "1,000 jobs failed"
    assert notice.body.startswith(f"1,000 x it said nothing: *.stderr (the first: {ids[0]})")

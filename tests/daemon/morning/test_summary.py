"""What is told in the morning, of nights made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from daemon.logging import add_line
from daemon.morning.daemon_log import log_entries
from daemon.morning.summary import default_since, morning, morning_text
from jobs.events import Failed
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.files import write_json
from tests.helpers.made_up_night import put, put_sweep, said, say, write_log

NOW = datetime(2026, 11, 28, 7, 0, tzinfo=UTC)
EVENING = NOW - timedelta(hours=9)
HOUR = timedelta(hours=1)


def job(letters: str, preset: str = "v2") -> str:
    return f"20261127-220000-{preset}-{letters}"


def test_a_sender_that_outlives_its_daemon_does_not_hide_a_dead_night(workspace: Workspace) -> None:
    write_log(workspace, said(EVENING, "daemon_started"))
    add_line(workspace.daemon_log, "notification_sent", "the sender", "info", {})
    assert "notification_sent" in workspace.daemon_log.read_text()
    assert [entry.event for entry in log_entries(workspace, EVENING)] == ["daemon_started"]


def test_a_night_is_told_from_its_files(workspace: Workspace) -> None:
    put(workspace, job("good"), State.COMPLETED, EVENING + HOUR, best=1.4, gap=0.02)
    put(workspace, job("best"), State.EARLY_STOPPED, EVENING + 2 * HOUR, best=1.2, gap=0.15)
    put(workspace, job("none"), State.COMPLETED, EVENING + 3 * HOUR, best=3.5)
    put(workspace, job("othr"), State.COMPLETED, EVENING + 4 * HOUR, best=0.3, data="easier")
    put(workspace, job("olds"), State.COMPLETED, EVENING - HOUR, best=0.1)
    reason = "The loss became NaN at step 6.\nTry a lower learning rate."
    history = [{"attempt": 1, "class": "diverged", "at": (EVENING + 5 * HOUR).isoformat()}]
    bad = put(
        workspace,
        job("fail"),
        State.FAILED,
        EVENING + 5 * HOUR,
        reason=reason,
        failure="diverged",
        history=history,
    )
    say(workspace, bad.job_id, EVENING + 5 * HOUR, Failed(6, "Diverged", reason))
    put(workspace, job("wait"), State.QUEUED, EVENING - 9 * HOUR, attempt=0)
    write_json(workspace.run(job("best")).evaluation_report, {"token_f1": 0.61, "exact_match": 0.5})
    found = morning(workspace, EVENING, NOW)
    assert [one.id for one in found.jobs] == [
        job(letters) for letters in ("fail", "othr", "none", "best", "good")
    ]
    # Losses on other questions do not compare, and what has not learned is no best.
    assert {best.id for best in found.best} == {job("best"), job("othr")}
    [failed] = found.failed
    assert failed.reason == "The loss became NaN at step 6. Try a lower learning rate."
    assert (failed.failure, failed.lost) == ("diverged", 1)
    assert [(one.id, one.waits_for) for one in found.waiting] == [(job("wait"), "its turn")]
    assert not found.queue_answers
    assert found.held == ["No daemon works on this queue. Start one: farense daemon"]
    text = morning_text(workspace, EVENING.isoformat())
    assert len(text.splitlines()) <= 15
    assert "v2-best: best val loss 1.2000, gap 0.150 MODERADO" in text
    assert "token F1 0.610" in text
    assert "Failed: v2-fail: The loss became NaN at step 6." in text
    assert "Waiting: 1 queued." in text


def test_a_night_in_which_nothing_ran_says_why(workspace: Workspace) -> None:
    found = morning(workspace, EVENING, NOW)
    assert found.jobs == []
    assert [(idle.reason, idle.seconds) for idle in found.idle] == [
        ("the daemon was not running", 9 * 3600)
    ]
    text = morning_text(workspace, (datetime.now(UTC) - HOUR).isoformat())
    assert text.startswith("Nothing ran since ")
    assert ": the daemon was not running." in text


def test_a_damaged_run_directory_does_not_hide_the_others(workspace: Workspace) -> None:
    put(workspace, job("good"), State.COMPLETED, EVENING + HOUR, best=1.4)
    put(workspace, job("torn"), State.COMPLETED, EVENING + HOUR).state.write_bytes(b'{"state": "c')
    (workspace.logs / "daemon.jsonl").write_bytes(b'not json\n{"time": 3, "event": []}\n')
    found = morning(workspace, EVENING, NOW)
    assert job("good") in [one.id for one in found.jobs]


@pytest.mark.parametrize(("window", "hours"), [("22:00-07:00", 9), (None, 12)])
def test_the_night_begins_with_the_last_window(
    workspace: Workspace, window: str | None, hours: int
) -> None:
    write_log(workspace, said(EVENING - 9 * HOUR, "daemon_started", window=window))
    began = NOW.astimezone().replace(hour=7, minute=0).astimezone(UTC)
    assert default_since(workspace, began) == began - hours * HOUR


def test_the_log_is_read_across_its_rotation(workspace: Workspace) -> None:
    write_log(workspace, said(EVENING - HOUR, "daemon_started"), name="daemon.jsonl.2")
    write_log(
        workspace,
        said(EVENING, "job_started", job="a"),
        said(EVENING + HOUR, "job_ended", job="a"),
        name="daemon.jsonl.1",
    )
    write_log(workspace, said(EVENING + 2 * HOUR, "daemon_stopped"))
    found = morning(workspace, EVENING, NOW)
    assert found.busy_seconds == 3600
    assert {idle.reason: idle.seconds / 3600 for idle in found.idle} == {
        "nothing was ready to run": 1,
        "the daemon was not running": 7,
    }


def test_a_sweep_is_one_line_with_its_best_trial(workspace: Workspace) -> None:
    put_sweep(workspace, EVENING + HOUR)
    found = morning(workspace, EVENING, NOW)
    [sweep] = found.sweeps
    assert (sweep.tried, sweep.pruned, sweep.failed) == (3, 1, 1)
    assert sweep.best == 1
    text = morning_text(workspace, EVENING.isoformat())
    assert "Sweep night (running): 3 trials, 1 ended early, 1 failed; best trial 1: " in text
    assert "val loss 1.3000" in text

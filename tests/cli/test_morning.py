"""`farense morning`: one screen, whatever the night was like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from cli.show.table import display_width
from daemon.client import FarenseClient
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State
from tests.cli.conftest import Run
from tests.helpers.jobs import ended
from tests.helpers.made_up_night import put, put_sweep, said, write_log
from tests.helpers.servers import Daemons

HOUR = timedelta(hours=1)


def test_an_empty_night_is_no_failure(farense: Run) -> None:
    done = farense("morning", "--since", "8h")
    assert done.code == 0
    assert "Nothing ran since " in done.out
    assert ": the daemon was not running." in done.out
    assert "Disk: " in done.out


def test_a_long_night_fits_on_one_screen(workspace: Workspace, farense: Run) -> None:
    now = datetime.now(UTC)
    evening = now - 10 * HOUR
    lines = [said(evening, "daemon_started", window="22:00-07:00")]
    for number in range(40):
        letters = f"aa{chr(97 + number // 26)}{chr(97 + number % 26)}"
        job, at = f"20261127-220000-v2-{letters}", evening + number * 0.2 * HOUR
        lines += [said(at, "job_started", job=job), said(at + 0.1 * HOUR, "job_ended", job=job)]
        failed: dict[str, Any] = {
            "failure": "error",
            "reason": "The data are no good: " + "line 7, " * 40,
        }
        if number % 4:
            put(workspace, job, State.COMPLETED, at, best=2 - number / 100, name="uma noite " * 9)
        else:
            put(workspace, job, State.FAILED, at, **failed)
        put(workspace, f"20261127-230000-v1-{letters}", State.QUEUED, evening, attempt=0)
    for hour in range(6):
        lines.append(said(now - HOUR + hour * 0.1 * HOUR, "queue_held", reason=f"reason {hour}"))
    put_sweep(workspace, now - HOUR)
    write_log(workspace, *sorted(lines, key=lambda line: line.time))
    done = farense("morning", "--since", "12h")
    assert done.code == 0
    shown = done.out.splitlines()
    assert len(shown) <= 40
    assert max(map(display_width, shown)) <= 80
    assert " more: farense status --all" in done.out
    assert " more: farense queue" in done.out
    assert "SWEEPS" in done.out
    whole = orjson.loads(farense("morning", "--since", "12h", "--json").out)
    assert len(whole["jobs"]) == 40
    assert whole["best"][0]["best_val_loss"] == pytest.approx(1.61)
    assert whole["sweeps"][0]["best"] == 1


def test_it_tells_what_a_daemon_did(
    client: FarenseClient, preset: Preset, daemons: Daemons, farense: Run
) -> None:
    good, later = client.enqueue(preset), client.enqueue(preset, name="later")
    client.pause(later.id)
    daemons.start()
    ended(client, good.id)
    found = orjson.loads(farense("morning", "--since", "1h", "--json").out)
    assert [(job["id"], job["state"]) for job in found["jobs"]] == [(good.id, "completed")]
    assert [(job["id"], job["state"]) for job in found["waiting"]] == [(later.id, "paused")]
    assert found["queue_answers"]
    assert found["daemon_runs"]
    assert found["busy_seconds"] > 0


def test_a_time_that_is_none_is_refused(farense: Run) -> None:
    for since in ("tomorrow 6am", "8 o'clock", "2999-01-01 10:00"):
        done = farense("morning", "--since", since)
        assert done.code == 2
        assert done.err.startswith("Error: ")
        assert "Traceback" not in done.err

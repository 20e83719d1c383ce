"""Every screen and page shows moments in the machine's own zone; JSON and files keep UTC."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.commands import cache, prune, queue
from cli.show.render import job_details
from cli.show.sweep_view import status_lines
from daemon.client import FarenseClient
from daemon.lifecycle.decisions import begin
from daemon.prune.plan import EndedJob, Plan
from daemon.store.dead_letters import DeadLetter
from daemon.store.records import JobRecord
from daemon.sweep.view import SweepView
from jobs.past_run import read_run
from jobs.paths import REPOSITORY, Workspace
from jobs.prefix.listing import EntryInfo, EntryState
from jobs.report.page import report_of
from jobs.report.sweep_page import sweep_report_of
from jobs.state import JobState, State
from jobs.storage.formatting import local, local_exact
from jobs.sweep.paths import SweepFolder
from tests.cli.conftest import Run
from tests.helpers.made_up_sweep import made_up, trial
from tests.helpers.runs import make_run
from tests.helpers.zones import Zone, zone

__all__ = ["zone"]

JOB = "20261127-201507-tiny-aaaa"
# In Kolkata, five and a half hours ahead, the next day.
UTC_TEXT = "2026-11-27T20:15:07.250+00:00"
LISTED, EXACT = "2026-11-28 01:45", "2026-11-28 01:45:07 +05:30"
OF_UTC = ("20:15", "2026-11-27T")


def record(**changes: Any) -> JobRecord:
    known = JobRecord(JOB, "tiny", State.COMPLETED, f"checkpoints_qlora/{JOB}")
    return replace(known, **changes)


def details() -> str:
    history = [{"attempt": n, "class": "killed", "at": UTC_TEXT} for n in (1, 2)]
    times = {"created_at": UTC_TEXT, "started_at": UTC_TEXT, "finished_at": UTC_TEXT}
    lines = "\n".join(job_details(record(**times, history=history))).splitlines()
    shown = [line for line in lines if EXACT in line]
    assert [line.split()[0] for line in shown] == [
        "History", "attempt", "Queued", "Started", "Finished",
    ]  # fmt: skip
    return "\n".join(lines)


def waiting() -> str:
    state = JobState(State.QUEUED, schedule=UTC_TEXT)
    return begin(state, datetime(2026, 11, 27, tzinfo=UTC), None).reason or ""


def kept() -> str:
    entry = EntryInfo("a" * 64, EntryState.COMPLETE, {}, 1, 1, 1, 1000, 1000, UTC_TEXT)
    return " ".join(cache._row(entry))


def pruned() -> str:
    job = EndedJob(JOB, State.COMPLETED, datetime.fromisoformat(UTC_TEXT), 1000)
    return "\n".join(prune._lines(Plan([job], {}, [])))


def starts() -> str:
    return queue._starts(record(state=State.SCHEDULED, schedule=UTC_TEXT))


def sweep() -> str:
    found = made_up([trial(0, 2.5)], state=State.RUNNING, until=UTC_TEXT)
    folder = SweepFolder(Path(found.spec.id))
    return "\n".join(
        status_lines(SweepView(folder, found.spec, found.state, list(found.trials), True, None))
    )


@pytest.mark.parametrize(
    ("screen", "expected"),
    [
        (details, EXACT),
        (waiting, EXACT),
        (kept, LISTED),
        (pruned, LISTED),
        (starts, LISTED),
        (sweep, LISTED),
    ],
)
def test_a_screen_shows_local_times(zone: Zone, screen: Callable[[], str], expected: str) -> None:
    zone("Asia/Kolkata")
    assert_local(screen(), expected)


def assert_local(text: str, expected: str) -> None:
    assert expected in text
    assert not [found for found in OF_UTC if found in text], text


def test_pages_show_local_times(zone: Zone, workspace: Workspace, tiny_model: Path) -> None:
    zone("Asia/Kolkata")
    run = make_run(workspace, tiny_model, JOB)
    assert_local(report_of([read_run(run.path)], UTC_TEXT).html.decode(), f"farense, {EXACT}.")
    swept = made_up([trial(0, 2.5)], state=State.RUNNING, until=UTC_TEXT)
    page = sweep_report_of(swept, UTC_TEXT).html.decode()
    assert_local(page, f"farense, {EXACT}.")
    assert page.count(EXACT) == 2


@pytest.mark.usefixtures("preset")
def test_commands_show_local_times_and_json_keeps_utc(
    zone: Zone, invoke: Run, client: FarenseClient, workspace: Workspace
) -> None:
    zone("Asia/Kolkata")
    done = invoke("enqueue", "tiny", "--at", "2027-01-02 01:45", TZ="Asia/Kolkata")
    assert "starts at 2027-01-02 01:45:00 +05:30" in done.out
    told = json.loads(invoke("status", "latest", "--json").out)
    assert told["schedule"] == "2027-01-01T20:15:00+00:00"
    assert told["created_at"].endswith("+00:00")
    shown = invoke("status", "latest").out
    assert local_exact(told["created_at"]) in shown
    assert "+05:30" in shown
    assert "+00:00" not in shown
    assert " 2027-01-02 01:45 " in invoke("queue").out
    state = json.loads(workspace.run(told["id"]).state.read_text())
    assert state["schedule"] == told["schedule"]


def test_letters_show_local_times(
    zone: Zone, invoke: Run, client: FarenseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone("Asia/Kolkata")
    letter = DeadLetter("record", "it is none", UTC_TEXT, 3, "abc")
    monkeypatch.setattr(FarenseClient, "dead_letters", lambda self, clear: [letter])
    assert_local(invoke("queue", "dead").out, EXACT)
    assert json.loads(invoke("queue", "dead", "--json").out) == [asdict(letter)]


@pytest.mark.parametrize(
    ("name", "moment", "expected"),
    [
        ("Europe/Lisbon", "2026-07-01T22:30:00+00:00", "2026-07-01 23:30:00 +01:00"),
        ("Europe/Lisbon", "2026-12-01T22:30:00+00:00", "2026-12-01 22:30:00 +00:00"),
        ("America/New_York", "2026-07-01T02:30:00.9+00:00", "2026-06-30 22:30:00 -04:00"),
        ("Asia/Kolkata", "2026-07-01T02:30:00", "2026-07-01 08:00:00 +05:30"),
        ("Asia/Kolkata", "not a moment", "not a moment"),
        ("Asia/Kolkata", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_a_moment_is_shown_in_the_zone_of_the_machine(
    zone: Zone, name: str, moment: str, expected: str
) -> None:
    zone(name)
    assert local_exact(moment) == expected
    assert local(moment) == (expected if expected == moment else expected[:16])


def test_nothing_else_formats_a_moment() -> None:
    """One function for all: what formats a time by itself shows it in another way, or in UTC."""
    allowed = {"jobs/storage/formatting.py", "daemon/times.py"}
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for path in sources()
        if any(sign in path.read_text() for sign in ("%H:%M", ".astimezone()", 'timespec="min'))
    }
    assert found == allowed


def sources() -> Iterator[Path]:
    for room in ("cli", "daemon", "jobs"):
        for pattern in ("*.py", "*.j2"):
            yield from (REPOSITORY / room).rglob(pattern)

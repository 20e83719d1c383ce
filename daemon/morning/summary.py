"""What became of the jobs since a moment: gathered from files; Redis only adds what waits."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import orjson

from daemon.morning.daemon_log import last_window, log_entries
from daemon.morning.facts import Morning, SweepOfNight
from daemon.morning.idle import timeline
from daemon.morning.jobs_since import best_of, jobs_since
from daemon.morning.still_waiting import still_waiting
from daemon.morning.text import message
from daemon.standstill import daemon_runs
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.storage.files import whole_lines
from jobs.sweep.paths import sweeps_of

DEFAULT = timedelta(hours=12)


def morning(workspace: Workspace, since: datetime, now: datetime | None = None) -> Morning:
    """Return what became of the jobs since a moment, which has a zone."""
    until = now or datetime.now(UTC)
    jobs = jobs_since(workspace, since)
    sweeps = _sweeps(workspace, since, {job.sweep for job in jobs if job.sweep})
    runs = daemon_runs(workspace)
    seen = timeline(
        log_entries(workspace, since),
        since,
        until,
        runs=runs,
        heard=lambda job, before: _heard(workspace, job, before),
    )
    waiting = still_waiting(workspace)
    disk = shutil.disk_usage(workspace.root)
    return Morning(
        since=since,
        until=until,
        jobs=jobs,
        sweeps=sweeps,
        best=best_of(jobs),
        waiting=waiting.jobs,
        more_waiting=waiting.more,
        held=waiting.held,
        disk_free=disk.free,
        disk_size=disk.total,
        busy_seconds=round(seen.busy.total_seconds(), 3),
        idle=seen.idle(),
        daemon_runs=runs,
        queue_answers=waiting.queue_answers,
    )


def morning_text(workspace: Workspace, since_iso: str) -> str:
    """Return in some 15 lines what became of the jobs since a moment: the text of a message.

    Args:
        since_iso: ISO 8601; in UTC where it names no zone.
    """
    since = datetime.fromisoformat(since_iso)
    found = morning(workspace, since if since.tzinfo else since.replace(tzinfo=UTC))
    return "\n".join(message(found))


def default_since(workspace: Workspace, now: datetime | None = None) -> datetime:
    """Return when the last window of the workspace's daemon began; without one, 12 hours ago."""
    moment = now or datetime.now(UTC)
    window = last_window(log_entries(workspace, moment - DEFAULT))
    return moment - DEFAULT if window is None else window.began(moment)


def _sweeps(
    workspace: Workspace, since: datetime, with_jobs: Collection[str]
) -> list[SweepOfNight]:
    if not sweeps_of(workspace).is_dir():
        return []
    # Loads Pydantic, which takes as long as all else here.
    from daemon.morning.sweeps_since import sweeps_since  # noqa: PLC0415

    return sweeps_since(workspace, since, with_jobs)


def _heard(workspace: Workspace, job_id: str, before: datetime) -> datetime | None:
    """Return when a job last said something before a moment; None where it said nothing."""
    last = None
    try:
        for line in whole_lines(workspace.job_log(job_id)):
            moment = datetime.fromisoformat(orjson.loads(line)["time"])
            if moment > before:
                break
            last = moment
    except (OSError, ValueError, KeyError, TypeError, FarenseError):
        return last
    return last

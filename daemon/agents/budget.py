"""How much an agent may queue: so many jobs, and so many hours of training.

Both are counted from the start of the server. A job takes from the hours what it may run at the
most, its ``max_hours``, which the daemon enforces; once it has ended, what it has run. So the jobs
of a server together never train longer than the person allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from daemon.store.records import JobRecord
from jobs.errors import InvalidInput
from jobs.storage.formatting import counted

SECONDS_IN_HOUR = 3600.0
WHOSE = "The person who started the server sets it, with --max-jobs and --max-hours of farense mcp."


@dataclass(frozen=True)
class Limits:
    """What the person allows; None for no limit of hours."""

    jobs: int
    hours: float | None


class Allowance:
    """What of it is left."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # The hours that each job may run, by its id.
        self._queued: dict[str, float] = {}

    def check(
        self, jobs: int, max_hours: float | None, records: Callable[[str], JobRecord | None]
    ) -> None:
        """Refuse more jobs than the budget has left.

        Args:
            jobs: how many are to be queued; each may run for ``max_hours``.
            records: returns what is known of a job that was queued before; None where nothing is.

        Raises:
            InvalidInput: they are beyond the budget, or nobody can know whether they are.
        """
        queued, limit = len(self._queued), self._limits.hours
        if queued + jobs > self._limits.jobs:
            raise InvalidInput(
                f"Beyond the budget: it allows {counted(self._limits.jobs, 'job')}, "
                f"{queued} queued so far, and this would be {jobs} more.",
                WHOSE,
            )
        if limit is None:
            return
        if max_hours is None:
            raise InvalidInput(
                f"The budget is {limit:g} hours of training, so a job has to say how long it may "
                "take at the most.",
                "Give max_hours; what the job does not take is free again when it has ended.",
            )
        taken, wanted = self.hours_taken(records), jobs * max_hours
        if taken + wanted > limit:
            raise InvalidInput(
                f"Beyond the budget: it allows {limit:g} hours of training, {taken:.3g} of them "
                f"are taken, and this may take {wanted:.3g}.",
                f"Give a smaller max_hours, or wait until a job has ended. {WHOSE}",
            )

    def take(self, job_id: str, max_hours: float | None) -> None:
        """Note that a job was queued."""
        self._queued[job_id] = max_hours or 0.0

    def hours_taken(self, records: Callable[[str], JobRecord | None]) -> float:
        """Return the hours that are taken: what jobs have run, or may still run."""
        return sum(_hours(records(job_id), most) for job_id, most in self._queued.items())

    def left(self, records: Callable[[str], JobRecord | None]) -> dict[str, Any]:
        """Return what is left, JSON-ready."""
        hours = self._limits.hours
        return {
            "jobs_left": self._limits.jobs - len(self._queued),
            "hours_left": None if hours is None else max(0.0, hours - self.hours_taken(records)),
        }


def _hours(record: JobRecord | None, most: float) -> float:
    if record is None or not record.finished:
        return most
    ran = record.duration_seconds
    return most if ran is None else min(most, ran / SECONDS_IN_HOUR)

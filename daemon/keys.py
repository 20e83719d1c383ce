"""The names of everything farense keeps in Redis."""

from __future__ import annotations

QUEUE = "farense"
"""Huey's name of the queue; Huey makes its own keys of it."""

JOBS = "farense:jobs"
"""Sorted set: every job id by its time of creation."""

UNFINISHED = "farense:unfinished"
"""Set: the ids of the jobs that have not ended."""

WORKERS = "farense:workers"
"""Hash: what each daemon last said of itself, by its name."""

DEAD_LETTERS = "farense:dead"
"""List, capped: messages that could not be read, newest first."""


def job(job_id: str) -> str:
    """Return the key of a job's record, a hash."""
    return f"farense:job:{job_id}"


def events(job_id: str) -> str:
    """Return the key of a job's events, a capped stream."""
    return f"farense:events:{job_id}"

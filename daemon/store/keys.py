"""The names of everything farense keeps in Redis."""

from __future__ import annotations

from jobs.state import DEFAULT_QUEUE

JOBS = "farense:jobs"
"""Sorted set: every job id by its time of creation."""

UNFINISHED = "farense:unfinished"
"""Set: the ids of the jobs that have not ended."""

WORKERS = "farense:workers"
"""Hash: what each daemon last said of itself, by its name."""

DEAD_LETTERS = "farense:dead"
"""List, capped: messages that could not be read, newest first."""

PROBE = "farense:probe"
"""String that lives for a millisecond: written to see whether the server accepts anything."""


def queue(name: str) -> str:
    """Return Huey's name of a queue; Huey makes its own keys of it."""
    return "farense" if name == DEFAULT_QUEUE else f"farense:{name}"


def left(name: str) -> str:
    """Return the key of the jobs of a queue that a daemon left for another, a set of ids."""
    return f"farense:left:{name}"


def spec(job_id: str) -> str:
    """Return the key of a job's spec (``job.json``), for machines that have no files of it."""
    return f"farense:order:{job_id}"


def job(job_id: str) -> str:
    """Return the key of a job's record, a hash."""
    return f"farense:job:{job_id}"


def events(job_id: str) -> str:
    """Return the key of a job's events, a capped stream."""
    return f"farense:events:{job_id}"

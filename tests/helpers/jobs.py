"""Waiting for what becomes of a job."""

from __future__ import annotations

from daemon.client import FarenseClient
from daemon.store.records import JobRecord
from jobs.state import State
from tests.helpers.waiting import TIMEOUT, wait_until


def ended(client: FarenseClient, job_id: str, within: float = TIMEOUT) -> JobRecord:
    """Return the record of a job that has ended.

    Args:
        within: seconds; a real child loads MLX, on machines that may be busy.
    """

    def over() -> JobRecord | None:
        record = client.job(job_id)
        return record if record.finished else None

    return wait_until(over, f"the end of {job_id}", within)


def running(client: FarenseClient, job_id: str) -> JobRecord:
    """Return the record of a job that is well under way."""

    def under_way() -> JobRecord | None:
        record = client.job(job_id)
        return record if record.state is State.RUNNING and record.step > 2 else None

    return wait_until(under_way, f"the start of {job_id}")

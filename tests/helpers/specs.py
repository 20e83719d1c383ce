"""Specs of jobs, written as a client writes them when it accepts a job."""

from __future__ import annotations

from jobs.paths import RunDirectory
from jobs.spec import JobSpec, spec_text


def write_spec(run: RunDirectory, spec: JobSpec) -> None:
    """Write ``job.json``, and make the run directory where it is not there yet."""
    run.path.mkdir(parents=True, exist_ok=True)
    run.job.write_bytes(spec_text(spec))

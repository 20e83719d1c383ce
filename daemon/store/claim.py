"""The right to run a job."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.state import JobState, State


@dataclass(frozen=True)
class Claim:
    """The right to run a job for one attempt.

    Attributes:
        state: what was written into ``state.json`` when it was taken: should the file be damaged
            meanwhile, that is still known.
    """

    job_id: str
    attempt: int
    priority: int
    log_offset: int
    state: JobState = field(default_factory=lambda: JobState(State.RUNNING))

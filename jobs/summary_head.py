"""How a run ended, by the few fields of its summary that others act on."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.paths import RunDirectory
from jobs.state import JobState, seconds_between
from jobs.storage.files import read_json


@dataclass(frozen=True)
class SummaryHead:
    """What ``training_summary.json`` says of an ending; None where it does not say.

    Attributes:
        pruned_by: who had the run end early.
        finished_at: when it was written, ISO 8601; perhaps by an earlier attempt.
    """

    state: str | None = None
    pruned_by: str | None = None
    finished_at: str | None = None

    def is_of_attempt(self, state: JobState) -> bool:
        """Tell whether the attempt under way has written it; where neither says when, it has."""
        began = state.attempt_started_at
        if self.finished_at is None or began is None:
            return True
        return seconds_between(began, self.finished_at) >= 0


def summary_head(run: RunDirectory) -> SummaryHead:
    """Return what the summary of a run says of its ending."""
    try:
        summary = read_json(run.summary)
    except (OSError, ValueError):
        return SummaryHead()
    if not isinstance(summary, dict):
        return SummaryHead()
    found = {name: summary.get(name) for name in ("state", "pruned_by", "finished_at")}
    return SummaryHead(**{name: v if isinstance(v, str) else None for name, v in found.items()})

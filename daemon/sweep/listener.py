"""What a trial's job says while it runs, wherever it runs: read on from where it was read to."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.joblog import LogReader
from daemon.runs.workspace_id import is_home
from daemon.store.job_store import JobStore
from daemon.store.records import JobRecord
from jobs.events import Envelope, Progress, Started, TrainMetrics, Validation, parse_event
from jobs.paths import Workspace


class Listener:
    """Follows one job.

    Attributes:
        losses: validation losses by step, the baseline of step 0 among them.
        step, total_steps: of the run.
    """

    def __init__(self, workspace: Workspace, store: JobStore, job_id: str) -> None:
        self._workspace, self._store, self._job_id = workspace, store, job_id
        self._log = LogReader(workspace.job_log(job_id))
        self._last = "0"
        self.losses: dict[int, float] = {}
        self.step = 0
        self.total_steps: int | None = None

    def listen(self, record: JobRecord) -> None:
        """Take in what is new.

        Raises:
            RedisError: the job is on another machine, and the server is away.
        """
        here = is_home(record.home, self._workspace)
        for envelope in self._from_log() if here else self._from_stream():
            self._add(envelope)

    def _from_log(self) -> Iterable[Envelope]:
        while lines := self._log.read():
            yield from lines.events

    def _from_stream(self) -> Iterable[Envelope]:
        while entries := self._store.events_after(self._job_id, self._last, None):
            self._last = entries[-1][0]
            yield from (found for _, line in entries if (found := parse_event(line)))

    def _add(self, envelope: Envelope) -> None:
        match envelope.event:
            case Started() as event:
                self.step, self.total_steps = event.resumed_step, event.total_steps
            case Progress() as event:
                self.step, self.total_steps = event.step, event.total_steps
            case TrainMetrics() as event:
                self.step = event.step
            case Validation() as event:
                self.losses[event.step] = event.val_loss

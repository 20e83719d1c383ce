"""A job whose files are in another workspace: taken over where model and data are here too.

Daemons that share a Redis share its jobs. Which of them runs one, the record's compare-and-set
decides; a daemon only makes the run directory first, as a client of its own workspace would have.
A job with a checkpoint belongs to the workspace that has it. What a daemon cannot take it leaves
for the others, with the reason on the record.
"""

from __future__ import annotations

import socket
from pathlib import Path

from daemon.runs.frozen_data import freeze, frozen_path
from daemon.runs.snapshot import snapshot_of
from daemon.runs.workspace_id import host_of
from daemon.store.job_store import JobStore
from daemon.store.records import JobRecord, Written
from jobs.errors import FarenseError, InvalidInput, JobFailed
from jobs.paths import Workspace
from jobs.spec import DataFile, JobSpec, parse_spec
from jobs.state import State
from jobs.storage.files import sha256_of

# Where data that a job names by its content may lie beside data/imported.
DATA = ("*.jsonl", "*/*.jsonl")


class Taking:
    """Tells which jobs that were enqueued, or run, in other workspaces can be run here."""

    def __init__(self, workspace: Workspace, store: JobStore) -> None:
        self.workspace, self.store = workspace, store

    def take(self, record: JobRecord) -> JobSpec | None:
        """Return the spec of a queued job that this workspace can run, with its data frozen here.

        None where the job is not queued or has to be left to others, which are told.

        Raises:
            RedisError: the server is away.
            WorkspaceError: the workspace cannot be written.
        """
        if record.state is not State.QUEUED:
            return None
        spec = parse_spec(self.store.spec(record.id), record.id)
        reason = self._why_not(record, spec)
        if spec is None or reason is not None:
            self._leave(record, reason)
            return None
        return spec

    def leave_to_adapter(self, record: JobRecord) -> bool:
        """Leave an evaluation of this workspace whose training job has run in another.

        Returns:
            Whether it was left.

        Raises:
            RedisError: the server is away.
        """
        if record.evaluates is None or not self.store.shared:
            return False
        trained = self.store.get(record.evaluates)
        if snapshot_of(self.workspace, record.evaluates, trained).own is not None:
            return False
        where = host_of(trained.home if trained else None)
        self._leave(record, f"waiting for {where}: the adapter of {record.evaluates} is there")
        return True

    def _why_not(self, record: JobRecord, spec: JobSpec | None) -> str | None:
        """Return for a person why the job cannot be run here; freezes the data where it can."""
        home = host_of(record.home)
        if record.checkpoint_step is not None:
            return f"waiting for {home}: its checkpoint is there"
        if spec is None:
            return f"waiting for {home}: its files are there"
        try:
            lacking = self._lacking(spec)
        except FarenseError as error:
            return f"waiting for {home}: {socket.gethostname()} cannot use it: {error.message}"
        if lacking is None:
            return None
        return f"waiting for a machine with {lacking}; {socket.gethostname()} lacks it"

    def _lacking(self, spec: JobSpec) -> str | None:
        from jobs.config.config import config_from  # noqa: PLC0415 - loads what only foreign jobs need
        from jobs.model_store.store import check_model, fingerprint, same_model  # noqa: PLC0415

        config = config_from(spec.config, f"job.json of {spec.id}")
        model = self.workspace.model(config.model)
        try:
            check_model(model)
            same = same_model(fingerprint(model), spec.model_fingerprint)
        except FarenseError:
            same = False
        if not same:
            there = ", and has another of this name" if model.is_dir() else ""
            return f"{config.model} as it was when the job was enqueued{there}"
        if spec.evaluation is not None:
            trained = self.workspace.run(spec.evaluation.job)
            if not trained.adapter_weights.is_file():
                return f"the adapter of {trained.job_id}"
        for file in filter(None, (spec.train, spec.valid)):
            if not self._has(file):
                return f"the data of {file.source}"
        start = spec.init_from if spec.evaluation is None else None
        if start is not None and not self.workspace.inside(start.path).is_file():
            return f"{start.path}, the adapter of {start.source} that it starts from"
        return None

    def _has(self, file: DataFile) -> bool:
        """Tell whether the content of a data file is here, under whatever name; freeze it."""
        if frozen_path(file.sha256, self.workspace).exists():
            return True
        same = (path for path in self._candidates() if sha256_of(path) == file.sha256)
        found = next(same, None)
        if found is not None:
            freeze(found, file.sha256, self.workspace)
        return found is not None

    def _candidates(self) -> list[Path]:
        found = (path for pattern in DATA for path in sorted(self.workspace.data.glob(pattern)))
        return [path for path in found if path.is_file()]

    def _leave(self, record: JobRecord, reason: str | None) -> None:
        if reason != record.reason:
            self.store.annotate(record.id, record, {"reason": reason})
        self.store.leave(record.queue, record.id)


class DeferredJobs:
    """The jobs that daemons of a queue have left for others."""

    def __init__(self, store: JobStore, queue: str) -> None:
        self._store, self._queue = store, queue
        self._not_here: set[str] = set()

    def next(self) -> str | None:
        """Take a job that was not looked at yet; None where there is none.

        Raises:
            RedisError: the server is away.
        """
        left = self._store.left(self._queue)
        self._not_here &= left
        for job_id in sorted(left - self._not_here):
            self._not_here.add(job_id)
            if self._store.take_left(self._queue, job_id):
                return job_id
        return None

    def look_again(self) -> None:
        """Look at all of them once more: a model may have come."""
        self._not_here.clear()


def release(store: JobStore, record: JobRecord) -> None:
    """Let any machine run a job that waits for the one with its checkpoint: from the beginning.

    Raises:
        InvalidInput: the job has ended, that machine runs it, or its spec is only there.
        JobFailed: it is changing at this moment.
        RedisError: the server is away.
    """
    if record.finished or record.state is State.RUNNING:
        raise InvalidInput(
            f"{record.id} {record.state.verb}: --anywhere is for a job that waits for a machine.",
            "What waits, and for which: farense queue",
        )
    if store.spec(record.id) is None:
        raise InvalidInput(
            f"{record.id} can run on {host_of(record.home)} alone: its spec is only there.",
            "Only jobs enqueued with FARENSE_REDIS_URL can go to other machines.",
        )
    freed = store.annotate(record.id, record, {"checkpoint_step": None, "reason": None})
    if freed is not Written.DONE:
        raise JobFailed(f"{record.id} is changing at this moment.", "Try again.")

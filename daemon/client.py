"""What commands and notebooks use: enqueue, look, follow, cancel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import RedisError

from daemon.broker import Broker
from daemon.file_client import FileClient, matching
from daemon.lifecycle import Lifecycle
from daemon.records import JobRecord, record_of
from daemon.settings import Settings
from jobs.errors import FarenseError, InvalidInput, QueueUnreachable, UnknownJob
from jobs.events import Envelope, parse_event
from jobs.paths import Workspace
from jobs.state import FINISHED, State, write_state

if TYPE_CHECKING:
    from jobs.config import Preset

__all__ = ["FarenseClient", "FileClient", "open_reader"]

Result = TypeVar("Result")

BLOCK_MS = 500
RECORD_SECONDS = 5.0
POLL_SECONDS = 0.02
CANCEL_TRIES = 3


class FarenseClient:
    """The queue of a workspace. Safe to use from several threads.

    Every method raises :class:`jobs.errors.QueueUnreachable` where Redis goes away.
    """

    def __init__(self, workspace: Workspace, broker: Broker) -> None:
        self.workspace = workspace
        self._broker = broker
        self._store = broker.store
        self._files = FileClient(workspace)

    @classmethod
    def connect(
        cls, workspace: Workspace | None = None, *, start_server: bool = True
    ) -> FarenseClient:
        """Connect to the queue.

        Args:
            workspace: the current one where it is left out.
            start_server: start the workspace's own server where it does not run.

        Raises:
            QueueUnreachable: the server does not answer or cannot be started.
            ConfigError: ``FARENSE_REDIS_URL`` is not the URL of a Redis server.
        """
        workspace = workspace or Workspace.current()
        broker = Broker(workspace, Settings.from_environment())
        if start_server:
            broker.ensure()
        else:
            broker.check()
        return cls(workspace, broker)

    def enqueue(self, preset: Preset, *, name: str | None = None, priority: int = 0) -> JobRecord:
        """Accept a job: check it, freeze its data, make its run directory, put it on the queue.

        Raises:
            InvalidInput: model, data or config cannot be used; nothing was left behind.
            WorkspaceError: the workspace cannot be written.
        """
        from daemon.ordering import place_order  # noqa: PLC0415 - loads what only this needs

        order, state = place_order(preset, self.workspace, name=name, priority=priority)
        record = record_of(order, state)
        try:
            self._tell(record)
        except FarenseError:
            # The job must not run one day although this call failed.
            reason = "the queue could not be reached when the job was enqueued"
            write_state(self.workspace.run(record.id), state.to(State.CANCELLED, reason=reason))
            raise
        return record

    def jobs(self, *, all: bool = False) -> list[JobRecord]:
        """Return the 20 newest jobs and all unfinished ones, newest first; or all of them."""
        return self._ask(lambda: self._all() if all else self._store.current())

    def job(self, argument: str) -> JobRecord:
        """Return the job that an id, a unique part of one, or ``latest`` names.

        Raises:
            UnknownJob: it names none, or several.
        """
        record = self._ask(lambda: self._store.get(argument))
        if record is None:
            job_id = matching(argument, self._ask(self._store.ids))
            record = self._ask(lambda: self._store.get(job_id))
        if record is None:
            raise UnknownJob(f"The record of {argument!r} cannot be read.")
        return record

    def cancel(self, job_id: str) -> JobRecord:
        """Cancel a job that waits, at once; ask the worker of one that runs. Returns the record.

        A finished job stays as it is.
        """
        lifecycle = Lifecycle(self.workspace, self._store)
        for _ in range(CANCEL_TRIES):
            record = self.job(job_id)
            if record.finished or record.cancel_requested:
                break
            # The job may move on between the look and the change: look again.
            self._ask(partial(lifecycle.cancel, record))
        return self.job(job_id)

    def follow(self, job_id: str, *, follow: bool = True) -> Iterator[Envelope]:
        """Yield the events of a job so far; with ``follow``, go on until the job has ended.

        Where the job's log is on this machine it is read: it is whole, and it is there when Redis
        is not. Otherwise the events come from the job's stream, which keeps the newest few
        thousand.
        """
        if self._is_here(job_id):
            yield from self._files.follow(job_id, follow=follow)
            if follow:
                self._await_record(job_id)
            return
        last = "0"
        while True:
            ended = not follow or self._has_ended(job_id)
            while entries := self._entries_after(job_id, last, wait=not ended):
                last = entries[-1][0]
                yield from (found for _, line in entries if (found := parse_event(line)))
            if ended:
                return

    def close(self) -> None:
        """Close the connections; the server goes on."""
        self._broker.close()

    def __enter__(self) -> FarenseClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _tell(self, record: JobRecord) -> None:
        """Store the record, then the message.

        A write may be stored although its answer was lost, and a daemon that stops takes the server
        with it: so it is tried twice. The id is ours, and a second message does no harm.
        """
        for last_try in (False, True):
            try:
                self._store.create(record)
                self._broker.queue().push(record.id, record.priority)
            except (RedisError, OSError) as error:
                if last_try:
                    raise self._broker.unreachable(error) from error
                self._broker.ensure()
            else:
                return

    def _all(self) -> list[JobRecord]:
        return self._store.get_many(self._store.ids())

    def _is_here(self, job_id: str) -> bool:
        try:
            return self.workspace.run(job_id).state.exists()
        except InvalidInput:
            return False

    def _await_record(self, job_id: str) -> None:
        """Wait a little for the record of a job that has ended: the file is written before it.

        Who followed a job to its end then finds the end in the record, too.
        """
        deadline = time.monotonic() + RECORD_SECONDS
        with suppress(QueueUnreachable):
            while not self._has_ended(job_id) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    def _has_ended(self, job_id: str) -> bool:
        record = self._ask(lambda: self._store.get(job_id))
        return record is None or record.state in FINISHED

    def _entries_after(self, job_id: str, last: str, *, wait: bool) -> list[tuple[str, bytes]]:
        block = BLOCK_MS if wait else None
        return self._ask(lambda: self._store.events_after(job_id, last, block))

    def _ask(self, operation: Callable[[], Result]) -> Result:
        try:
            return operation()
        except (RedisError, OSError) as error:
            raise self._broker.unreachable(error) from error


def open_reader(
    workspace: Workspace | None = None,
) -> tuple[FarenseClient | FileClient, str | None]:
    """Return a client that only reads, and a warning where it had to take the files.

    Never starts a server.
    """
    workspace = workspace or Workspace.current()
    try:
        return FarenseClient.connect(workspace, start_server=False), None
    except QueueUnreachable as error:
        warning = f"{error.message} Read from the run directories instead."
        return FileClient(workspace), warning

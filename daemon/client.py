"""What commands and notebooks use: enqueue, look, follow, cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import RedisError

from daemon.broker import Broker
from daemon.file_client import FileClient, matching
from daemon.lifecycle import Lifecycle
from daemon.records import JobRecord
from daemon.settings import Settings
from jobs.errors import InvalidInput, QueueUnreachable, UnknownJob
from jobs.events import Envelope
from jobs.paths import Workspace
from jobs.state import JobState, State

if TYPE_CHECKING:
    from daemon.glance import Glance
    from daemon.ordering import Request
    from daemon.prune import Plan
    from daemon.removal import Removed
    from daemon.reorder import Place
    from daemon.workers import WorkerCard
    from jobs.config import Preset

__all__ = ["FarenseClient", "FileClient", "open_reader"]

Result = TypeVar("Result")

CHANGE_TRIES = 3


class FarenseClient:
    """The queue of a workspace. Safe to use from several threads.

    Every method raises :class:`jobs.errors.QueueUnreachable` where Redis goes away.
    """

    def __init__(self, workspace: Workspace, broker: Broker) -> None:
        self.workspace = workspace
        self._broker = broker
        self._store = broker.store
        self._lifecycle = Lifecycle(workspace, broker.store)

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

    def enqueue(
        self,
        preset: Preset,
        *,
        name: str | None = None,
        priority: int = 0,
        schedule: datetime | None = None,
        after: str | None = None,
        after_any: bool = False,
    ) -> JobRecord:
        """Accept a job: check it, freeze its data, make its run directory, put it on the queue.

        Args:
            priority: higher goes first.
            schedule: not to be started before this moment, which has a zone.
            after: the id of a job that is to end well first; with ``after_any``, to end at all.

        Raises:
            InvalidInput: model, data or config cannot be used, or the job ``after`` has ended badly
                already; nothing was left behind.
            WorkspaceError: the workspace cannot be written.
        """
        from daemon.ordering import Request  # noqa: PLC0415 - loads what only this needs

        when = schedule.astimezone(UTC).isoformat() if schedule else None
        state = self._begin(
            JobState(
                State.QUEUED, priority=priority, schedule=when, after=after, after_any=after_any
            )
        )
        if state.finished:
            raise InvalidInput(f"The job would never start: {state.reason}.")
        return self.enqueue_many([Request(preset, name, state)])[0]

    def enqueue_many(self, wanted: Sequence[Preset | Request]) -> list[JobRecord]:
        """Accept jobs as :meth:`enqueue` does one, in a fraction of the time: all, or none of them.

        They stand on the queue in the order given.

        Raises:
            InvalidInput: model, data or config of one cannot be used; nothing was left behind.
            WorkspaceError: the workspace cannot be written; nothing was left behind.
        """
        from daemon.accept import accept  # noqa: PLC0415 - for the same reason
        from daemon.ordering import Request, place_orders  # noqa: PLC0415

        requests = [found if isinstance(found, Request) else Request(found) for found in wanted]
        return accept(self.workspace, self._broker, place_orders(requests, self.workspace))

    def jobs(self, *, all: bool = False) -> list[JobRecord]:
        """Return the 20 newest jobs and all unfinished ones, newest first; or all of them."""
        return self._ask(lambda: self._all() if all else self._store.current())

    def glance(self) -> Glance:
        """Return the newest jobs, those under way, and the first of very many that wait."""
        from daemon.glance import glance  # noqa: PLC0415 - only `status` needs it

        return self._ask(lambda: glance(self._store))

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

    def follow(self, job_id: str, *, follow: bool = True) -> Iterator[Envelope]:
        """Yield the events of a job so far; with ``follow``, go on until the job has ended.

        Where the job's log is on this machine it is read: it is whole, and it is there when Redis
        is not. Otherwise the events come from the job's stream, which keeps the newest few
        thousand.
        """
        from daemon.follow import follow_job  # noqa: PLC0415 - `status` needs none of it

        yield from follow_job(self.workspace, self._store, self._ask, job_id, follow=follow)

    def retry(self, job_id: str, *, from_checkpoint: bool = False) -> JobRecord:
        """Enqueue a new job that does what another, which has ended, was to do.

        Args:
            from_checkpoint: it goes on from the last checkpoint rather than from the beginning.

        Raises:
            InvalidInput: the job has not ended, its files are not here, or there is no checkpoint.
        """
        from daemon.accept import accept  # noqa: PLC0415 - loads what only this needs
        from daemon.again import place_again  # noqa: PLC0415

        placed = place_again(job_id, self.workspace, from_checkpoint=from_checkpoint)
        return accept(self.workspace, self._broker, [placed])[0]

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """Cancel a job that waits, at once; ask the worker of one that runs. Returns the record.

        A finished job stays as it is.

        Args:
            force: kill a running job rather than wait for its last checkpoint.
        """

        def done(record: JobRecord) -> bool:
            return record.cancel_requested and record.kill_requested >= force

        return self._change(job_id, done, partial(self._lifecycle.cancel, force=force))

    def pause(self, job_id: str) -> JobRecord:
        """Pause a job that waits, at once; ask the worker of one that runs. Returns the record.

        A finished or paused job stays as it is.
        """
        return self._change(
            job_id,
            lambda record: record.state is State.PAUSED or record.pause_requested,
            self._lifecycle.pause,
        )

    def resume(self, job_id: str) -> JobRecord:
        """Let a paused job go on: from its last checkpoint, at its time, after its other job.

        Raises:
            JobFailed: its files are on another machine.
        """
        record = self.job(job_id)
        if self._ask(lambda: self._lifecycle.resume(record, self._begin)):
            self._ask(lambda: self._broker.queue().push(job_id, record.priority, resumed=True))
        return self.job(job_id)

    def workers(self) -> list[WorkerCard]:
        """Return the daemons that work on this queue."""
        from daemon.workers import workers  # noqa: PLC0415 - only this needs it

        return self._ask(lambda: workers(self._broker.redis))

    def queue(self) -> list[Place]:
        """Return the jobs that wait, in the order in which they will run."""
        from daemon.reorder import Reorder, places  # noqa: PLC0415 - `status` needs none of it

        messages = self._ask(Reorder(self.workspace, self._broker).messages)
        return places(self.jobs(), messages)

    def move(self, job_id: str, priority: int | None = None) -> JobRecord:
        """Give a job that waits another priority, or one above all queued jobs; return the record.

        Raises:
            InvalidInput: the job runs or has ended.
            JobFailed: its files are on another machine.
        """
        from daemon.reorder import Reorder  # noqa: PLC0415 - for the same reason

        record = self.job(job_id)
        reorder = Reorder(self.workspace, self._broker)
        if priority is None:
            priority = self._ask(lambda: reorder.top(record))
        self._ask(partial(reorder.move, record, priority))
        return self.job(job_id)

    def prune(self, plan: Plan) -> Removed:
        """Remove what a plan of :func:`daemon.prune.plan_prune` names: files, then records.

        Where Redis goes away meanwhile, the records stay for the next prune.
        """
        from daemon.removal import carry_out  # noqa: PLC0415 - for the same reason

        return carry_out(self.workspace, plan, self._store.forget)

    def _change(
        self,
        job_id: str,
        done: Callable[[JobRecord], bool],
        change: Callable[[JobRecord], None],
    ) -> JobRecord:
        for _ in range(CHANGE_TRIES):
            record = self.job(job_id)
            if record.finished or done(record):
                break
            # The job may move on between the look and the change: look again.
            self._ask(partial(change, record))
        return self.job(job_id)

    def _begin(self, state: JobState) -> JobState:
        """Return the state of a job that is to start as soon as it may."""
        from daemon.pending import begin, state_elsewhere  # noqa: PLC0415 - for the same reason

        other = self._ask(lambda: state_elsewhere(self.workspace, self._broker, state))
        return begin(state, datetime.now(UTC), other)

    def close(self) -> None:
        """Close the connections; the server goes on."""
        self._broker.close()

    def __enter__(self) -> FarenseClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _all(self) -> list[JobRecord]:
        return self._store.get_many(self._store.ids())

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

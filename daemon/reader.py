"""Looking at jobs: in Redis, or in the files where Redis is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from redis.exceptions import RedisError

from daemon.as_shown import as_found, as_shown
from daemon.file_client import FileClient, matching
from daemon.latest import LATEST, LEFT, RAN, SPEAKS, Latest, Use, latest
from daemon.queue.broker import Broker
from daemon.runs.snapshot import snapshot_of
from daemon.settings import Settings, check_queue_name
from daemon.standstill import StandstillWatch, daemon_runs
from daemon.store.job_store import JobStore
from daemon.store.records import JobRecord
from jobs.errors import QueueUnreachable, UnknownJob
from jobs.events import Envelope, parse_event
from jobs.paths import Workspace
from jobs.state import DEFAULT_QUEUE, FINISHED

BLOCK_MS = 500
RECORD_SECONDS = 5.0
POLL_SECONDS = 0.02
Ask = Callable[[Callable[[], Any]], Any]

if TYPE_CHECKING:
    from daemon.queue.board import Board, Span
    from daemon.queue.position import QueuedJob
    from daemon.store.dead_letters import DeadLetter
    from daemon.store.overview import Overview
    from daemon.store.workers import WorkerCard
    from jobs.past_run import PastRun

Result = TypeVar("Result")


class QueueReader:
    """The queue of a workspace, to look at. Safe to use from several threads.

    Attributes:
        queue_name: which queue is shown; a client adds jobs to it.

    Every method raises :class:`jobs.errors.QueueUnreachable` where Redis goes away.
    """

    def __init__(
        self, workspace: Workspace, broker: Broker, queue_name: str = DEFAULT_QUEUE
    ) -> None:
        self.workspace = workspace
        self.queue_name = queue_name
        self._broker = broker
        self._store = broker.store

    @classmethod
    def connect(
        cls,
        workspace: Workspace | None = None,
        *,
        queue: str | None = None,
        start_server: bool = True,
    ) -> Self:
        """Connect to the queue.

        Args:
            workspace: the current one where it is left out.
            queue: the name of the queue; ``FARENSE_QUEUE`` where it is left out.
            start_server: start the workspace's own server where it does not run.

        Raises:
            QueueUnreachable: the server does not answer or cannot be started.
            ConfigError: ``FARENSE_REDIS_URL`` is not the URL of a Redis server.
        """
        workspace = workspace or Workspace.current()
        settings = Settings.from_environment()
        if queue is not None:
            settings = replace(settings, queue=check_queue_name(queue))
        broker = Broker(workspace, settings)
        if start_server:
            broker.ensure()
        else:
            broker.check()
        return cls(workspace, broker, settings.queue)

    @property
    def store(self) -> JobStore:
        """The records and events, for who follows many jobs at once."""
        return self._store

    def jobs(self, *, all: bool = False) -> list[JobRecord]:
        """Return the 20 newest jobs and all unfinished ones, newest first; or all of them."""
        found = self._ask(lambda: self._all() if all else self._store.current())
        return [self._as_shown(record) for record in found]

    def overview(self) -> Overview:
        """Return the newest jobs, those under way, and the first of very many that wait."""
        from daemon.store.overview import overview  # noqa: PLC0415 - only `status` needs it

        seen = self._ask(lambda: overview(self._store))
        records = [self._as_shown(record) for record in seen.records]
        return replace(seen, records=records)

    def latest(self, use: Use = RAN) -> Latest:
        """Return the newest training job that can be used, and the newest one.

        Raises:
            UnknownJob: there are no jobs.
        """
        return latest(self.workspace, use, (self.jobs, lambda: self.jobs(all=True)))

    def job(self, argument: str, use: Use = RAN) -> JobRecord:
        """Return the job that an id, a unique part of one, a name, or ``latest`` means.

        Args:
            use: what ``latest`` has to be good for: it is the newest training job of that kind.

        Raises:
            UnknownJob: it names none, or several.
        """
        if argument == LATEST:
            return self.latest(use).job
        record = self._ask(lambda: self._store.get(argument))
        if record is None:
            job_id = matching(argument, self._ask(self._store.ids), lambda: self.jobs(all=True))
            record = self._ask(lambda: self._store.get(job_id))
        if record is None:
            raise UnknownJob(f"The record of {argument!r} cannot be read.")
        return self._as_shown(record)

    def follow(
        self, job_id: str, *, follow: bool = True, idle: Callable[[], object] = lambda: None
    ) -> Iterator[Envelope]:
        """Yield the events of a job so far; with ``follow``, go on until the job has ended.

        Where the job's log is on this machine it is read: it is whole, and it is there when Redis
        is not. Otherwise the events come from the job's stream, which keeps the newest few
        thousand.

        Args:
            idle: called time and again while nothing happens.
        """

        yield from follow_job(
            self.workspace, self._store, self._ask, job_id, follow=follow, idle=idle
        )

    def events_after(self, job_id: str, last: str) -> list[tuple[str, bytes]]:
        """Return (position, log line) pairs of a job's stream after ``last`` ("0": all)."""
        return self._ask(lambda: self._store.events.after(job_id, last, None))

    def watch(self, argument: str, show: Callable[[str], object] = print) -> JobRecord:
        """Show what a job says, line by line, until it has ended; return its record.

        It also says why the job does not move, where that is so. It may be stopped (Ctrl-C; in a
        notebook, interrupt the kernel): the job goes on.

        Raises:
            UnknownJob: ``argument`` names no job, or several.
        """
        from jobs.console import Console  # noqa: PLC0415 - `status` needs none of it

        record = self.job(argument, SPEAKS)
        console = Console()

        def tell(envelope: Envelope) -> None:
            for line in console.lines(envelope):
                show(line)

        still = StandstillWatch(self, record.id, tell)
        for envelope in self.follow(record.id, idle=still.look):
            tell(envelope)
        return self.job(record.id)

    def run(self, argument: str) -> PastRun:
        """Return what a job has left so far: metrics, summary, evaluation, answers.

        Raises:
            UnknownJob: ``argument`` names no job, or several.
            InvalidInput: its files are not in this workspace.
        """
        from jobs.past_run import read_run  # noqa: PLC0415 - `status` needs none of it

        record = self.job(argument, LEFT)
        run = read_run(self.workspace.run(record.id).path)
        return as_found(run, record)

    def workers(self) -> list[WorkerCard]:
        """Return the daemons of this Redis; one of this workspace is alive only while it is."""
        from daemon.store.workers import is_at, workers  # noqa: PLC0415 - only this needs it

        cards = self._ask(lambda: workers(self._broker.redis))
        if daemon_runs(self.workspace):
            return cards
        return [
            replace(card, alive=False) if is_at(card, self.workspace) else card for card in cards
        ]

    def why_nothing_starts(self, queue: str) -> list[str]:
        """Return why none of the queued jobs of a queue starts; nothing where some may."""
        from daemon.store.workers import why_nothing_starts  # noqa: PLC0415

        cards = self.workers()
        return [] if self._starts_up(cards) else why_nothing_starts(cards, queue)

    def power_lines(self) -> list[str]:
        """Return what is to be known of the power and the heat of the machines, a line each."""
        from daemon.store.workers import power_lines  # noqa: PLC0415

        return power_lines(self.workers())

    def without_daemon(self, queue: str) -> list[str]:
        """Return that no daemon works on a queue; nothing where one does."""
        from daemon.store.workers import no_daemon, working  # noqa: PLC0415

        cards = self.workers()
        return [] if working(cards, queue) or self._starts_up(cards) else [no_daemon(queue)]

    def _starts_up(self, cards: Sequence[WorkerCard]) -> bool:
        """Tell whether the daemon of this workspace runs, and has not said of itself yet."""
        from daemon.store.workers import is_at  # noqa: PLC0415

        told = any(card.alive and is_at(card, self.workspace) for card in cards)
        return not told and daemon_runs(self.workspace)

    def dead_letters(self, *, clear: bool = False) -> list[DeadLetter]:
        """Return what was set aside because it could not be read; ``clear`` forgets it."""
        from daemon.store.dead_letters import dead_letters  # noqa: PLC0415 - only this needs it

        return self._ask(lambda: dead_letters(self._broker.redis, clear=clear))

    def queue(self) -> list[QueuedJob]:
        """Return the jobs of the queue that wait, in the order in which they will run."""
        from daemon.queue.position import QueueOrder, places  # noqa: PLC0415 - `status` needs none of it

        order = QueueOrder(self._broker)
        messages = self._ask(lambda: order.messages(self.queue_name))
        here = [record for record in self.jobs() if record.queue == self.queue_name]
        return places(here, messages)

    def board(self, queued: Span, past: Span) -> Board:
        """Return all jobs under way, and of those that are queued or have ended a part."""
        from daemon.queue.board import board_of  # noqa: PLC0415 - `status` needs none of it

        seen = self._ask(lambda: board_of(self._broker, self.queue_name, queued, past))
        return seen.mapped(self._as_shown)

    def close(self) -> None:
        """Close the connections; the server goes on."""
        self._broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _as_shown(self, record: JobRecord) -> JobRecord:
        from daemon.store.workers import server_seconds  # noqa: PLC0415

        return as_shown(
            record, self.workspace, lambda: self._ask(lambda: server_seconds(self._broker.redis))
        )

    def _all(self) -> list[JobRecord]:
        return self._store.get_many(self._store.ids())

    def _ask(self, operation: Callable[[], Result]) -> Result:
        try:
            return operation()
        except (RedisError, OSError) as error:
            raise self._broker.unreachable(error) from error


def open_reader(
    workspace: Workspace | None = None, *, queue: str | None = None
) -> tuple[QueueReader | FileClient, str | None]:
    """Return a client that only reads, and a warning where it had to take the files.

    Never starts a server.
    """
    workspace = workspace or Workspace.current()
    try:
        return QueueReader.connect(workspace, queue=queue, start_server=False), None
    except QueueUnreachable as error:
        warning = f"{error.message} Read from the run directories instead."
        return FileClient(workspace), warning


def follow_job(
    workspace: Workspace,
    store: JobStore,
    ask: Ask,
    job_id: str,
    *,
    follow: bool,
    idle: Callable[[], object] = lambda: None,
) -> Iterator[Envelope]:
    """Yield the events of a job so far; with ``follow``, go on until the job has ended.

    Args:
        ask: carries out a call of the store; raises QueueUnreachable where Redis is away.
        idle: called time and again while nothing happens.
    """
    if ask(lambda: _is_here(workspace, store, job_id)):
        yield from FileClient(workspace).follow(job_id, follow=follow, idle=idle)
        if follow:
            _await_record(store, ask, job_id)
        return
    last = "0"
    while True:
        ended = not follow or _has_ended(store, ask, job_id)
        block = None if ended else BLOCK_MS
        while entries := ask(partial(store.events.after, job_id, last, block)):
            last = entries[-1][0]
            yield from (found for _, line in entries if (found := parse_event(line)))
        if ended:
            return
        idle()


def _is_here(workspace: Workspace, store: JobStore, job_id: str) -> bool:
    """Tell whether the log of a job is in this workspace, and goes on here."""
    return snapshot_of(workspace, job_id, store.get(job_id)).own is not None


def _await_record(store: JobStore, ask: Ask, job_id: str) -> None:
    """Wait a little for the record of a job that has ended: the file is written before it.

    Who followed a job to its end then finds the end in the record, too.
    """
    deadline = time.monotonic() + RECORD_SECONDS
    with suppress(QueueUnreachable):
        while not _has_ended(store, ask, job_id) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _has_ended(store: JobStore, ask: Ask, job_id: str) -> bool:
    record = ask(lambda: store.get(job_id))
    return record is None or record.state in FINISHED

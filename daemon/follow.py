"""The events of a job, one after another, until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from daemon.file_client import FileClient
from daemon.runs.files import own_state
from daemon.store.job_store import JobStore
from jobs.errors import InvalidInput, QueueUnreachable
from jobs.events import Envelope, parse_event
from jobs.paths import Workspace
from jobs.state import FINISHED

BLOCK_MS = 500
RECORD_SECONDS = 5.0
POLL_SECONDS = 0.02

Ask = Callable[[Callable[[], Any]], Any]


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
        while entries := ask(partial(store.events_after, job_id, last, block)):
            last = entries[-1][0]
            yield from (found for _, line in entries if (found := parse_event(line)))
        if ended:
            return
        idle()


def _is_here(workspace: Workspace, store: JobStore, job_id: str) -> bool:
    """Tell whether the log of a job is in this workspace, and goes on here."""
    try:
        return own_state(workspace, job_id, store.get(job_id)) is not None
    except InvalidInput:
        return False


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

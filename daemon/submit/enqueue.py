"""Telling the queue of jobs whose files are complete, so that each is accepted or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from redis.exceptions import RedisError

from daemon.lifecycle.transitions import Lifecycle
from daemon.queue.broker import Broker
from daemon.runs.workspace_id import make_home
from daemon.store.records import JobRecord, record_of
from jobs.errors import FarenseError
from jobs.spec import JobSpec, spec_text
from jobs.state import JobState

UNTOLD = "the queue could not be reached when the job was enqueued"


def accept(lifecycle: Lifecycle, placed: Sequence[tuple[JobSpec, JobState]]) -> list[JobRecord]:
    """Put jobs whose run directories are complete on the queue; return their records.

    Raises:
        QueueUnreachable: the server is away; the jobs are cancelled.
    """
    broker, home = lifecycle.broker, make_home(lifecycle.workspace)
    records = [replace(record_of(spec, state), home=home) for spec, state in placed]
    try:
        _tell(broker, records, _specs(broker, placed))
    except FarenseError:
        for record in records:
            lifecycle.withdraw(record.id, UNTOLD)
        raise
    return records


def _specs(broker: Broker, placed: Sequence[tuple[JobSpec, JobState]]) -> dict[str, bytes]:
    """Return the specs by their jobs, where other machines may want to take them."""
    return {o.id: spec_text(o) for o, _ in placed} if broker.store.shared else {}


def _tell(broker: Broker, records: Sequence[JobRecord], specs: Mapping[str, bytes]) -> None:
    """Store the specs and records, then the messages.

    A write may be stored although its answer was lost, and a daemon that stops takes the server
    with it: so it is tried twice. The ids are ours, and a second message does no harm.
    """
    # A daemon looks after those whose time has not come: it is told of them all the same.
    due: dict[str, list[tuple[str, int]]] = {}
    for record in records:
        if not record.finished:
            due.setdefault(record.queue, []).append((record.id, record.priority))
    # Before the records: what this loads, the first time, would keep them from the daemon so long.
    queues = {name: broker.queue(name) for name in due}
    for last_try in (False, True):
        try:
            broker.store.put_specs(specs)
            broker.store.create_many(records)
            for name, jobs in due.items():
                queues[name].push_many(jobs)
        except (RedisError, OSError) as error:
            if last_try:
                raise broker.unreachable(error) from error
            broker.ensure()
        else:
            return

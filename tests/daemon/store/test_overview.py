"""The jobs at a glance, where very many wait."""

from __future__ import annotations

from daemon.client import FarenseClient
from daemon.store import keys
from daemon.store.overview import overview, overview_of
from daemon.store.records import JobRecord
from jobs.state import State

NEWEST = 20


def record(number: int, state: State) -> JobRecord:
    """Return a record; higher numbers are newer."""
    job_id, created = f"20261122-{number:06d}-v2-abcd", f"2026-11-22T22:{number:02}:00+00:00"
    return JobRecord(job_id, "v2", state, f"checkpoints_qlora/{job_id}", created_at=created)


def test_what_runs_is_shown_however_many_wait(client: FarenseClient) -> None:
    """Fifty jobs: one under way, one paused, ten that have ended, and 38 that wait."""
    states = {2: State.RUNNING, 5: State.PAUSED, 7: State.SCHEDULED, 8: State.WAITING}
    states |= dict.fromkeys(range(10, 20), State.COMPLETED)
    records = [record(number, states.get(number, State.QUEUED)) for number in range(50)]
    client._store.create_many(records)
    seen = overview(client._store, most_waiting=4)
    # Of those that wait 0, 1, 3 and 4 come first.
    expected = [*range(49, 29, -1), 5, 4, 3, 2, 1, 0]
    assert [record.id for record in seen.records] == [records[number].id for number in expected]
    assert seen.more_waiting == 38 - NEWEST - 4
    assert overview_of(client.jobs(), most_waiting=4) == seen
    assert overview(client._store).more_waiting == 0
    assert overview(client._store).records == client.jobs()


def test_a_record_that_cannot_be_read_hides_no_other(client: FarenseClient) -> None:
    good = record(1, State.QUEUED)
    client._store.create_many([good])
    client._store.redis.sadd(keys.UNFINISHED, "garbage", "20261122-000002-v2-abcd")
    client._store.redis.set(keys.job("garbage"), "no hash")
    assert client.overview().records == [good]

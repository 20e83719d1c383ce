"""Records in Redis: the compare-and-set against the transition table, events, the index."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import pytest

from daemon.joblog import LogLines
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.settings import Settings
from daemon.store import keys
from daemon.store.job_store import JobStore
from daemon.store.records import JobRecord, Written, from_hash, run_dir_of, to_hash
from jobs.errors import JobFailed
from jobs.paths import Workspace
from jobs.state import FINISHED, TRANSITIONS, JobState, State

JOB = "20261122-210000-v2-abcd"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    workspace = Workspace(tmp_path_factory.mktemp("store"))
    broker = Broker(workspace, Settings())
    broker.ensure()
    yield broker
    broker.close()
    EmbeddedServer(workspace).shut_down()


@pytest.fixture
def store(broker: Broker) -> JobStore:
    broker.redis.flushall()
    return broker.store


def record(state: State = State.QUEUED, **values: object) -> JobRecord:
    blank = JobRecord(JOB, "v2", state, f"checkpoints_qlora/{JOB}", created_at="2026-11-22T21:00Z")
    return replace(blank, **values)  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize(("old", "new"), list(product(State, State)))
def test_the_table_and_the_script_allow_the_same(store: JobStore, old: State, new: State) -> None:
    store.create_many([record(old, attempt=1)])
    before, after = JobState(old, 1), JobState(new, 2, reason="why")
    if new not in TRANSITIONS[old]:
        with pytest.raises(JobFailed, match=f"is {old} cannot become {new}"):
            store.transition(JOB, before, after)
        assert store.get(JOB) == record(old, attempt=1)
        return
    # Of another state or attempt than the one decided for: refused, and nothing is changed.
    for other in State:
        if other is not old and new in TRANSITIONS[other]:
            assert store.transition(JOB, JobState(other, 1), after) is Written.REFUSED
    assert store.transition(JOB, JobState(old, 2), after) is Written.REFUSED
    assert store.get(JOB) == record(old, attempt=1)
    assert store.transition(JOB, before, after) is Written.DONE
    found = store.get(JOB)
    assert found is not None
    assert (found.state, found.attempt, found.reason) == (new, 2, "why")
    assert store.unfinished() == (set() if new in FINISHED else {JOB})
    assert store.transition(JOB, before, after) is Written.REFUSED


def test_a_job_that_is_not_there_is_not_changed(store: JobStore) -> None:
    moved = store.transition(JOB, JobState(State.QUEUED), JobState(State.RUNNING, 1))
    assert moved is Written.MISSING
    assert store.update(JOB, 1, {"pid": 1}) is Written.MISSING
    assert store.renew_lease(JOB, 1, 30) is Written.MISSING
    assert store.events.append(JOB, 1, LogLines([b"{}"], 0, 3), {}) is Written.MISSING
    assert store.redis.keys("*") == []


def test_a_record_is_created_once(store: JobStore) -> None:
    assert store.create_many([record(name="first")])
    assert not store.create_many([record(name="second")])
    assert store.get(JOB) == record(name="first")


def test_a_record_that_is_stored_again_after_its_end_is_not_unfinished(store: JobStore) -> None:
    store.create_many([record(State.RUNNING, attempt=1)])
    store.redis.set(keys.job(JOB), "owned")
    store.restore(record(State.COMPLETED, attempt=1))
    assert store.unfinished() == set()
    assert store.ids() == [JOB]


def test_a_record_comes_back_as_it_was() -> None:
    full = record(
        State.RUNNING, name="à noite", loss=math.inf, val_loss=2.5, cancel_requested=True, step=7,
        failure="killed", history=[{"attempt": 1, "class": "killed", "how": None}],
    )  # fmt: skip
    stored = {name.encode(): value for name, value in to_hash(full.as_dict()).items() if value}
    assert from_hash(stored) == full
    lost = from_hash({**stored, b"loss": b'"NaN"'})
    assert lost is not None
    assert lost.loss is not None
    assert math.isnan(lost.loss)
    assert lost.as_dict()["loss"] == "NaN"
    # What a newer farense wrote beside it does no harm; what is damaged is no record.
    assert from_hash({**stored, b"new_field": b"1"}) == full
    assert from_hash({**stored, b"state": b'"exploded"'}) is None
    assert from_hash({**stored, b"history": b'["killed"]'}) is None
    assert from_hash({}) is None


@pytest.mark.parametrize(
    "name", ["..", "../../etc", "/etc/passwd", f"{JOB}/..", f"{JOB}\n", f"../{JOB}", "x" * 300, "é"]
)
def test_a_record_that_leads_elsewhere_is_none(name: str) -> None:
    def read(**values: str) -> JobRecord | None:
        found = to_hash({**record().as_dict(), **values})
        return from_hash({key.encode(): value for key, value in found.items() if value})

    assert read() is not None
    assert read(id=name, run_dir=run_dir_of(name)) is None
    assert read(run_dir=run_dir_of(name)) is None
    assert read(run_dir=name) is None


def test_the_newest_and_all_unfinished_are_shown(store: JobStore) -> None:
    for number in range(30):
        state = State.QUEUED if number == 3 else State.COMPLETED
        created = f"2026-11-22T21:00:{number:02}+00:00"
        job = f"20261122-2100{number:02}-v2-abcd"
        store.create_many([record(state, id=job, run_dir=run_dir_of(job), created_at=created)])
    shown = store.current(newest=5)
    assert [found.id[13:15] for found in shown] == ["29", "28", "27", "26", "25", "03"]
    assert len(store.get_many(store.ids())) == 30


def test_events_arrive_once_and_in_order(store: JobStore) -> None:
    store.create_many([record(State.RUNNING, attempt=1)])
    first, second = LogLines([b"a", b"b"], 0, 4), LogLines([b"c"], 4, 6)
    assert store.events.append(JOB, 1, first, {"step": 1}) is Written.DONE
    # The answer was lost, so it is sent again; or somebody skipped a part.
    assert store.events.append(JOB, 1, first, {"step": 1}) is Written.MOVED
    assert store.events.append(JOB, 1, LogLines([b"d"], 6, 8), {}) is Written.MOVED
    assert store.events.append(JOB, 2, second, {}) is Written.REFUSED
    assert store.events.append(JOB, 1, second, {"step": 2, "loss": None}) is Written.DONE
    assert [line for _, line in store.events.after(JOB, "0", None)] == [b"a", b"b", b"c"]
    assert store.events.log_offset(JOB) == 6
    found = store.get(JOB)
    assert found is not None
    assert found.step == 2


def test_the_stream_is_capped_and_goes_after_a_while(store: JobStore) -> None:
    store.create_many([record(State.RUNNING, attempt=1)])
    for batch in range(60):
        lines = LogLines([b"x"] * 100, batch, batch + 1)
        assert store.events.append(JOB, 1, lines, {}) is Written.DONE
    assert 5_000 <= int(store.redis.xlen(keys.events(JOB))) < 5_200
    store.events.expire(JOB)
    assert store.redis.ttl(keys.events(JOB)) > 0


def test_a_lease_belongs_to_the_running_attempt(store: JobStore) -> None:
    store.create_many([record(State.RUNNING, attempt=2)])
    assert store.renew_lease(JOB, 1, 30) is Written.REFUSED
    assert store.renew_lease(JOB, 2, 30) is Written.DONE
    now = store.redis.time()
    until = store.redis.hget(keys.job(JOB), "lease_until")
    assert isinstance(until, bytes)
    assert 25 < float(until) - now[0] <= 31


def test_a_name_of_another_workspace_is_not_ours(workspace: Workspace, store: JobStore) -> None:
    assert store.get("nothing") is None
    assert store.get_many(["nothing", JOB]) == []


def test_a_record_that_is_made_again_is_never_missing(store: JobStore) -> None:
    store.create_many([record()])

    def restore() -> None:
        for _ in range(300):
            store.restore(record())

    with ThreadPoolExecutor(1) as other:
        restoring = other.submit(restore)
        seen = []
        while not restoring.done():
            seen.append(store.get(JOB))
        restoring.result()
    assert seen
    assert None not in seen

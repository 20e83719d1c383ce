"""Several machines on one Redis: each a workspace of its own, with a real daemon and children."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from daemon.client import FarenseClient
from daemon.lifecycle.claims import Claims
from daemon.lifecycle.transitions import Lifecycle
from daemon.prune.plan import Selection, plan_prune
from daemon.queue.embedded_server import EmbeddedServer
from daemon.recovery.recovery import Recovery
from daemon.runs.snapshot import snapshot_of
from daemon.runs.workspace_id import home_of
from daemon.settings import Settings
from daemon.standstill import standstill
from daemon.store.records import JobRecord
from jobs.config.config import Preset
from jobs.errors import InvalidInput
from jobs.events import Envelope
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import State
from jobs.storage.files import write_json
from jobs.storage.locks import is_held
from tests.daemon.conftest import fill
from tests.helpers.jobs import ended, running
from tests.helpers.made_up_adapter import write_arrays
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

LEASE = 2.0


class Machine:
    """A workspace with model and data, its client, and its daemons."""

    def __init__(self, root: Path, tiny_model: Path, url: str) -> None:
        self.workspace = Workspace(root)
        self.preset: Preset = fill(self.workspace, tiny_model)
        self.client = FarenseClient.connect(self.workspace)
        self.daemons = Daemons(self.workspace)
        self.settings: dict[str, Any] = {
            "redis_url": url,
            "lease_seconds": LEASE,
            "reconcile_seconds": 0.3,
        }

    def start(self, behaviour: str = "good", **settings: Any) -> Any:
        return self.daemons.start(behaviour, **{**self.settings, **settings})

    def is_alive(self, job_id: str) -> bool:
        return is_held(self.workspace.run(job_id).lock)

    def close(self) -> None:
        self.daemons.close()
        self.client.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A Redis that belongs to none of the machines."""
    server = EmbeddedServer(Workspace(tmp_path / "redis"))
    server.ensure()
    yield server
    server.shut_down()


@pytest.fixture
def machines(
    tmp_path: Path, tiny_model: Path, redis: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Machine, Machine]]:
    url = f"unix://{redis.socket}"
    monkeypatch.setenv("FARENSE_REDIS_URL", url)
    north, south = (Machine(tmp_path / name, tiny_model, url) for name in ("north", "south"))
    yield north, south
    for machine in (north, south):
        machine.close()


def because(client: FarenseClient, job_id: str, words: str) -> JobRecord:
    """Return the record of a queued job once its reason holds some words."""

    def said() -> JobRecord | None:
        record = client.job(job_id)
        is_so = record.state is State.QUEUED and words in (record.reason or "")
        return record if is_so else None

    return wait_until(said, f"{job_id} being queued, {words!r}")


def await_copy(machine: Machine, record: JobRecord) -> None:
    """Wait until a machine has on disk how a job ended that another has run."""

    def copied() -> bool:
        state = snapshot_of(machine.workspace, record.id).state
        return state is not None and (state.state, state.home) == (record.state, record.home)

    wait_until(copied, "the end of the job, where it was enqueued")


def starts(machine: Machine, job_id: str) -> list[Envelope]:
    events = machine.client.follow(job_id, follow=False)
    return [envelope for envelope in events if envelope.event.kind == "started"]


def test_a_job_runs_where_a_daemon_is_and_its_client_sees_it(
    machines: tuple[Machine, Machine],
) -> None:
    north, south = machines
    job_id = north.client.enqueue(north.preset).id
    south.start()
    record = ended(north.client, job_id)
    assert (record.state, record.attempt) == (State.COMPLETED, 1)
    assert record.home == home_of(south.workspace)
    # The events come from the machine that ran it, whoever asks.
    assert [e.event for e in north.client.follow(job_id)] == [
        e.event for e in south.client.follow(job_id)
    ]
    assert not north.workspace.job_log(job_id).exists()
    # A daemon that starts where the job was enqueued finds it done, and keeps that on disk.
    north.start()
    await_copy(north, record)
    # Pruned there, it still is where it ran.
    plan = plan_prune(north.workspace, Selection())
    assert north.client.prune(plan).jobs == [job_id]
    assert north.client.job(job_id) == record
    again = north.client.enqueue(north.preset).id
    assert ended(north.client, again).state is State.COMPLETED
    assert north.client.job(job_id).attempt == 1


def test_an_evaluation_goes_where_the_adapter_is(machines: tuple[Machine, Machine]) -> None:
    north, south = machines
    training = north.client.enqueue(north.preset).id
    evaluation = north.client.evaluate(training).id
    south.start()
    assert ended(north.client, training).home == home_of(south.workspace)
    # This child leaves no adapter: nobody can evaluate yet, and least of all who enqueued it.
    north.start()
    because(north.client, evaluation, f"the adapter of {training} is there")
    write_json(south.workspace.run(training).adapter_weights, {})
    record = ended(north.client, evaluation)
    assert (record.state, record.attempt) == (State.COMPLETED, 1)
    assert record.home == home_of(south.workspace)


def test_an_adapter_to_start_from_is_waited_for(machines: tuple[Machine, Machine]) -> None:
    north, south = machines
    folder = north.workspace.root / "theirs"
    shapes = {"lora_a": (64, 4), "lora_b": (4, 64)}
    layers = [f"model.layers.{block}.self_attn.q_proj" for block in (2, 3)]
    arrays = {f"{name}.{part}": shapes[part] for name in layers for part in shapes}
    write_arrays(folder / "adapters.safetensors", arrays)
    write_json(folder / "adapter_config.json", {"lora_parameters": {"scale": 16.0}})
    config = north.preset.config.model_copy(update={"init_from": "theirs"})
    south.start()
    job_id = north.client.enqueue(north.preset.model_copy(update={"config": config})).id
    start = read_spec(north.workspace.run(job_id)).init_from
    assert start is not None
    record = because(north.client, job_id, "waiting for a machine with")
    assert f"{start.path}, the adapter of theirs that it starts from" in (record.reason or "")
    # Data lie under another name, this has no other: whoever wants it run there copies it.
    north.start()
    assert ended(north.client, job_id).home == home_of(north.workspace)


@pytest.mark.parametrize("lacking", ["model", "another model", "data"])
def test_a_machine_that_lacks_something_leaves_the_job_to_another(
    machines: tuple[Machine, Machine], lacking: str
) -> None:
    north, south = machines
    match lacking:
        case "model":
            shutil.rmtree(south.workspace.models)
        case "another model":
            config = south.workspace.models / "tiny" / "config.json"
            config.write_text(config.read_text() + " ")
        case "data":
            (south.workspace.data / "valid.jsonl").write_text("")
    south.start()
    job_id = north.client.enqueue(north.preset).id
    words = "valid.jsonl" if lacking == "data" else "models/tiny"
    record = because(north.client, job_id, "waiting for a machine with")
    assert words in (record.reason or "")
    # It holds up none of those that come after it.
    own = south.client.enqueue(south.preset).id if lacking == "another model" else None
    if own is not None:
        assert ended(south.client, own).home == home_of(south.workspace)
    north.start()
    record = ended(north.client, job_id)
    assert (record.state, record.home) == (State.COMPLETED, home_of(north.workspace))


def test_data_is_known_by_its_content_whatever_it_is_called(
    machines: tuple[Machine, Machine],
) -> None:
    north, south = machines
    (south.workspace.data / "train.jsonl").rename(south.workspace.data / "treino.jsonl")
    south.start()
    job_id = north.client.enqueue(north.preset).id
    assert ended(north.client, job_id).state is State.COMPLETED


def test_a_job_whose_machine_is_lost_before_a_checkpoint_starts_anew_elsewhere(
    machines: tuple[Machine, Machine],
) -> None:
    north, south = machines
    job_id = north.client.enqueue(north.preset).id
    daemon = north.start("hanging")
    wait_until(lambda: starts(north, job_id), "the first attempt")
    pid = north.client.job(job_id).pid
    daemon.kill()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    south.start()
    record = ended(south.client, job_id)
    assert (record.state, record.attempt, record.lost_attempts) == (State.COMPLETED, 2, 1)
    assert "has not been heard of" in str(record.history[0]["reason"])
    assert record.home == home_of(south.workspace)


def test_of_another_machine_the_lease_tells_whether_its_job_runs(
    machines: tuple[Machine, Machine],
) -> None:
    north, south = machines
    job_id = north.client.enqueue(north.preset).id
    daemon = north.start("endless")
    running(south.client, job_id)
    record = south.client.job(job_id)
    assert (record.interrupted, record.home) == (False, home_of(north.workspace))
    assert standstill(record) is None
    daemon.kill()
    wait_until(lambda: south.client.job(job_id).interrupted, "the end of the lease")
    record = south.client.job(job_id)
    assert (record.state, record.pid, record.eta_seconds) == (State.RUNNING, None, None)
    assert "has not been heard of; `farense daemon` there goes on" in (standstill(record) or "")
    listed = {found.id: found.interrupted for found in south.client.jobs()}
    assert listed[job_id] is True
    # On the machine itself no lease is asked, but the locks.
    wait_until(lambda: not north.is_alive(job_id), "the end of the child")
    assert "`farense daemon` " in (standstill(north.client.job(job_id)) or "")
    north.start("good")
    record = ended(south.client, job_id)
    assert (record.state, record.interrupted) == (State.COMPLETED, False)


def test_a_job_with_a_checkpoint_waits_for_its_machine(machines: tuple[Machine, Machine]) -> None:
    north, south = machines
    job_id = north.client.enqueue(north.preset).id
    daemon = north.start("endless")
    wait_until(lambda: (north.client.job(job_id).checkpoint_step or 0) > 5, "a checkpoint")
    daemon.kill()
    south.start()
    record = because(south.client, job_id, "waiting for")
    assert "its checkpoint is there" in (record.reason or "")
    # Whoever comes back goes on from there.
    wait_until(lambda: not north.is_alive(job_id), "the end of the child")
    north.start("good")
    record = ended(south.client, job_id)
    assert (record.state, record.home) == (State.COMPLETED, home_of(north.workspace))
    assert getattr(starts(north, job_id)[-1].event, "resumed_step", 0) > 5


def test_retry_anywhere_lets_another_machine_begin_anew(
    machines: tuple[Machine, Machine],
) -> None:
    north, south = machines
    job_id = north.client.enqueue(north.preset).id
    daemon = north.start("endless")
    wait_until(lambda: (north.client.job(job_id).checkpoint_step or 0) > 5, "a checkpoint")
    with pytest.raises(InvalidInput, match="is running"):
        south.client.release(job_id)
    daemon.kill()
    south.start("good")
    because(south.client, job_id, "its checkpoint is there")
    south.client.release(job_id)
    record = ended(south.client, job_id)
    assert (record.state, record.home) == (State.COMPLETED, home_of(south.workspace))
    attempts = record.attempt
    # The machine that had it comes back, and leaves it as it is.
    north.start("good")
    other = north.client.enqueue(north.preset).id
    ended(north.client, other)
    record = north.client.job(job_id)
    assert (record.state, record.attempt) == (State.COMPLETED, attempts)


def test_a_child_whose_daemon_stands_still_stops_before_another_may_take_the_job(
    machines: tuple[Machine, Machine],
) -> None:
    north, south = machines
    job_id = north.client.enqueue(north.preset).id
    daemon = north.start("endless")
    wait_until(lambda: (north.client.job(job_id).checkpoint_step or 0) > 5, "a checkpoint")
    daemon.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: not north.is_alive(job_id), "the end of the child")
        south.start("good")
        because(south.client, job_id, "waiting for")
    finally:
        daemon.send_signal(signal.SIGCONT)
    wait_until(lambda: len(starts(north, job_id)) > 1, "its own machine going on")
    north.client.cancel(job_id)
    assert ended(south.client, job_id).state is State.CANCELLED


def test_a_daemon_that_wakes_up_finds_its_job_taken_over(machines: tuple[Machine, Machine]) -> None:
    north, south = machines
    job_id = north.client.enqueue(north.preset).id
    daemon = north.start("hanging")
    wait_until(lambda: starts(north, job_id), "the first attempt")
    daemon.send_signal(signal.SIGSTOP)
    try:
        south.start("good")
        record = ended(south.client, job_id)
    finally:
        daemon.send_signal(signal.SIGCONT)
    assert (record.state, record.attempt) == (State.COMPLETED, 2)
    north.client.enqueue(north.preset)
    await_copy(north, record)
    assert north.client.job(job_id) == record


def test_while_the_shared_redis_is_away_a_job_pauses_and_goes_on_afterwards(
    machines: tuple[Machine, Machine], redis: EmbeddedServer
) -> None:
    north, _ = machines
    job_id = north.client.enqueue(north.preset).id
    north.start("endless")
    running(north.client, job_id)
    redis.shut_down()
    wait_until(lambda: not north.is_alive(job_id), "the end of the child")

    def state() -> Any:
        found = snapshot_of(north.workspace, job_id).state
        return found if found is not None and found.state is State.QUEUED else None

    paused = wait_until(state, "the job being queued again")
    assert paused.lost_attempts == 0
    assert "queue could not be reached" in (paused.reason or "")
    redis.ensure()
    wait_until(lambda: len(starts(north, job_id)) == 2, "the second attempt")
    north.client.cancel(job_id)
    assert ended(north.client, job_id).state is State.CANCELLED


def test_after_a_wipe_the_machines_share_what_is_queued_again(
    machines: tuple[Machine, Machine], redis: EmbeddedServer
) -> None:
    north, south = machines
    ids = {north.client.enqueue(north.preset).id for _ in range(2)}
    with redis.client() as server:
        server.flushall()
    north.start("endless")

    def under_way() -> str | None:
        found = north.client.jobs()
        return next((record.id for record in found if record.state is State.RUNNING), None)

    first = wait_until(under_way, "one of the jobs, again")
    (second,) = ids - {first}
    south.start("good")
    record = ended(south.client, second)
    assert (record.state, record.home) == (State.COMPLETED, home_of(south.workspace))
    south.client.cancel(first)
    assert ended(south.client, first).state is State.CANCELLED


def test_queues_of_other_names_are_left_alone(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south = machines
    north.start()
    with FarenseClient.connect(north.workspace, queue="big-macs") as client:
        big = client.enqueue(north.preset)
        assert [place.record.id for place in client.queue()] == [big.id]
    assert north.client.queue() == []
    small = north.client.enqueue(north.preset)
    ended(north.client, small.id)
    assert north.client.job(big.id).state is State.QUEUED
    south.start(queue="big-macs")
    assert ended(north.client, big.id).home == home_of(south.workspace)
    assert {card.queue for card in north.client.workers()} == {"default", "big-macs"}


def test_a_takeover_that_failed_halfway_leaves_the_job_to_the_machine_that_has_it(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south = machines
    job_id = north.client.enqueue(north.preset).id
    lost, found = (Claims(Lifecycle(m.workspace, m.client._broker)) for m in (south, north))

    def away(*_: object, **__: object) -> None:
        raise RedisError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(lost.store, "transition", away)
        with pytest.raises(RedisError):
            lost.claim(job_id, "south:1")
    assert found.claim(job_id, "north:1") is not None
    Recovery(lost.lifecycle, Settings()).run()
    assert lost.claim(job_id, "south:1") is None
    record = north.client.store.get(job_id)
    assert record is not None
    assert (record.state, record.attempt, record.worker) == (State.RUNNING, 1, "north:1")
    state = snapshot_of(south.workspace, job_id).state
    assert state is not None
    assert (state.state, state.attempt) == (State.RUNNING, 1)
    assert state.home == home_of(north.workspace)

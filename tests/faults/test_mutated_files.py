"""`job.json` and `state.json`, damaged at random: refused clearly, or harmless to a daemon."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson

from cli.show.render import job_details, status_table
from daemon.lifecycle.decisions import begin, decide
from daemon.lifecycle.transitions import Lifecycle
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.recovery.recovery import Recovery
from daemon.runs.files import record_from_files, record_shown
from daemon.runs.snapshot import JobSnapshot
from daemon.settings import Settings
from daemon.store.records import to_hash
from jobs.config.config import config_from
from jobs.errors import JobFailed
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import PENDING, JobState, State, read_state, state_values, write_state
from jobs.storage.files import read_json
from tests.helpers.mutations import Mutator
from tests.helpers.runs import make_run
from tests.helpers.trials import EACH, harmless, tried

JOB = "20261122-210000-tiny-abcd"
STATE = JobState(
    State.WAITING, attempt=2, lost_attempts=1, schedule="2026-11-25T23:00:00+00:00", after=JOB,
    reason="why", failure="crashed", boot="1", splits=1, updated_at="2026-11-22T21:00:00+00:00",
    history=[{"attempt": 1, "class": "crashed", "reason": "x"}],
)  # fmt: skip


def test_files(workspace: Workspace, tiny_model: Path) -> None:
    run = make_run(workspace, tiny_model, JOB)
    spec, state = read_json(run.job), state_values(STATE)

    def attempt(mutator: Mutator) -> bool:
        damaged = mutator.random.choice((run.job, run.state))
        run.job.write_bytes(orjson.dumps(spec))
        run.state.write_bytes(orjson.dumps(state))
        damaged.write_bytes(mutator.json_or_bytes(spec if damaged == run.job else state))
        shown = record_shown(workspace, JOB)
        assert shown is not None
        assert all(map(harmless, [*status_table([shown], 100), *job_details(shown)]))
        record = record_from_files(workspace, JOB)
        if record is None:
            read_state(run)
            raise AssertionError("the state can be read, and makes no record")
        assert all(map(harmless, [*status_table([record], 100), *job_details(record)]))
        to_hash(record.as_dict())
        config_from(read_spec(run).config, "job.json")
        found = read_state(run)
        for other in (State.COMPLETED, None) if found.state in PENDING else ():
            begin(found, datetime.now(UTC), other)
        try:
            decision = decide(JobSnapshot(JOB, found, record), 3)
        except JobFailed:  # a change that the table of transitions does not have
            return False
        if decision.state is not None:
            write_state(run, decision.state)
            assert read_state(run) == decision.state
        return True

    tried("files", attempt)


def test_recovery_of_files(workspace: Workspace, tiny_model: Path) -> None:
    """Whatever became of the files, the job is one that can be read, in Redis and on disk."""
    run = make_run(workspace, tiny_model, JOB)
    spec = read_json(run.job)
    server, broker = EmbeddedServer(workspace), Broker(workspace, Settings())
    server.ensure()
    recovery = Recovery(Lifecycle(workspace, broker), Settings())

    def attempt(mutator: Mutator) -> bool:
        state = replace(STATE, state=mutator.random.choice(list(State)), after=None)
        damaged = mutator.random.choice((run.job, run.state))
        run.job.write_bytes(orjson.dumps(spec))
        write_state(run, state)
        broker.redis.flushall()
        whole = record_from_files(workspace, JOB)
        assert whole is not None
        if known := mutator.random.random() < 0.5:
            broker.store.restore(whole)
        before = orjson.dumps(spec if damaged == run.job else state_values(state))
        damaged.write_bytes(mutator.json_or_bytes(orjson.loads(before)))
        readable = record_from_files(workspace, JOB) is not None
        recovery.run()
        found, record = read_state(run), broker.store.get(JOB)
        assert record is not None
        # A job that has ended here and there is not compared any more: there are thousands of them.
        assert record.follows(found) or (record.finished and found.finished)
        if known and damaged == run.state and not readable and state.state is not State.RUNNING:
            assert found.state is state.state
        recovery.run()
        assert read_state(run) == found
        for path in run.path.glob("state.json.damaged*"):
            path.unlink()
        return readable

    try:
        tried("recovery_of_files", attempt, EACH // 2)
    finally:
        broker.close()
        server.shut_down()

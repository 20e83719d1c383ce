"""Removing jobs that have ended: which of them go, and what stays whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta

import pytest

from daemon.client import FarenseClient
from daemon.prune.plan import Plan, Selection, plan_prune
from daemon.prune.removal import carry_out
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.runs.files import job_ids
from daemon.runs.workspace_locks import freezing
from daemon.settings import Settings
from daemon.store.records import JobRecord
from jobs.errors import WorkspaceError
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import FINISHED, State
from jobs.storage.files import write_json
from jobs.storage.locks import hold
from jobs.sweep.folder import SweepState, write_sweep_state, write_trial
from jobs.sweep.paths import SweepFolder, sweeps_of
from jobs.sweep.trial import Trial
from tests.helpers.ended import NOW, job_id, left, point_latest, put_adapter, put_job, record_of

ALL = Selection(keep=0)
NONE = Selection(keep=1_000)


@pytest.fixture
def broker(workspace: Workspace, server: EmbeddedServer) -> Iterator[Broker]:
    broker = Broker(workspace, Settings())
    yield broker
    broker.close()


def chosen(workspace: Workspace, selection: Selection, *records: JobRecord) -> set[int]:
    """Return the numbers of the jobs that would go."""
    plan = plan_prune(workspace, selection, records, NOW)
    return {int(job.id[9:15]) for job in plan.jobs}


def remove(workspace: Workspace, selection: Selection = ALL) -> Plan:
    plan = plan_prune(workspace, selection)
    carry_out(workspace, plan, lambda job_id: None)
    return plan


def test_age_number_and_state_select_and_combine(workspace: Workspace) -> None:
    put_job(workspace, 1, days_ago=40)
    put_job(workspace, 2, State.FAILED, days_ago=31)
    put_job(workspace, 3, State.FAILED, days_ago=1)
    put_job(workspace, 4, State.EARLY_STOPPED, days_ago=0)
    month = timedelta(days=30)
    failed = frozenset({State.FAILED})
    assert chosen(workspace, ALL) == {1, 2, 3, 4}
    assert chosen(workspace, Selection(keep=1)) == {1, 2, 3}
    assert chosen(workspace, Selection(keep=9)) == set()
    assert chosen(workspace, Selection(older_than=month)) == {1, 2}
    assert chosen(workspace, Selection(older_than=timedelta(days=31))) == {1, 2}
    assert chosen(workspace, Selection(older_than=timedelta(days=999_999_999))) == set()
    assert chosen(workspace, Selection(states=failed)) == {2, 3}
    assert chosen(workspace, Selection(states=failed, keep=1)) == {2}
    assert chosen(workspace, Selection(older_than=month, keep=3)) == {1}


def test_the_newest_are_those_that_ended_last(workspace: Workspace) -> None:
    put_job(workspace, 1, days_ago=1)
    put_job(workspace, 2, days_ago=2)
    assert chosen(workspace, Selection(keep=1)) == {2}


@pytest.mark.parametrize("state", sorted(set(State) - FINISHED))
def test_a_job_that_has_not_ended_stays(workspace: Workspace, state: State) -> None:
    put_job(workspace, 1, state, days_ago=90)
    put_job(workspace, 2, days_ago=90)
    before = left(workspace)
    assert chosen(workspace, ALL) == {2}
    remove(workspace)
    assert [name for name in before if job_id(2) not in name] == left(workspace)


def test_a_job_stays_while_a_process_runs_it(workspace: Workspace) -> None:
    run = put_job(workspace, 1)
    plan = plan_prune(workspace, ALL)
    with hold(run.lock):
        before = left(workspace)
        assert plan_prune(workspace, ALL).kept == {run.job_id: "its process still runs"}
        # It started between the look and the removal.
        removed = carry_out(workspace, plan, lambda job_id: None)
        assert (removed.jobs, removed.kept) == ([], {run.job_id: "its process still runs"})
        assert left(workspace) == before
    assert carry_out(workspace, plan, lambda job_id: None).jobs == [run.job_id]


def test_a_job_stays_while_another_needs_it(workspace: Workspace) -> None:
    put_job(workspace, 1)
    put_job(workspace, 2)
    waiting = put_job(workspace, 3, State.WAITING, after=job_id(1))
    plan = plan_prune(workspace, ALL)
    assert [job.id for job in plan.jobs] == [job_id(2)]
    assert plan.kept == {job_id(1): f"{waiting.job_id} needs it"}
    # So it does where the one that needs it is on another machine.
    elsewhere = record_of(workspace, 3, id="20261102-000000-v1-zzzz", after=job_id(2))
    assert chosen(workspace, ALL, elsewhere) == set()
    # Or where the queue has not been told of its end yet.
    late = record_of(workspace, 2, state=State.RUNNING)
    assert chosen(workspace, ALL, late) == set()


def test_the_jobs_and_the_data_of_a_sweep_stay_until_it_has_ended(workspace: Workspace) -> None:
    for number in (1, 2):
        put_job(workspace, number, data="of the sweep" if number == 1 else "of another")
    folder = SweepFolder(sweeps_of(workspace) / "20261101-000000-night-aaaa")
    folder.path.mkdir(parents=True)
    write_trial(folder, Trial(0, {}, state=State.COMPLETED, jobs=[job_id(1)]))
    write_json(folder.spec, {"data": read_spec(workspace.run(job_id(1))).train.path})
    for state in (State.RUNNING, State.PAUSED):
        write_sweep_state(folder, SweepState(state))
        plan = plan_prune(workspace, ALL)
        assert [job.id for job in plan.jobs] == [job_id(2)]
        assert plan.kept == {job_id(1): f"the sweep {folder.id} needs it"}
        assert list(plan.data.values()) == [len("of another")]
    write_sweep_state(folder, SweepState(State.COMPLETED))
    plan = plan_prune(workspace, ALL)
    assert {job.id for job in plan.jobs} == {job_id(1), job_id(2)}
    assert len(plan.data) == 2
    folder.state.write_text("{")
    assert plan_prune(workspace, ALL).kept != {}


def test_a_need_that_came_up_after_the_look_counts(workspace: Workspace) -> None:
    put_job(workspace, 1)
    plan = plan_prune(workspace, ALL)
    put_job(workspace, 2, State.WAITING, after=job_id(1))
    assert carry_out(workspace, plan, lambda job_id: None).jobs == []
    assert job_id(1) in job_ids(workspace)


def test_all_there_is_of_a_job_goes_and_nothing_of_others(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    for number in (1, 2):
        put_adapter(put_job(workspace, number, data=f"data of {number}"))
        broker.store.create_many([record_of(workspace, number)])
        broker.redis.xadd(f"farense:events:{job_id(number)}", {"event": "{}"})
    other = [name for name in left(workspace) if job_id(2) in name]
    plan = plan_prune(workspace, Selection(keep=1), client.jobs())
    removed = client.prune(plan)
    assert (removed.jobs, removed.kept, removed.records_left) == ([job_id(1)], {}, 0)
    assert removed.bytes == plan.bytes
    assert [path.read_text() for path in workspace.imported.iterdir()] == ["data of 2"]
    assert [name for name in left(workspace) if "imported" not in name] == other
    assert [job.id for job in client.jobs(all=True)] == [job_id(2)]
    assert [key for key in broker.redis.keys("*") if job_id(1).encode() in key] == []
    assert broker.store.ids() == [job_id(2)]
    assert len(broker.redis.keys(f"*{job_id(2)}")) == 2


def test_an_adapter_with_links_elsewhere_is_not_changed(workspace: Workspace) -> None:
    old, new = put_job(workspace, 1), put_job(workspace, 2)
    put_adapter(old)
    new.adapters.mkdir()
    shared = new.adapters / "adapters.safetensors"
    os.link(old.adapters / "adapters.safetensors", shared)
    before = shared.read_bytes(), shared.stat().st_ino, shared.stat().st_mtime_ns
    plan = remove(workspace, Selection(keep=1))
    assert (shared.read_bytes(), shared.stat().st_ino, shared.stat().st_mtime_ns) == before
    assert not old.path.exists()
    # Its bytes are not freed, and not said to be.
    assert 2_000 <= plan.bytes < 2_000 + len(before[0]) + 1_000
    assert plan.bytes == plan.jobs[0].bytes


def test_checkpoints_alone_can_go(workspace: Workspace) -> None:
    run = put_job(workspace, 1)
    put_adapter(run)
    (run.path / ".checkpoint_epoch0_step9.tmp").mkdir()
    going = put_job(workspace, 2, State.PAUSED)
    put_adapter(going)
    put_job(workspace, 3)
    before = left(workspace)
    selection = Selection(checkpoints_only=True)
    plan = remove(workspace, selection)
    assert [job.id for job in plan.jobs] == [run.job_id]
    assert plan.bytes == 2_000  # the best adapter in them is the one that stays
    assert plan.data == {}
    expected = [name for name in before if not (run.job_id in name and "checkpoint_epoch" in name)]
    # The lock was taken meanwhile; it stays as an empty file.
    assert left(workspace) == sorted([*expected, str(run.lock.relative_to(workspace.root))])
    assert (run.adapters / "adapters.safetensors").read_bytes() == b"best" * 256
    assert plan_prune(workspace, selection).empty


def test_latest_names_the_newest_job_that_is_left(workspace: Workspace) -> None:
    for number in (1, 2):
        put_job(workspace, number)
    put_job(workspace, 3, State.FAILED)
    point_latest(workspace, 3)
    latest = workspace.runs / "latest"
    remove(workspace, Selection(states=frozenset({State.FAILED})))
    assert latest.readlink().name == job_id(2)
    remove(workspace, Selection(keep=1, states=frozenset({State.COMPLETED})))
    assert latest.readlink().name == job_id(2)
    remove(workspace)
    assert left(workspace) == []


def test_data_stay_while_a_job_names_them(workspace: Workspace) -> None:
    put_job(workspace, 1, State.FAILED, data="of both")
    kept = put_job(workspace, 2, data="of both")
    put_job(workspace, 3, State.FAILED, data="of one")
    (workspace.imported / "notes.txt").write_text("of the user")
    plan = plan_prune(workspace, Selection(states=frozenset({State.FAILED})))
    assert list(plan.data.values()) == [len("of one")]
    removed = carry_out(workspace, plan, lambda job_id: None)
    assert removed.data == list(plan.data)
    found = sorted(path.read_text() for path in workspace.imported.iterdir())
    assert found == ["of both", "of the user"]
    # An order that cannot be read may name any of them.
    kept.job.unlink()
    kept.job.mkdir()
    assert plan_prune(workspace, NONE).data == {}


def test_data_that_a_job_is_about_to_name_stay(workspace: Workspace) -> None:
    put_job(workspace, 1, data="wanted again")
    plan = plan_prune(workspace, ALL)
    assert len(plan.data) == 1
    # Enqueued between the look and the removal.
    put_job(workspace, 2, State.QUEUED, data="wanted again")
    removed = carry_out(workspace, plan, lambda job_id: None)
    assert (removed.jobs, removed.data) == ([job_id(1)], [])
    assert [path.read_text() for path in workspace.imported.iterdir()] == ["wanted again"]


def test_data_are_not_removed_while_others_are_being_frozen(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_job(workspace, 1)
    monkeypatch.setattr("daemon.runs.workspace_locks.DATA_SECONDS", 0.05)
    with freezing(workspace), pytest.raises(WorkspaceError, match="is held by another process"):
        remove(workspace)
    assert len(list(workspace.imported.iterdir())) == 1
    remove(workspace)
    assert left(workspace) == []


def test_a_run_directory_that_is_a_link_stays(workspace: Workspace) -> None:
    run = put_job(workspace, 1)
    elsewhere = workspace.root / "elsewhere"
    run.path.rename(elsewhere)
    run.path.symlink_to(elsewhere)
    plan = plan_prune(workspace, ALL)
    assert (plan.jobs, list(plan.kept)) == ([], [job_id(1)])

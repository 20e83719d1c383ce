"""Removing jobs while something goes wrong: crashes in the middle, Redis away, two at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from daemon.client import FarenseClient
from daemon.lifecycle.claims import Claims
from daemon.lifecycle.transitions import Lifecycle
from daemon.prune.plan import Selection, plan_prune
from daemon.prune.removal import carry_out
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.recovery.recovery import Recovery
from daemon.runs.files import job_ids
from daemon.settings import Settings
from jobs.config.config import Preset
from jobs.errors import WorkspaceError
from jobs.paths import Workspace
from jobs.state import State
from tests.helpers.ended import job_id, left, point_latest, put_adapter, put_job, record_of
from tests.helpers.jobs import ended
from tests.helpers.servers import Daemons

ALL = Selection(keep=0)
NONE = Selection(keep=1_000)


@pytest.fixture
def broker(workspace: Workspace, server: EmbeddedServer) -> Iterator[Broker]:
    broker = Broker(workspace, Settings())
    yield broker
    broker.close()


class Killed(BaseException):
    """The process is gone: nothing after it is done."""


def killed_before(
    monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], object]
) -> bool:
    """Run ``action`` until it has changed ``number`` names on the disk; tell whether it ended."""
    count = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count > number:
                raise Killed
            return change(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "unlink", "rmdir", "symlink"):
            patch.setattr(os, name, counted(getattr(os, name)))
        with suppress(Killed):
            action()
            return True
    return False


@pytest.mark.parametrize("checkpoints_only", [False, True])
def test_a_crash_anywhere_leaves_whole_jobs_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints_only: bool
) -> None:
    selection = replace(ALL, checkpoints_only=checkpoints_only)
    points, ended = 0, False
    while not ended:
        workspace = Workspace(tmp_path / str(points))
        run = put_job(workspace, 1)
        put_adapter(run)
        point_latest(workspace, 1)
        whole = set(run.path.iterdir())
        plan = plan_prune(workspace, selection)
        forgotten: list[str] = []
        ended = killed_before(
            monkeypatch,
            points,
            lambda workspace=workspace, plan=plan, forgotten=forgotten: carry_out(  # type: ignore[misc]
                workspace, plan, forgotten.append
            ),
        )
        if not checkpoints_only:
            assert not run.path.exists() or whole <= set(run.path.iterdir())
        # The next prune, of whatever it may be, removes what is left over ...
        carry_out(workspace, plan_prune(workspace, NONE), forgotten.append)
        assert not [name for name in left(workspace) if ".pruned" in name]
        # ... and the same one leaves what it would have left without the crash.
        carry_out(workspace, plan_prune(workspace, selection), forgotten.append)
        if checkpoints_only:
            assert not [name for name in left(workspace) if "checkpoint_epoch" in name]
            assert job_ids(workspace) == [job_id(1)]
        else:
            assert left(workspace) == []
            assert set(forgotten) == {job_id(1)}
        points += 1
    assert points > 6


def test_without_redis_the_files_go_and_the_record_follows(
    workspace: Workspace, server: EmbeddedServer, broker: Broker
) -> None:
    put_job(workspace, 1)
    # The record never learned of the end, and a message still points to the job.
    broker.store.create_many([record_of(workspace, 1, state=State.QUEUED, attempt=0)])
    broker.queue().push(job_id(1))
    removed = carry_out(workspace, plan_prune(workspace, ALL), None)
    assert (removed.jobs, removed.records_left) == ([job_id(1)], 1)
    assert job_ids(workspace) == []
    assert list(workspace.imported.iterdir()) == []
    # Redis is back: the record does not make a job of it again.
    assert Recovery(Lifecycle(workspace, broker), Settings()).run()
    assert Claims(Lifecycle(workspace, broker)).claim(job_id(1), "worker") is None
    assert job_ids(workspace) == []
    with FarenseClient.connect(workspace) as client:
        removed = client.prune(plan_prune(workspace, NONE, client.jobs()))
        assert (removed.jobs, removed.records_left) == ([], 0)
        assert client.jobs(all=True) == []
    assert left(workspace) == []


def test_a_daemon_goes_on_after_a_prune(
    preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    first = client.enqueue(preset)
    daemons.start()
    ended(client, first.id)
    second = client.enqueue(preset)
    plan = plan_prune(client.workspace, Selection(keep=1), client.jobs())
    ended(client, second.id)
    assert plan.empty  # of the two, one had not ended then
    plan = plan_prune(client.workspace, Selection(keep=1), client.jobs())
    assert client.prune(plan).jobs == [first.id]
    third = client.enqueue(preset)  # on data that was frozen for the first
    assert ended(client, third.id).state is State.COMPLETED
    assert [job.id for job in client.jobs(all=True)] == [third.id, second.id]


def test_redis_that_goes_away_in_the_middle_is_asked_once(workspace: Workspace) -> None:
    for number in (1, 2):
        put_job(workspace, number)
    asked: list[str] = []

    def away(job_id: str) -> None:
        asked.append(job_id)
        raise RedisConnectionError("gone")

    removed = carry_out(workspace, plan_prune(workspace, ALL), away)
    assert (len(removed.jobs), removed.records_left, len(asked)) == (2, 2, 1)


def test_a_run_directory_that_was_put_back_keeps_its_record(workspace: Workspace) -> None:
    put_job(workspace, 1)
    carry_out(workspace, plan_prune(workspace, ALL), None)
    put_job(workspace, 1)
    forgotten: list[str] = []
    carry_out(workspace, plan_prune(workspace, NONE), forgotten.append)
    assert forgotten == []
    assert job_ids(workspace) == [job_id(1)]
    assert workspace.job_log(job_id(1)).exists()
    assert not list(workspace.runs.glob(".pruned*"))


def test_two_prunes_do_not_meet(workspace: Workspace) -> None:
    put_job(workspace, 1)
    plan = plan_prune(workspace, ALL)

    def again(job_id: str) -> None:
        with pytest.raises(WorkspaceError, match="Another prune"):
            carry_out(workspace, plan, None)

    assert carry_out(workspace, plan, again).jobs == [job_id(1)]

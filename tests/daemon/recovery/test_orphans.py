"""A child whose daemon was killed, and that does not end by itself: the next daemon sees to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from daemon.client import FarenseClient
from daemon.queue.embedded_server import EmbeddedServer
from daemon.recovery.orphans import Orphans
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State, now, read_state, write_state
from jobs.storage.files import whole_lines
from jobs.storage.locks import Holder, holder, is_held
from tests.helpers.jobs import ended, running
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

HOLD = """
import sys, time
from pathlib import Path
from jobs.storage.locks import hold
with hold(Path(sys.argv[1]), by_hand=sys.argv[2] == "by hand"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(lock: Path, how: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds a lock."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, lock, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def left_behind(client: FarenseClient, daemons: Daemons, preset: Preset) -> tuple[str, int]:
    """Return a running job whose child hangs and whose daemon is gone, and the child's pid."""
    daemon = daemons.start("endless")
    job_id = client.enqueue(preset).id
    pid = running(client, job_id).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    daemon.kill()
    daemon.wait()
    return job_id, pid


def test_a_hung_child_of_a_killed_daemon_is_killed_and_its_job_goes_on(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    job_id, _ = left_behind(client, daemons, preset)
    daemons.start("good", grace_seconds=0.5)
    record = ended(client, job_id)
    assert (record.state, record.attempt) == (State.COMPLETED, 2)
    said = [json.loads(line)["event"] for line in whole_lines(workspace.daemon_log)]
    assert [event for event in said if event in ("waiting_for_run_lock", "orphan_killed")] == [
        "waiting_for_run_lock",
        "orphan_killed",
    ]


def test_a_forced_cancel_kills_the_hung_child_of_a_killed_daemon(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    job_id, _ = left_behind(client, daemons, preset)
    daemons.start("good")
    assert client.job(job_id).state is State.RUNNING
    client.cancel(job_id, force=True)
    assert ended(client, job_id).state is State.CANCELLED
    assert not is_held(workspace.run(job_id).lock)


def test_a_second_message_about_its_job_keeps_the_daemon_from_nothing(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    job_id, _ = left_behind(client, daemons, preset)
    other = client.enqueue(preset, after=job_id, after_any=True)
    client._broker.queue().push(job_id, 9)
    daemons.start("good")
    client.cancel(job_id, force=True)
    assert ended(client, job_id).state is State.CANCELLED
    assert ended(client, other.id).state is State.COMPLETED


def test_a_job_whose_daemon_was_killed_is_in_the_list_when_redis_was_wiped_too(
    client: FarenseClient, daemons: Daemons, preset: Preset, server: EmbeddedServer
) -> None:
    job_id, pid = left_behind(client, daemons, preset)
    client._broker.redis.flushall()
    daemons.start("good")
    wait_until(lambda: [job.id for job in client.jobs()] == [job_id], "the record")
    assert client.job(job_id).state is State.RUNNING
    os.kill(pid, signal.SIGCONT)
    assert ended(client, job_id).state is State.COMPLETED


def test_what_a_person_started_by_hand_is_killed_only_where_a_person_wants_it(
    tmp_path: Path,
) -> None:
    lock, orphans = tmp_path / "run.lock", Orphans(grace_seconds=0)
    with holding(lock, "by hand") as process:
        assert holder(lock) == Holder(process.pid, by_hand=True)
        for _ in range(3):
            orphans.look("a", lock)
        assert process.poll() is None
        orphans.look("a", lock, kill=True)
        assert process.wait(10) == -signal.SIGKILL


def test_a_daemons_child_is_killed_at_the_second_look(tmp_path: Path) -> None:
    lock, orphans = tmp_path / "run.lock", Orphans(grace_seconds=0)
    with holding(lock) as process:
        orphans.look("a", lock, kill=True)
        assert process.poll() is None
        orphans.look("a", lock)
        assert process.wait(10) == -signal.SIGKILL


def test_a_pid_that_a_holder_left_behind_is_nobodys(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with holding(lock) as process:
        process.kill()
        process.wait()
        assert str(process.pid) in lock.read_text()
        assert holder(lock) is None
        # The next one has the lock, and what stands there is of a process without it.
        with holding(lock) as other, holding(tmp_path / "another.lock") as stranger:
            lock.write_text(f"{stranger.pid}\n")
            assert holder(lock) is None
            lock.write_text(f"{other.pid}\n")
            assert holder(lock) == Holder(other.pid, by_hand=False)


def run_by_hand(workspace: Workspace, job_id: str) -> None:
    """Let ``state.json`` say what a child writes that somebody starts by hand."""
    state = read_state(workspace.run(job_id))
    begun = replace(state, state=State.RUNNING, attempt=state.attempt + 1, updated_at=now())
    write_state(workspace.run(job_id), begun.begun())


def test_a_run_that_was_started_by_hand_does_not_hold_up_the_queue(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    first, second = client.enqueue(preset), client.enqueue(preset)
    with holding(workspace.run(first.id).lock, "by hand"):
        run_by_hand(workspace, first.id)
        daemons.start("good", reconcile_seconds=0.3)
        assert ended(client, second.id).state is State.COMPLETED
        state = read_state(workspace.run(first.id))
        assert (state.state, state.attempt) == (State.RUNNING, 1)
    # Its process is gone: the daemon goes on with it.
    record = ended(client, first.id)
    assert (record.state, record.attempt) == (State.COMPLETED, 2)


def test_a_forced_cancel_reaches_a_run_that_was_started_by_hand(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    job = client.enqueue(preset)
    with holding(workspace.run(job.id).lock, "by hand") as process:
        run_by_hand(workspace, job.id)
        asked = client.cancel(job.id, force=True)
        assert (asked.state, asked.kill_requested) == (State.RUNNING, True)
        daemons.start("good", reconcile_seconds=0.3)
        assert process.wait(20) == -signal.SIGKILL
        assert ended(client, job.id).state is State.CANCELLED

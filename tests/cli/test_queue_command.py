"""`farense queue`: what a person types and sees."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.runs.files import job_ids, record_from_files
from daemon.settings import Settings
from daemon.store.workers import WorkerCard, why_nothing_starts
from jobs.paths import Workspace
from jobs.state import State, read_state
from jobs.storage.formatting import local_exact
from tests.cli.conftest import Run
from tests.helpers.ended import job_id, put_job

NIGHT = "2026-11-24T23:00:00+00:00"


@pytest.fixture
def waiting(workspace: Workspace) -> Workspace:
    """Jobs that wait, each for something else, in the files alone."""
    put_job(workspace, 1, attempt=0)
    put_job(workspace, 2, State.QUEUED, attempt=0)
    put_job(workspace, 3, State.QUEUED, attempt=0, priority=2, reason="it\x1b[31m's its turn")
    put_job(workspace, 4, State.SCHEDULED, attempt=0, schedule=NIGHT)
    put_job(workspace, 5, State.WAITING, attempt=0, after=job_id(3))
    put_job(workspace, 6, State.PAUSED, reason="paused by the user")
    return workspace


@pytest.fixture
def queued(waiting: Workspace, server: EmbeddedServer) -> Workspace:
    """The same, and in Redis."""
    broker = Broker(waiting, Settings())
    for job in sorted(job_ids(waiting)):
        record = record_from_files(waiting, job)
        assert record is not None
        broker.store.create_many([record])
        if record.state is State.QUEUED:
            broker.queue().push(record.id, record.priority)
    broker.close()
    return waiting


def rows(out: str) -> list[list[str]]:
    """Return the cells of each line."""
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()
    ]


def test_what_waits_is_shown_in_its_order(invoke: Run, queued: Workspace) -> None:
    done = invoke("queue")
    assert (done.code, done.err) == (
        0, "No daemon works on this queue. Start one: farense daemon\n"
    )  # fmt: skip
    night = f"{datetime.fromisoformat(NIGHT).astimezone():%Y-%m-%d %H:%M}"
    assert rows(done.out) == [
        ["#", "JOB", "PRESET", "STATE", "PRIORITY", "STARTS", "REASON"],
        ["1", job_id(3), "v2", "queued", "2", "-", "it?[31m's its turn"],
        ["2", job_id(2), "v2", "queued", "0", "-", "-"],
        ["-", job_id(4), "v2", "scheduled", "0", night, f"starts at {local_exact(NIGHT)}"],
        ["-", job_id(5), "v2", "waiting", "0", f"after {job_id(3)}", "-"],
        [
            "-",
            job_id(6),
            "v2",
            "paused",
            "0",
            "-",
            f"paused at step 0: `farense resume {job_id(6)}` goes on from there",
        ],
    ]
    listed = json.loads(invoke("queue", "--json").out)
    assert [(job["position"], job["id"]) for job in listed] == [
        (1, job_id(3)), (2, job_id(2)), (None, job_id(4)), (None, job_id(5)), (None, job_id(6))
    ]  # fmt: skip
    assert (listed[2]["schedule"], listed[3]["after"]) == (NIGHT, job_id(3))


def test_it_says_why_nothing_starts() -> None:
    def card(held: str | None, queue: str = "default", *, alive: bool = True) -> WorkerCard:
        return WorkerCard("mac:7", "/farense", queue, None, held, 30.0, 1.0, alive)

    window = "outside the window 22:00-07:00"
    assert why_nothing_starts([card(window)], "default") == [
        f"The daemon mac:7 starts nothing: {window}."
    ]
    assert why_nothing_starts([card(window), card(None)], "default") == []
    for others in ([card(None, alive=False)], [card(None, "night")]):
        assert why_nothing_starts(others, "default")[0].endswith("farense daemon")
    assert why_nothing_starts([], "night")[0].endswith("farense daemon --queue night")


def test_a_narrow_terminal_cuts_the_reason(invoke: Run, queued: Workspace) -> None:
    lines = invoke("queue", COLUMNS="50").out.splitlines()
    assert max(map(len, lines)) == 50
    assert all(job_id(number) in "\n".join(lines) for number in range(2, 7))


def test_without_redis_the_files_tell(invoke: Run, waiting: Workspace) -> None:
    done = invoke("queue", "--json")
    assert done.code == 0
    assert "Read from the run directories" in done.err
    numbers = [int(job["id"][9:15]) for job in json.loads(done.out)]
    assert numbers == [3, 2, 4, 5, 6]
    assert not waiting.private.exists()  # no server was started for it


def test_an_empty_queue_says_so(invoke: Run, workspace: Workspace, server: EmbeddedServer) -> None:
    done = invoke("queue")
    assert (done.code, done.out, done.err) == (
        0, "", "Nothing waits. Queue a job: farense enqueue v2\n"
    )  # fmt: skip
    assert json.loads(invoke("queue", "--json").out) == []


def test_a_job_is_moved(invoke: Run, queued: Workspace) -> None:
    done = invoke("queue", "move", job_id(2), "--priority", "5")
    assert done.code == 0
    assert done.out == f"{job_id(2)} has priority 5 now and is number 1 of 2 in the queue.\n"
    assert read_state(queued.run(job_id(2))).priority == 5
    top = json.loads(invoke("queue", "top", "000003", "--json").out)
    assert (top["id"], top["priority"], top["position"]) == (job_id(3), 6, 1)
    assert [row[1] for row in rows(invoke("queue").out)[1:3]] == [job_id(3), job_id(2)]
    done = invoke("queue", "top", job_id(6))
    assert done.out == f"{job_id(6)} has priority 7 now and is paused.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["move", job_id(2)], "--priority"),
        (["move", job_id(2), "--priority", "99999999999999999999"], "99999999999999999999"),
        (["move", "nothing", "--priority", "1"], "There is no job 'nothing'"),
        (["top", job_id(1)], "has ended (completed)"),
    ],
)
def test_what_cannot_be_moved_is_refused(
    invoke: Run, queued: Workspace, arguments: list[str], said: str
) -> None:
    done = invoke("queue", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert [job["id"] for job in json.loads(invoke("queue", "--json").out)][:2] == [
        job_id(3), job_id(2)
    ]  # fmt: skip


def test_what_could_not_be_read_is_shown_and_forgotten(invoke: Run, queued: Workspace) -> None:
    assert invoke("queue", "dead").err == "Nothing was set aside.\n"
    broker = Broker(queued, Settings())
    broker.store.set_aside("message", b"\x80\x04\x1b[31m", "no JSON\x1b[31m")
    broker.close()
    done = invoke("queue", "dead")
    assert done.code == 0
    first, second = done.out.splitlines()
    assert first.endswith("message, 7 bytes: no JSON?[31m")
    assert second == r"  \x80\x04\x1b[31m"
    (letter,) = json.loads(invoke("queue", "dead", "--clear", "--json").out)
    assert (letter["what"], letter["size"]) == ("message", 7)
    assert json.loads(invoke("queue", "dead", "--json").out) == []


def test_json_is_asked_of_the_command_that_answers(invoke: Run, queued: Workspace) -> None:
    done = invoke("queue", "--json", "top", "latest")
    assert (done.code, done.out) == (2, "")
    assert "Put --json after top" in done.err


def test_what_was_set_aside_is_in_redis_alone(invoke: Run, waiting: Workspace) -> None:
    done = invoke("queue", "dead")
    assert done.code == 3
    assert not (waiting.private / "valkey.sock").exists()

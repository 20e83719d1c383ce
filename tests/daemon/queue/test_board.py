"""A page of the jobs: the same whether few or very many wait, in Redis and in the files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.client import FarenseClient
from daemon.queue import board as module
from daemon.queue.board import Board, Span, board_of_records
from daemon.store.records import JobRecord
from jobs.config.config import Preset
from jobs.state import State

PAGE, FIRST = Span(0, 3), Span(0, 100)


@pytest.fixture
def queued(client: FarenseClient, preset: Preset) -> list[JobRecord]:
    """Eight jobs: the last one of a higher priority, one paused, two cancelled, five queued."""
    jobs = client.enqueue_many([preset] * 7)
    jobs.append(client.enqueue(preset, priority=9))
    client.pause(jobs[1].id)
    for job in jobs[2:4]:
        client.cancel(job.id)
    return jobs


def ids(found: Board) -> dict[str, list[str]]:
    return {
        "queued": [job.record.id for job in found.queued],
        "later": [job.record.id for job in found.later],
        "ended": [record.id for record in found.ended],
    }


def test_jobs_stand_where_they_belong(client: FarenseClient, queued: list[JobRecord]) -> None:
    found = client.board(FIRST, FIRST)
    order = [queued[place].id for place in (7, 0, 4, 5, 6)]
    assert ids(found)["queued"] == order
    assert [job.position for job in found.queued] == [1, 2, 3, 4, 5]
    assert ids(found)["later"] == [queued[1].id]
    assert set(ids(found)["ended"]) == {queued[2].id, queued[3].id}
    assert (found.queued_count, found.later_count, found.ended_count) == (5, 1, 2)


def test_a_part_of_very_many_is_the_part_of_few(
    client: FarenseClient, queued: list[JobRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [client.board(Span(first, 2), PAGE) for first in (0, 2, 4)]
    monkeypatch.setattr(module, "FEW", 0)
    many = [client.board(Span(first, 2), PAGE) for first in (0, 2, 4)]
    assert few == many
    assert [len(found.queued) for found in many] == [2, 2, 1]


def test_ended_jobs_come_in_parts(client: FarenseClient, queued: list[JobRecord]) -> None:
    both = ids(client.board(FIRST, FIRST))["ended"]
    parts = [ids(client.board(FIRST, Span(first, 1)))["ended"] for first in (0, 1, 2)]
    assert parts == [both[:1], both[1:], []]


def test_files_tell_the_same(client: FarenseClient, queued: list[JobRecord]) -> None:
    records = client.jobs(all=True)
    told = client.board(FIRST, FIRST)
    assert ids(board_of_records(records, FIRST, FIRST)) == ids(told)
    running = replace(records[0], state=State.RUNNING)
    assert board_of_records([running, *records[1:]], FIRST, FIRST).running == [running]

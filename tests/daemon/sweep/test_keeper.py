"""A daemon's part in sweeps: one coordinator for each that is under way, and not too often anew."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from daemon.settings import Settings
from daemon.sweep.keeper import SweepKeeper
from jobs.paths import Workspace
from jobs.state import State
from jobs.sweep.folder import SweepState, write_sweep_state
from jobs.sweep.paths import SweepFolder, sweeps_of
from tests.helpers.waiting import wait_until


class Kept:
    """A keeper, its clock in the hand of the test."""

    def __init__(self, workspace: Workspace) -> None:
        self.now = 0.0
        self.keeper = SweepKeeper(workspace, Settings(), lambda: self.now)

    def look(self, seconds: float = 2.0) -> list[str]:
        """Let time pass, and return the sweeps that have a coordinator now."""
        self.now += seconds
        self.keeper.tick()
        return sorted(self.keeper.sweeps)

    def await_death(self, sweep: str) -> None:
        wait_until(lambda: not self.keeper.is_alive(sweep), "the coordinator's end")


@pytest.fixture
def kept(workspace: Workspace) -> Iterator[Kept]:
    found = Kept(workspace)
    yield found
    found.keeper.close()


def sweep(workspace: Workspace, letters: str, state: State = State.RUNNING) -> SweepFolder:
    """Make a sweep that nobody can coordinate: it does not say what is to be done."""
    folder = SweepFolder(sweeps_of(workspace) / f"20260101-000000-night-{letters}")
    folder.path.mkdir(parents=True)
    write_sweep_state(folder, SweepState(state))
    return folder


def test_only_what_is_under_way_gets_a_coordinator(workspace: Workspace, kept: Kept) -> None:
    assert kept.look() == []
    running = sweep(workspace, "aaaa")
    sweep(workspace, "bbbb", State.PAUSED)
    sweep(workspace, "cccc", State.COMPLETED)
    (sweeps_of(workspace) / "20260101-000000-night-dddd").mkdir()
    (sweeps_of(workspace) / "notes").mkdir()
    assert kept.look(0.1) == []
    assert kept.look() == [running.id]
    assert kept.look() == [running.id]


def test_one_whose_state_is_lost_gets_a_coordinator_unless_it_was_only_just_ordered(
    workspace: Workspace, kept: Kept
) -> None:
    found = sweep(workspace, "aaaa")
    found.state.unlink()
    found.spec.write_text("{}")
    assert kept.look() == []
    os.utime(found.spec, (0, 0))
    assert kept.look() == [found.id]


def test_one_that_cannot_work_is_tried_again_less_and_less_often(
    workspace: Workspace, kept: Kept
) -> None:
    found = sweep(workspace, "aaaa")
    for delay in (1.0, 2.0):
        assert kept.look(60) == [found.id]
        kept.await_death(found.id)
        assert kept.look(1.5) == []
        if delay > 1.0:
            assert kept.look(1.5) == []
    assert "sweep.json is missing or damaged" in found.stderr.read_text()


def test_coordinators_end_with_their_daemon(workspace: Workspace, kept: Kept) -> None:
    found = sweep(workspace, "aaaa")
    assert kept.look() == [found.id]
    pid = kept.keeper.sweeps[found.id]
    kept.keeper.close()
    assert kept.keeper.sweeps == {}
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

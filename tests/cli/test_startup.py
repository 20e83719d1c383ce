"""What the commands that people type all day cost: imports and time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.broker import Broker
from daemon.client import FarenseClient
from daemon.settings import Settings
from jobs.config import Preset
from jobs.paths import Workspace
from tests.cli.conftest import FARENSE, environment

HELP_SECONDS = 0.15
STATUS_SECONDS_ABOVE_IMPORTS = 0.25
TRIES = 20

HEAVY = {
    *("huey", "pydantic", "structlog", "rich", "yaml", "numpy", "mlx", "mlx_lm", "transformers"),
    *("matplotlib", "optuna", "huggingface_hub"),
}


def loaded_by(workspace: Workspace, *arguments: str) -> set[str]:
    """Return the packages that a command loads."""
    program = (
        "import sys\n"
        "from cli.main import farense\n"
        f"farense.main({list(arguments)!r}, standalone_mode=False)\n"
        "sys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(workspace.root),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


def seconds(command: list[str | Path], workspace: Workspace) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=environment(workspace.root), capture_output=True, check=True)
    return time.perf_counter() - started


def quickest(measure: Callable[[], float], limit: float) -> float:
    """Return the least of some measurements: what else this machine does only adds to them."""
    best = measure()
    for _ in range(TRIES):
        if best < limit:
            break
        best = min(best, measure())
    return best


@pytest.fixture
def many_jobs(preset: Preset, client: FarenseClient) -> Workspace:
    """A workspace with 1,000 jobs in its queue's store."""
    record = client.enqueue(preset)
    store = Broker(client.workspace, Settings()).store
    for number in range(999):
        letters = "".join(chr(ord("a") + number // 26**place % 26) for place in (3, 2, 1, 0))
        store.create(replace(record, id=f"20251122-220104-tiny-{letters}"))
    return client.workspace


def test_help_loads_click_alone(workspace: Workspace) -> None:
    loaded = loaded_by(workspace, "--help")
    assert "click" in loaded
    assert not loaded & (HEAVY | {"redis", "orjson", "daemon"})


def test_status_loads_redis_and_nothing_heavy(workspace: Workspace, client: FarenseClient) -> None:
    for arguments in (["status"], ["status", "--json"], ["status", "--all"]):
        loaded = loaded_by(workspace, *arguments)
        assert "redis" in loaded
        assert not loaded & HEAVY


def test_help_is_there_at_once(workspace: Workspace) -> None:
    command: list[str | Path] = [FARENSE, "--help"]
    assert quickest(lambda: seconds(command, workspace), HELP_SECONDS) < HELP_SECONDS


def test_status_of_1000_jobs_is_there_at_once(many_jobs: Workspace) -> None:
    assert len(FarenseClient.connect(many_jobs).jobs(all=True)) == 1000

    def above_imports() -> float:
        bare = seconds([sys.executable, "-c", "import click, redis"], many_jobs)
        return seconds([FARENSE, "status"], many_jobs) - bare

    best = quickest(above_imports, STATUS_SECONDS_ABOVE_IMPORTS)
    assert best < STATUS_SECONDS_ABOVE_IMPORTS

